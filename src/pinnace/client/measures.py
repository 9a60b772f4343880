"""What the clients of one process count: their requests, their work queues, which leases they hold.

Names, labels and bounds are those of Kubernetes' servers, where these families are the process's, too:
https://kubernetes.io/docs/reference/instrumentation/metrics/. A queue keeps its own figures, which are looked up here.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from weakref import WeakSet

from pinnace.machinery.metrics import Collected, Counter, Family, Gauge, Histogram, Sample, spread

LOST = "<error>"  # the code of a request that was not answered

_QUEUE_SECONDS = tuple(10.0**power for power in range(-8, 4))
_REQUEST_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)

REQUESTS = Counter(
    "rest_client_requests_total",
    "Number of HTTP requests, partitioned by status code, method, and host.",
    ("code", "host", "method"),
)
REQUEST_SECONDS = Histogram(
    "rest_client_request_duration_seconds",
    "Request latency in seconds. Broken down by verb, and host.",
    ("host", "verb"),
    _REQUEST_SECONDS,
)
LEADING = Gauge(
    "leader_election_master_status",
    "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 indicates master. 'name' "
    "is the string used to identify the lease. Please make sure to group by name.",
    ("name",),
)


class QueueMeasures:
    """Of one work queue. Moments are `time.perf_counter()`'s."""

    def __init__(self, name: str, depth: Callable[[], int]) -> None:
        """A queue without a name is nobody's business."""
        self.name = name
        self.depth = depth
        self.adds = self.retries = 0
        self.waiting: dict[str, float] = {}  # since when
        self.working: dict[str, float] = {}
        self.waited = [0.0] * (len(_QUEUE_SECONDS) + 2)  # the sum, then how many fell between two bounds
        self.worked = [0.0] * (len(_QUEUE_SECONDS) + 2)
        if name:
            _queues.add(self)

    def added(self, key: str) -> None:
        self.adds += 1
        self.waiting.setdefault(key, time.perf_counter())

    def taken(self, key: str) -> None:
        now = self.working[key] = time.perf_counter()
        _note(self.waited, now - self.waiting.pop(key, now))

    def done(self, key: str) -> None:
        since = self.working.pop(key, None)
        if since is not None:
            _note(self.worked, time.perf_counter() - since)

    def unfinished(self) -> list[float]:
        """Seconds that each key has been worked on."""
        now = time.perf_counter()
        return [now - since for since in self.working.values()]


_queues: WeakSet[QueueMeasures] = WeakSet()


_included: list[Family] = []


def include(family: Family) -> None:
    """Tell of what another module keeps, too; to be called when it is imported."""
    _included.append(family)


def families() -> list[Family]:
    """All of this process."""

    def of(kind: str, name: str, about: str, figure: Callable[[QueueMeasures], float]) -> Family:
        def collect() -> Iterable[tuple[tuple[str, ...], float]]:
            return sorted(((one.name,), figure(one)) for one in _queues)

        return Collected(kind, f"workqueue_{name}", about, ("name",), collect)

    return [
        REQUESTS,
        REQUEST_SECONDS,
        LEADING,
        of("gauge", "depth", "Current depth of workqueue", lambda one: one.depth()),
        of("counter", "adds_total", "Total number of adds handled by workqueue", lambda one: one.adds),
        of("counter", "retries_total", "Total number of retries handled by workqueue", lambda one: one.retries),
        of(
            "gauge",
            "unfinished_work_seconds",
            "How many seconds of work has done that is in progress and hasn't been observed by work_duration. Large "
            "values indicate stuck threads. One can deduce the number of stuck threads by observing the rate at which "
            "this increases.",
            lambda one: sum(one.unfinished()),
        ),
        of(
            "gauge",
            "longest_running_processor_seconds",
            "How many seconds has the longest running processor for workqueue been running.",
            lambda one: max(one.unfinished(), default=0.0),
        ),
        _Durations(
            "workqueue_queue_duration_seconds",
            "How long in seconds an item stays in workqueue before being requested.",
            lambda one: one.waited,
        ),
        _Durations(
            "workqueue_work_duration_seconds",
            "How long in seconds processing an item from workqueue takes.",
            lambda one: one.worked,
        ),
        *_included,
    ]


class _Durations(Family):
    kind = "histogram"

    def __init__(self, name: str, about: str, found: Callable[[QueueMeasures], list[float]]) -> None:
        super().__init__(name, about, ("name",))
        self._found = found

    def samples(self) -> Iterable[Sample]:
        for one in sorted(_queues, key=lambda each: each.name):
            yield from spread(self.named((one.name,)), _QUEUE_SECONDS, self._found(one))


def _note(found: list[float], seconds: float) -> None:
    found[0] += seconds
    found[1 + bisect_left(_QUEUE_SECONDS, seconds)] += 1
