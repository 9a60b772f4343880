"""`/metrics/cadvisor`: what containers use, in the names that dashboards and alerts know from cAdvisor.

From the runtime's figures; nothing is kept between two requests. A series without a container's name is its pod's.
Names are those of https://github.com/google/cadvisor/blob/master/docs/storage/prometheus.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pinnace.cri.api import PodSandboxStats
from pinnace.kubelet.pods import (
    LABEL_CONTAINER_NAME,
    LABEL_POD_NAME,
    LABEL_POD_NAMESPACE,
    LABEL_POD_UID,
    amount_of,
    find_container,
)
from pinnace.kubelet.resources.amounts import CPU_PERIOD, cgroup_parent, cpu_quota, cpu_shares
from pinnace.kubelet.statistics.summary import pod_stats
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


_USAGE: tuple[tuple[str, str, str, Callable[[Any], float]], ...] = (
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
        lambda one: one.process_count,
    ),
    (
        "container_last_seen",
        "gauge",
        "Last time a container was seen by the exporter",
        lambda one: one.timestamp // _SECOND,
    ),
)
_NETWORK = (
    ("container_network_receive_bytes_total", "Cumulative count of bytes received", "rx_bytes"),
    ("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", "rx_errors"),
    ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", "tx_bytes"),
    (
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting",
        "tx_errors",
    ),
)


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
    ]
    return "".join([*head, *container_families(found, pods, images, started)])


def _of(machine: Any) -> dict[str, str]:
    return {"boot_id": machine.boot_id, "machine_id": machine.machine_id, "system_uuid": machine.system_uuid}


def container_families(
    found: Iterable[PodSandboxStats], pods: Mapping[str, Obj], images: Mapping[str, str], started: Mapping[str, int]
) -> list[str]:
    """Every family about containers and pods; `images` and `started` are by id."""
    found = list(found)
    series = [one for stats in found for one in _series(stats, pods, images, started)]
    texts = [
        _family(name, kind, about, [(one.labels, read(one.stats), one.stats.timestamp) for one in series])
        for name, kind, about, read in _USAGE
    ]
    contained = [one for one in series if one.labels["container"]]
    files = [(one.labels, one.stats.writable_layer_used_bytes, one.stats.timestamp) for one in contained]
    about = "Number of bytes that are consumed by the container on this filesystem."
    texts.append(_family("container_fs_usage_bytes", "gauge", about, files))
    texts.append(
        _family(
            "container_start_time_seconds",
            "gauge",
            "Start time of the container since unix epoch in seconds.",
            [(one.labels, one.started / _SECOND, one.stats.timestamp) for one in series],
        )
    )
    texts += _specs(contained)
    for name, about, field in _NETWORK:
        samples = [
            ({**_pod_labels(stats, pods), "interface": one.name}, getattr(one, field), stats.timestamp)
            for stats in found
            for one in stats.interfaces
        ]
        texts.append(_family(name, "counter", about, samples))
    return texts


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
