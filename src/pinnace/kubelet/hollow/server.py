"""What the kubelet of a hollow node answers: logs, health, and what its pods use.

All nodes share one server; which of them is asked is told by the address and port that a client came to. Paths and
shapes are those of `pinnace.kubelet.server.server`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import orjson

from pinnace.cri.api import ContainerMetadata, ContainerStats
from pinnace.kubelet.hollow.behaviour import Behaviour, usage
from pinnace.kubelet.hollow.summary import node_summary, pod_summaries
from pinnace.kubelet.pods import LABEL_CONTAINER_NAME, LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID, amount_of
from pinnace.kubelet.statistics import node_metrics
from pinnace.machinery.meta import Obj, get_in, name_of, namespace_of, parse_time, uid_of
from pinnace.wire.http import Request, Response

_TEXT = (("Content-Type", "text/plain; charset=utf-8"),)
_JSON = (("Content-Type", "application/json"),)
_NANOSECONDS = 1_000_000_000
_PER_MILLI_CPU = 1_000_000  # nanoseconds of CPU a second

Door = tuple[str, int]
"""Address and port of a node's kubelet."""

Counted = dict[tuple[str, str, int], tuple[int, int]]
"""By pod's uid, container and restart: nanoseconds, since 1970 when it was last asked for, and of CPU used by then."""


class HollowServer:
    """`doors` says whose kubelet is where, `pods_on` what runs on a node; `logs` is what containers have written."""

    def __init__(
        self, doors: Mapping[Door, str], behaviours: Mapping[str, Behaviour], pods_on: Callable[[str], Iterable[Obj]]
    ) -> None:
        self.logs: dict[tuple[str, str, str], str] = {}  # namespace, pod, container
        self._doors = doors
        self._behaviours = behaviours
        self._pods_on = pods_on
        self._counted: dict[str, Counted] = {}  # by node

    def handle(self, request: Request) -> Response:
        """One request; like a kubelet's, the server wants a certificate of its clients."""
        node = self._doors.get(request.peer.came_to)
        if request.peer.certificate is None or node is None:
            return Response(401, _TEXT, b"Unauthorized")
        parts = request.path.strip("/").split("/")
        if parts == ["healthz"]:
            return Response(200, _TEXT, b"ok")
        if parts[0] == "containerLogs" and len(parts) == 4:
            return Response(200, _TEXT, self._log(request, (parts[1], parts[2], parts[3])).encode())
        if parts == ["metrics", "resource"]:
            found = list(self._stats(node))
            return Response(200, _TEXT, node_metrics.resource_text(found, *_sums(found)).encode())
        if parts == ["stats", "summary"]:
            found = list(self._stats(node))
            summary = {"node": node_summary(node, *_sums(found)), "pods": pod_summaries(found)}
            return Response(200, _JSON, orjson.dumps(summary))
        return Response(404, _TEXT, b"404 page not found\n")

    def _log(self, request: Request, container: tuple[str, str, str]) -> str:
        lines = self.logs.get(container, "").splitlines(keepends=True)
        tail = request.params().get("tailLines", "")
        return "".join(lines[max(len(lines) - int(tail), 0) :] if tail.isdigit() else lines)

    def _stats(self, node: str) -> Iterator[ContainerStats]:
        behaviour = self._behaviours.get(node)
        before, counted = self._counted.get(node, {}), Counted()
        for pod in self._pods_on(node):
            if behaviour is not None and get_in(pod, "status", "phase") == "Running":
                for stats in container_stats(pod, behaviour, time.time_ns(), before):
                    counted[_counter(stats)] = (stats.timestamp, stats.cpu_usage_core_nano_seconds)
                    yield stats
        self._counted[node] = counted


def _counter(stats: ContainerStats) -> tuple[str, str, int]:
    return stats.labels[LABEL_POD_UID], stats.metadata.name, stats.metadata.attempt


def container_stats(pod: Obj, behaviour: Behaviour, now: int, before: Counted) -> Iterator[ContainerStats]:
    """What the running containers of a pod have used until `now`, nanoseconds since 1970, as told by `usage`.

    What they use may change; it counts from when they were last asked for, so that counters only grow.
    """
    cpu, memory = (amount_of(*each) for each in zip(("cpu", "memory"), usage(pod, behaviour), strict=True))
    for state in get_in(pod, "status", "containerStatuses") or ():
        started = get_in(state, "state", "running", "startedAt")
        if started is None:
            continue
        began = int(parse_time(started).timestamp()) * _NANOSECONDS
        since, used = before.get((uid_of(pod), state["name"], state["restartCount"]), (began, 0))
        yield ContainerStats(
            id=state["containerID"],
            metadata=ContainerMetadata(name=state["name"], attempt=state["restartCount"]),
            labels={
                LABEL_POD_UID: uid_of(pod),
                LABEL_POD_NAME: name_of(pod),
                LABEL_POD_NAMESPACE: namespace_of(pod),
                LABEL_CONTAINER_NAME: state["name"],
            },
            timestamp=now,
            cpu_usage_core_nano_seconds=used + max(now - since, 0) * cpu * _PER_MILLI_CPU // _NANOSECONDS,
            memory_working_set_bytes=memory,
            memory_usage_bytes=memory,
            memory_rss_bytes=memory,
        )


def _sums(found: Iterable[ContainerStats]) -> tuple[int, int]:
    """Nanoseconds of CPU and bytes of memory, all together."""
    cpu = memory = 0
    for stats in found:
        cpu += stats.cpu_usage_core_nano_seconds
        memory += stats.memory_working_set_bytes
    return cpu, memory
