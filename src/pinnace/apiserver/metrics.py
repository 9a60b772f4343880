"""/metrics: what the server counts, in the Prometheus text format.

A request costs one dictionary look-up: how often, how long and how much of it lies in one record, out of which the
families are made when somebody asks. Names, labels and bounds are kube-apiserver's
(https://kubernetes.io/docs/reference/instrumentation/metrics/).
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any

from pinnace.apiserver import storage_measures
from pinnace.apiserver.deadline import is_long_running
from pinnace.apiserver.exchange import Exchange
from pinnace.apiserver.storage import Storage
from pinnace.machinery.meta import GVR
from pinnace.machinery.metrics import Family, Labels, Sample, spread, text
from pinnace.wire.http import AnyResponse, Response

SECONDS = (
    *(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0),
    *(3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0),
)
_FINE = 2  # of those bounds lie below the least that service levels look at
BYTES = tuple(1000.0 * 10**power for power in range(7))
MOST = 10_000  # kinds of requests that are told apart
LONGEST_PATH = 1024  # characters of the path of such a one
_READS = ("GET", "LIST")

_Key = tuple[str, str, str, str, str, str, int, bool]


class _Record:
    """All requests of one kind that were answered alike."""

    __slots__ = ("aborted", "bytes", "count", "running", "seconds", "terminated", "unwaited")

    def __init__(self) -> None:
        self.count = 0
        self.running = 0  # streams and sessions that have not ended
        self.aborted = 0  # such that broke off
        self.terminated = 0
        self.seconds = [0.0] * (len(SECONDS) + 2)  # the sum, then how many fell between two bounds
        self.unwaited: list[float] | None = None  # what `seconds` changes by without what requests have waited
        self.bytes = [0.0] * (len(BYTES) + 2)

    def leave_out(self, took: float, waited: float) -> None:
        """Of the time that a request took, which is counted, it has waited so long."""
        if self.unwaited is None:
            self.unwaited = [0.0] * len(self.seconds)
        self.unwaited[0] -= waited
        self.unwaited[1 + bisect_left(SECONDS, took)] -= 1
        self.unwaited[1 + bisect_left(SECONDS, max(took - waited, 0.0))] += 1

    async def following(self, run: Callable[[Any], Awaitable[None]], outlet: Any) -> None:
        """A stream or a session."""
        self.running += 1
        try:
            await run(outlet)
        except Exception:
            self.aborted += 1
            raise
        finally:
            self.running -= 1


class Metrics:
    """What the request path tells; `families` is what other parts of the server add."""

    def __init__(
        self, storage: Storage, process: Iterable[Family], deprecated: Callable[[GVR], bool] = lambda _: False
    ) -> None:
        """`process` is what the process tells of itself, `deprecated` whether clients are warned of a resource."""
        self._is_deprecated = deprecated
        self._storage = storage
        self._requests: dict[_Key, _Record] = {}
        self.families: list[Family] = [*process, *storage_measures.families(storage)]

    def answered(self, exchange: Exchange, response: AnyResponse) -> None:
        """Count a request that is answered; of a watch or a stream, that it began."""
        info = exchange.info
        # What `info.scope` says, without the call.
        scope = "resource" if info.name else "namespace" if info.namespace else "cluster" if info.is_resource else ""
        key = (
            *(info.verb, info.group, info.version, info.resource, info.subresource, scope, response.status),
            "dryRun=" in exchange.request.query,
        )
        record = self._requests.get(key)
        if record is None:
            if len(self._requests) >= MOST or len(info.path) > LONGEST_PATH:  # paths are the client's choice
                key = ("", "", "", "", "", "", response.status, False)
            record = self._requests.setdefault(key, _Record())
        record.count += 1
        if exchange.terminated:
            record.terminated += 1
        if isinstance(response, Response):
            took = time.perf_counter() - exchange.began
            seconds = record.seconds
            seconds[0] += took
            seconds[1 if took <= 0.005 else 1 + bisect_left(SECONDS, took)] += 1
            call = exchange.call
            if call is not None and call.waited:
                record.leave_out(took, call.waited)
            size = len(response.body)
            record.bytes[0] += size
            record.bytes[1 if size <= 1000 else 1 + bisect_left(BYTES, size)] += 1
        elif is_long_running(info):
            response.run = partial(record.following, response.run)

    def text(self) -> bytes:
        mine = (_Total, _Durations, _Waitless, _Sizes, _LongRunning, _Terminations, _Aborts)
        deprecated = _Deprecated(self._requests, self._is_deprecated)
        return text([*(family(self._requests) for family in mine), deprecated, *self.families]).encode()


class _OfRequests(Family):
    def __init__(self, requests: dict[_Key, _Record]) -> None:
        self._requests = requests

    def _labelled(self) -> Iterator[tuple[dict[str, str], _Record]]:
        for key, record in self._requests.items():
            verb, group, version, resource, subresource, scope, code, dry = key
            labels = {
                "code": str(code),
                "component": "apiserver",
                "dry_run": "All" if dry else "",
                "group": group,
                "resource": resource,
                "scope": scope,
                "subresource": subresource,
                "verb": "APPLY" if verb == "apply" else verb.upper(),
                "version": version,
            }
            yield labels, record


class _Total(_OfRequests):
    kind = "counter"
    name = "apiserver_request_total"
    about = (
        "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, "
        "component, and HTTP response code."
    )

    def samples(self) -> Iterable[Sample]:
        return sorted(Sample(tuple(labels.items()), record.count) for labels, record in self._labelled())


class _Durations(_OfRequests):
    kind = "histogram"
    name = "apiserver_request_duration_seconds"
    about = (
        "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, "
        "scope and component."
    )

    def samples(self) -> Iterable[Sample]:
        return _summed(((labels, record.seconds) for labels, record in self._labelled()), ("code",), SECONDS)


class _Waitless(_OfRequests):
    kind = "histogram"
    name = "apiserver_request_sli_duration_seconds"
    about = (
        "Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in "
        "seconds for each verb, group, version, resource, subresource, scope and component."
    )

    def samples(self) -> Iterable[Sample]:
        found = ((labels, _without_waits(record)) for labels, record in self._labelled())
        return _summed(found, ("code", "dry_run"), SECONDS[_FINE:])


def _without_waits(record: _Record) -> list[float]:
    """The finest bounds are not told apart."""
    more = record.unwaited
    found = record.seconds if more is None else [one + other for one, other in zip(record.seconds, more, strict=True)]
    return [found[0], sum(found[1 : 2 + _FINE]), *found[2 + _FINE :]]


class _Sizes(_OfRequests):
    kind = "histogram"
    name = "apiserver_response_sizes"
    about = (
        "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component."
    )

    def samples(self) -> Iterable[Sample]:
        reads = ((labels, record.bytes) for labels, record in self._labelled() if labels["verb"] in _READS)
        return _summed(reads, ("code", "dry_run"), BYTES)


class _Single(_OfRequests):
    """One figure of each record, added up over the labels `without`."""

    without: tuple[str, ...]

    def figure(self, record: _Record) -> float:
        raise NotImplementedError

    def samples(self) -> Iterable[Sample]:
        sums: dict[Labels, float] = {}
        for labels, record in self._labelled():
            if value := self.figure(record):
                key = tuple((name, each) for name, each in labels.items() if name not in self.without)
                sums[key] = sums.get(key, 0) + value
        return [Sample(*each) for each in sorted(sums.items())]


class _LongRunning(_Single):
    kind = "gauge"
    name = "apiserver_longrunning_requests"
    about = (
        "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and "
        "component. Not all requests are tracked this way."
    )
    without = ("code", "dry_run")

    def figure(self, record: _Record) -> float:
        return record.running


class _Terminations(_Single):
    kind = "counter"
    name = "apiserver_request_terminations_total"
    about = "Number of requests which apiserver terminated in self-defense."
    without = ("dry_run",)

    def figure(self, record: _Record) -> float:
        return record.terminated


class _Deprecated(_OfRequests):
    """Resources that clients are warned of; which of them will go is not known yet of any."""

    kind = "gauge"
    name = "apiserver_requested_deprecated_apis"
    about = (
        "Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, "
        "and removed_release."
    )

    def __init__(self, requests: dict[_Key, _Record], deprecated: Callable[[GVR], bool]) -> None:
        super().__init__(requests)
        self._deprecated = deprecated

    def samples(self) -> Iterable[Sample]:
        found = set()
        for _, group, version, resource, subresource, *_ in self._requests:
            if resource and self._deprecated(GVR(group, version, resource)):
                found.add((group, version, resource, subresource))
        for values in sorted(found):
            names = ("group", "version", "resource", "subresource")
            yield Sample((*zip(names, values, strict=True), ("removed_release", "")), 1)


class _Aborts(_Single):
    kind = "counter"
    name = "apiserver_request_aborts_total"
    about = (
        "Number of requests which apiserver aborted possibly due to a timeout, for each group, version, verb, "
        "resource, subresource and scope"
    )
    without = ("code", "component", "dry_run")

    def figure(self, record: _Record) -> float:
        return record.aborted


def _summed(
    found: Iterable[tuple[dict[str, str], list[float]]], without: tuple[str, ...], bounds: tuple[float, ...]
) -> Iterator[Sample]:
    """Histograms, those added up that differ in the labels `without` alone."""
    sums: dict[Labels, list[float]] = {}
    for labels, record in found:
        key = tuple((name, value) for name, value in labels.items() if name not in without)
        known = sums.get(key)
        sums[key] = list(record) if known is None else [one + other for one, other in zip(known, record, strict=True)]
    for key, record in sorted(sums.items()):
        if any(record[1:]):
            yield from spread(key, bounds, record)
