"""The metrics of what is stored: objects, watchers, the watch cache, and how long the store takes to write.

What caches know of themselves is looked up when somebody asks. Families that kube-apiserver names after etcd are told
of every store, the embedded one included. https://kubernetes.io/docs/reference/instrumentation/metrics/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pinnace.apiserver.cache import RING, ResourceCache, Sent
from pinnace.machinery.metrics import Collected, Counter, Family, Histogram, Sample, spread
from pinnace.wire.process_metrics import Figures

if TYPE_CHECKING:
    from pinnace.apiserver.storage import Storage

_CALL_SECONDS = (
    *(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0),
    *(3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0),
)
_WATCH_LIST_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0)
_OF_CALLS = ("group", "operation", "resource")


class Measures:
    """What is counted as it happens."""

    def __init__(self) -> None:
        self.calls = Histogram(
            "etcd_request_duration_seconds",
            "Etcd request latency in seconds for each operation and object type.",
            _OF_CALLS,
            _CALL_SECONDS,
        )
        self.failures = Counter(
            "etcd_request_errors_total", "Etcd failed request counts for each operation and object type.", _OF_CALLS
        )
        self.watch_lists = Histogram(
            "apiserver_watch_list_duration_seconds",
            "Response latency distribution in seconds for watch list requests broken by group, version, resource and "
            "scope.",
            ("group", "resource", "scope", "version"),
            _WATCH_LIST_SECONDS,
        )


def families(storage: Storage) -> list[Family]:
    measures = storage.measures

    def caches() -> list[ResourceCache]:
        return sorted(storage.caches.values(), key=lambda cache: cache.prefix)

    def of(kind: str, name: str, about: str, figure: Callable[[ResourceCache], float]) -> Family:
        """One figure of each cache."""
        labels = ("group", "resource")
        return Collected(
            kind, name, about, labels, lambda: [((one.kind.group, one.kind.plural), figure(one)) for one in caches()]
        )

    def qualified() -> Figures:
        for one in caches():
            plural, group = one.kind.plural, one.kind.group
            yield (f"{plural}.{group}" if group else plural,), len(one.objects)

    def watchers() -> Figures:
        for one in caches():
            if seen := one.watcher_count:
                yield (one.kind.group, one.kind.kind, one.kind.version), seen

    def sent() -> Figures:
        for one in caches():
            if count := sum(one.sent.figures[1:]):
                yield (one.kind.group, one.kind.plural, one.kind.version), count

    def size() -> Figures:
        bytes_ = storage.store.size
        return [] if bytes_ is None else [(("etcd-0",), bytes_)]

    def calls() -> Figures:
        return [(values, sum(found[1:])) for values, found in sorted(measures.calls.values.items())]

    about = "Number of stored objects at the time of last check split by kind."
    told = "Number of currently registered watchers for a given resource."
    delivered = ("group", "resource", "version")
    return [
        measures.calls,
        measures.failures,
        measures.watch_lists,
        Collected("counter", "etcd_requests_total", "Etcd request counts by operation and type.", _OF_CALLS, calls),
        Collected("gauge", "apiserver_storage_objects", about, ("resource",), qualified),
        of("gauge", "apiserver_resource_objects", about, lambda one: len(one.objects)),
        Collected("gauge", "apiserver_registered_watchers", told, ("group", "kind", "version"), watchers),
        Collected(
            "gauge",
            "apiserver_storage_size_bytes",
            "Size of the storage database file physically allocated in bytes.",
            ("storage_cluster_id",),
            size,
        ),
        of(
            "counter",
            "apiserver_storage_list_total",
            "Number of LIST requests served from storage",
            lambda one: one.initializations,
        ),
        *(
            of("counter", f"apiserver_storage_list_{what}_objects_total", about, lambda one: one.loaded)
            for what, about in (
                ("fetched", "Number of objects read from storage in the course of serving a LIST request"),
                ("evaluated", "Number of objects tested in the course of serving a LIST request from storage"),
                ("returned", "Number of objects returned for a LIST request from storage"),
            )
        ),
        of(
            "gauge",
            "watch_cache_capacity",
            "Total capacity of watch cache broken by resource type.",
            lambda _: RING,
        ),
        of(
            "counter",
            "apiserver_watch_cache_events_received_total",
            "Counter of events received in watch cache broken by resource type.",
            lambda one: one.received,
        ),
        of(
            "counter",
            "apiserver_watch_cache_initializations_total",
            "Counter of watch cache initializations broken by resource type.",
            lambda one: one.initializations,
        ),
        of(
            "gauge",
            "apiserver_watch_cache_resource_version",
            "Current resource version of watch cache broken by resource type.",
            lambda _: storage.revision,
        ),
        Collected("counter", "apiserver_watch_events_total", "Number of events sent in watch clients", delivered, sent),
        _Sizes(caches),
    ]


class _Sizes(Family):
    kind = "histogram"

    def __init__(self, caches: Callable[[], Iterable[ResourceCache]]) -> None:
        about = "Watch event size distribution in bytes"
        super().__init__("apiserver_watch_events_sizes", about, ("group", "resource", "version"))
        self._caches = caches

    def samples(self) -> Iterable[Sample]:
        for one in self._caches():
            figures = one.sent.figures
            if any(figures[1:]):
                labels = self.named((one.kind.group, one.kind.plural, one.kind.version))
                yield from spread(labels, Sent.bounds, figures)
