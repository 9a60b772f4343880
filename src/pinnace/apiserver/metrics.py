"""/metrics: what the server counts, in the Prometheus text format.

A request costs one dictionary look-up: how often, how long and how much of it lies in one record, out of which the
families are made when somebody asks. Names, labels and bounds are kube-apiserver's
(https://kubernetes.io/docs/reference/instrumentation/metrics/).
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from pinnace.apiserver.exchange import Exchange
from pinnace.apiserver.storage import Storage
from pinnace.machinery.metrics import Collected, Family, Labels, Sample, spread, text
from pinnace.wire.http import AnyResponse, Response
from pinnace.wire.process_metrics import Figures, process_families

SECONDS = (
    *(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0),
    *(3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0),
)
BYTES = tuple(1000.0 * 10**power for power in range(7))
MOST = 10_000  # kinds of requests that are told apart
_READS = ("GET", "LIST")

_Key = tuple[str, str, str, str, str, str, int, bool]


class _Record:
    """All requests of one kind that were answered alike."""

    __slots__ = ("bytes", "count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = [0.0] * (len(SECONDS) + 2)  # the sum, then how many fell between two bounds
        self.bytes = [0.0] * (len(BYTES) + 2)


class Metrics:
    """What the request path tells; `families` is what other parts of the server add."""

    def __init__(self, storage: Storage, version: str) -> None:
        self._storage = storage
        self._requests: dict[_Key, _Record] = {}
        self.families: list[Family] = [*process_families(version), *_storage_families(storage)]

    def answered(self, exchange: Exchange, response: AnyResponse) -> None:
        """Count a request that is answered; of a watch or a stream, that it began."""
        info = exchange.info
        scope = "resource" if info.name else "namespace" if info.namespace else "cluster" if info.is_resource else ""
        key = (
            *(info.verb, info.group, info.version, info.resource, info.subresource, scope, response.status),
            "dryRun=" in exchange.request.query,
        )
        record = self._requests.get(key)
        if record is None:
            if len(self._requests) >= MOST:  # paths are the client's choice
                key = ("", "", "", "", "", "", response.status, False)
            record = self._requests.setdefault(key, _Record())
        record.count += 1
        if isinstance(response, Response):
            took = time.perf_counter() - exchange.began
            seconds = record.seconds
            seconds[0] += took
            seconds[1 if took <= 0.005 else 1 + bisect_left(SECONDS, took)] += 1
            size = len(response.body)
            record.bytes[0] += size
            record.bytes[1 if size <= 1000 else 1 + bisect_left(BYTES, size)] += 1

    def text(self) -> bytes:
        mine = [_Total(self._requests), _Durations(self._requests), _Sizes(self._requests)]
        return text([*mine, *self.families]).encode()


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


class _Sizes(_OfRequests):
    kind = "histogram"
    name = "apiserver_response_sizes"
    about = (
        "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component."
    )

    def samples(self) -> Iterable[Sample]:
        reads = ((labels, record.bytes) for labels, record in self._labelled() if labels["verb"] in _READS)
        return _summed(reads, ("code", "dry_run"), BYTES)


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


def _storage_families(storage: Storage) -> list[Family]:
    def caches() -> list[tuple[str, str, str, str, int, int]]:
        found = sorted(storage.caches.values(), key=lambda cache: cache.prefix)
        return [
            (one.kind.group, one.kind.version, one.kind.plural, one.kind.kind, len(one.objects), one.watcher_count)
            for one in found
        ]

    def qualified() -> Figures:
        for group, _, plural, _, count, _ in caches():
            yield (f"{plural}.{group}" if group else plural,), count

    def objects() -> Figures:
        return (((group, plural), count) for group, _, plural, _, count, _ in caches())

    def watchers() -> Figures:
        return (((group, kind, version), seen) for group, version, _, kind, _, seen in caches() if seen)

    about = "Number of stored objects at the time of last check split by kind."
    told = "Number of currently registered watchers for a given resource."
    return [
        Collected("gauge", "apiserver_storage_objects", about, ("resource",), qualified),
        Collected("gauge", "apiserver_resource_objects", about, ("group", "resource"), objects),
        Collected("gauge", "apiserver_registered_watchers", told, ("group", "kind", "version"), watchers),
    ]
