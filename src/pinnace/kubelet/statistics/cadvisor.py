"""`/metrics/cadvisor`: what containers use, in the names that dashboards and alerts know from cAdvisor.

From the runtime's figures and what else cgroups count; nothing is kept between two requests. A series without a
container's name is its pod's, one without a pod's name the whole machine's.
Names are those of https://github.com/google/cadvisor/blob/master/docs/storage/prometheus.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pinnace.cri.api import PodSandboxMetadata, PodSandboxStats
from pinnace.cri.engine.metrics import Files, values
from pinnace.kubelet.pods import (
    LABEL_CONTAINER_NAME,
    LABEL_POD_NAME,
    LABEL_POD_NAMESPACE,
    LABEL_POD_UID,
    amount_of,
    find_container,
)
from pinnace.kubelet.resources.amounts import CPU_PERIOD, cgroup_parent, cpu_quota, cpu_shares
from pinnace.kubelet.statistics.node_metrics import node_usage
from pinnace.kubelet.statistics.summary import booted, pod_stats
from pinnace.machinery.meta import Obj, uid_of
from pinnace.machinery.metrics import number

if TYPE_CHECKING:
    from pinnace.kubelet.kubelet import Kubelet

_SECOND = 1_000_000_000


class Series(NamedTuple):
    """A container, or a pod as a whole, with what is known of it."""

    labels: Mapping[str, str]
    stats: Any  # ContainerStats or PodSandboxStats: their common fields
    started: int  # nanoseconds since 1970
    limits: Mapping[str, int]
    requests: Mapping[str, int]


_USAGE: tuple[tuple[str, str, str, Callable[[Any], float | None]], ...] = (
    (
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
        lambda one: one.cpu_usage_core_nano_seconds / _SECOND,
    ),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", lambda one: one.memory_rss_bytes),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        lambda one: one.memory_usage_bytes,
    ),
    (
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set in bytes.",
        lambda one: one.memory_working_set_bytes,
    ),
    (
        "container_processes",
        "gauge",
        "Number of processes running inside the container.",
        lambda one: one.process_count or None,  # of a runtime that does not tell, and of the machine
    ),
    (
        "container_last_seen",
        "gauge",
        "Last time a container was seen by the exporter",
        lambda one: one.timestamp // _SECOND,
    ),
)
_NETWORK = (
    ("receive_bytes", "bytes received", "rx_bytes"),
    ("receive_errors", "errors encountered while receiving", "rx_errors"),
    ("receive_packets", "packets received", "rx_packets"),
    ("receive_packets_dropped", "packets dropped while receiving", "rx_dropped"),
    ("transmit_bytes", "bytes transmitted", "tx_bytes"),
    ("transmit_errors", "errors encountered while transmitting", "tx_errors"),
    ("transmit_packets", "packets transmitted", "tx_packets"),
    ("transmit_packets_dropped", "packets dropped while transmitting", "tx_dropped"),
)
_TOLD = {name for name, *_ in _USAGE}  # from the runtime's figures, whoever it is
_OF_LIMITS = "container_cpu_cfs_"  # what is counted only where CPU time is limited

Counters = Callable[[str], Files]
"""The numbers in the files of a cgroup, by its path as `id` has it."""


async def metrics(kubelet: Kubelet) -> str:
    """The text for a collector."""
    found = await pod_stats(kubelet.node.runtime)
    pods = {uid_of(pod): pod for pod in kubelet.pods()}
    images, started = {}, {}
    for known in kubelet.node.cache.pods.values():
        for status in known.containers:
            images[status.id], started[status.id] = status.image.image, status.started_at
        started |= {box.id: box.created_at for box in known.sandboxes}
    machine = kubelet.node_status.machine
    head = [
        _family(
            "cadvisor_version_info",
            "gauge",
            "A metric with a constant '1' value labeled by kernel and OS.",
            [({"kernelVersion": machine.kernel_version, "osVersion": machine.os_image}, 1, 0)],
        ),
        _family("machine_cpu_cores", "gauge", "Number of logical CPU cores.", [(_of(machine), machine.cpus, 0)]),
        _family(
            "machine_memory_bytes",
            "gauge",
            "Amount of memory installed on the machine.",
            [(_of(machine), machine.memory, 0)],
        ),
        _family(
            "machine_swap_bytes",
            "gauge",
            "Amount of swap memory available on the machine.",
            [(_of(machine), machine.swap, 0)],
        ),
    ]
    cgroups, root = kubelet.node.cgroups, kubelet.options.cgroup_root.rstrip("/")

    def counters(path: str) -> Files:
        return cgroups.counters(root + path) if cgroups is not None else {}

    texts = await asyncio.to_thread(container_families, found, pods, images, started, counters, _machine())
    return "".join([*head, *texts])


def _of(machine: Any) -> dict[str, str]:
    return {"boot_id": machine.boot_id, "machine_id": machine.machine_id, "system_uuid": machine.system_uuid}


def container_families(
    found: Iterable[PodSandboxStats],
    pods: Mapping[str, Obj],
    images: Mapping[str, str],
    started: Mapping[str, int],
    counters: Counters = lambda _: {},
    machine: Series | None = None,
) -> list[str]:
    """Every family about containers, pods and the machine; `images` and `started` are by id. Reads files."""
    found = list(found)
    series = [one for stats in found for one in _series(stats, pods, images, started)]
    everything = [machine, *series] if machine is not None else series
    texts = [_usage(everything, *family) for family in _USAGE]
    texts += _counted(series, counters)
    contained = [one for one in series if one.labels["container"]]
    files = [(one.labels, one.stats.writable_layer_used_bytes, one.stats.timestamp) for one in contained]
    about = "Number of bytes that are consumed by the container on this filesystem."
    texts.append(_family("container_fs_usage_bytes", "gauge", about, files))
    texts.append(
        _family(
            "container_start_time_seconds",
            "gauge",
            "Start time of the container since unix epoch in seconds.",
            [(one.labels, one.started / _SECOND, one.stats.timestamp) for one in everything],
        )
    )
    texts += _specs(contained)
    for name, about, field in _NETWORK:
        samples = [
            ({**_pod_labels(stats, pods), "interface": one.name}, getattr(one, field), stats.timestamp)
            for stats in found
            for one in stats.interfaces
            if getattr(one, field) is not None
        ]
        texts.append(_family(f"container_network_{name}_total", "counter", f"Cumulative count of {about}", samples))
    return texts


def _usage(series: Iterable[Series], name: str, kind: str, about: str, read: Callable[[Any], float | None]) -> str:
    told = ((one, read(one.stats)) for one in series)
    return _family(
        name, kind, about, [(one.labels, value, one.stats.timestamp) for one, value in told if value is not None]
    )


def _counted(series: Iterable[Series], counters: Counters) -> list[str]:
    """What cgroups count beside what runtimes tell."""
    families: dict[str, tuple[str, str, list[_Sample]]] = {}
    for one in series:
        now = time.time_ns()
        for found in values(counters(one.labels["id"])):
            if found.name in _TOLD or (found.name.startswith(_OF_LIMITS) and not one.limits.get("cpu")):
                continue
            kind = "counter" if found.counter else "gauge"
            _, _, samples = families.setdefault(found.name, (kind, found.help, []))
            samples.append(({**one.labels, **found.more}, found.value, now))
    return [_family(name, kind, about, samples) for name, (kind, about, samples) in families.items()]


def _machine() -> Series:
    """The machine as the container that everything is in."""
    used, working_set = node_usage()
    now = time.time_ns()
    labels = dict.fromkeys(("container", "id", "image", "name", "namespace", "pod"), "") | {"id": "/"}
    stats = PodSandboxStats(
        id="/",
        metadata=PodSandboxMetadata(name="", uid="", namespace=""),
        labels={},
        timestamp=now,
        cpu_usage_core_nano_seconds=used,
        memory_working_set_bytes=working_set,
        memory_usage_bytes=working_set,
        memory_rss_bytes=working_set,
    )
    return Series(labels, stats, booted(now), {}, {})


def _pod_labels(stats: PodSandboxStats, pods: Mapping[str, Obj]) -> dict[str, str]:
    pod = pods.get(stats.labels.get(LABEL_POD_UID, stats.metadata.uid))
    return {
        "container": "",
        "id": cgroup_parent(pod, "") if pod is not None else f"/{stats.id}",
        "image": "",
        "name": "",
        "namespace": stats.labels.get(LABEL_POD_NAMESPACE, stats.metadata.namespace),
        "pod": stats.labels.get(LABEL_POD_NAME, stats.metadata.name),
    }


def _series(
    stats: PodSandboxStats, pods: Mapping[str, Obj], images: Mapping[str, str], started: Mapping[str, int]
) -> list[Series]:
    own = _pod_labels(stats, pods)
    pod = pods.get(stats.labels.get(LABEL_POD_UID, stats.metadata.uid))
    found = [Series(own, stats, started.get(stats.id, stats.timestamp), {}, {})]
    for one in stats.containers:
        name = one.labels.get(LABEL_CONTAINER_NAME, one.metadata.name)
        asked = (find_container(pod, name) if pod is not None else None) or {}
        image = asked.get("image") or images.get(one.id, "")
        labels = {**own, "container": name, "id": f"{own['id']}/{one.id}", "image": image, "name": one.id}
        resources = asked.get("resources") or {}
        limits, requests = (
            {key: amount_of(key, text) for key, text in (resources.get(kind) or {}).items()}
            for kind in ("limits", "requests")
        )
        found.append(Series(labels, one, started.get(one.id, one.timestamp), limits, requests))
    return found


def _specs(contained: list[Series]) -> list[str]:
    """What containers may use."""

    def samples(read: Callable[[Series], float | None]) -> list[_Sample]:
        values = ((one, read(one)) for one in contained)
        return [(one.labels, value, one.stats.timestamp) for one, value in values if value is not None]

    def quota(one: Series) -> float | None:
        return cpu_quota(one.limits["cpu"]) if one.limits.get("cpu") else None

    return [
        _family(
            "container_spec_cpu_period",
            "gauge",
            "CPU period of the container.",
            samples(lambda one: CPU_PERIOD if one.limits.get("cpu") else None),
        ),
        _family("container_spec_cpu_quota", "gauge", "CPU quota of the container.", samples(quota)),
        _family(
            "container_spec_cpu_shares",
            "gauge",
            "CPU share of the container.",
            samples(lambda one: cpu_shares(one.requests.get("cpu", one.limits.get("cpu", 0)))),
        ),
        _family(
            "container_spec_memory_limit_bytes",
            "gauge",
            "Memory limit for the container.",
            samples(lambda one: one.limits.get("memory", 0)),
        ),
    ]


_Sample = tuple[Mapping[str, str], float, int]
"""Labels, value, and nanoseconds since 1970; 0 where that is not told."""


def _family(name: str, kind: str, about: str, samples: Iterable[_Sample]) -> str:
    lines = [f"# HELP {name} {about}\n# TYPE {name} {kind}\n"]
    for labels, value, taken in samples:
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{shown}}} {number(value)}{f' {taken // 1_000_000}' if taken else ''}\n")
    return "".join(lines) if len(lines) > 1 else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
