"""The kubelet's `/metrics/resource` and `/metrics`: what the node and its containers use, and what the kubelet does.

Figures come from the runtime and /proc; names are those that metrics-server and Prometheus read
(https://kubernetes.io/docs/reference/instrumentation/node-metrics/).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pinnace.client import measures
from pinnace.cri.api import ContainerStats, CriError
from pinnace.kubelet.admission.preemption import preemptions
from pinnace.kubelet.eviction.manager import evictions
from pinnace.kubelet.pods import LABEL_CONTAINER_NAME, LABEL_POD_NAME, LABEL_POD_NAMESPACE
from pinnace.kubelet.statistics import claimed_volumes
from pinnace.machinery.metrics import constant, number, text
from pinnace.wire.process_metrics import process_families

if TYPE_CHECKING:
    from pinnace.kubelet.kubelet import Kubelet

_NANOSECONDS = 1_000_000_000


def node_usage() -> tuple[int, int]:
    """Nanoseconds of CPU since boot, and bytes of memory that cannot be given back."""
    ticks = os.sysconf("SC_CLK_TCK")
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    busy = sum(int(value) for index, value in enumerate(fields[:8]) if index not in (3, 4))
    memory = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        memory[name] = int(value.split()[0]) * 1024
    used = memory["MemTotal"] - memory["MemFree"] - memory.get("Inactive(file)", 0)
    return busy * _NANOSECONDS // ticks, used


async def _all_stats(kubelet: Kubelet) -> list[ContainerStats]:
    try:
        return await kubelet.node.runtime.list_container_stats()
    except CriError:
        return []


async def resource_metrics(kubelet: Kubelet) -> str:
    """`/metrics/resource`: CPU and memory of containers, pods and the node."""
    return resource_text(await _all_stats(kubelet), *node_usage())


def resource_text(found: Iterable[ContainerStats], node_cpu: int, node_memory: int) -> str:
    """The same from figures: of the node, nanoseconds of CPU and bytes. Samples say when they were taken."""
    cpu: list[_Taken] = []
    memory: list[_Taken] = []
    pods: dict[tuple[str, str], list[int]] = {}
    for stats in found:
        namespace, pod = stats.labels.get(LABEL_POD_NAMESPACE, ""), stats.labels.get(LABEL_POD_NAME, "")
        name = stats.labels.get(LABEL_CONTAINER_NAME, stats.metadata.name)
        labels = f'{{container="{name}",namespace="{namespace}",pod="{pod}"}}'
        cpu.append((labels, stats.cpu_usage_core_nano_seconds / _NANOSECONDS, stats.timestamp))
        memory.append((labels, stats.memory_working_set_bytes, stats.timestamp))
        total = pods.setdefault((namespace, pod), [0, 0, stats.timestamp])
        total[0] += stats.cpu_usage_core_nano_seconds
        total[1] += stats.memory_working_set_bytes
    sums = [(f'{{namespace="{key[0]}",pod="{key[1]}"}}', total) for key, total in pods.items()]
    now = time.time_ns()
    families: list[tuple[str, str, list[_Taken]]] = [
        ("container_cpu_usage_seconds_total", "counter", cpu),
        ("container_memory_working_set_bytes", "gauge", memory),
        ("node_cpu_usage_seconds_total", "counter", [("", node_cpu / _NANOSECONDS, now)]),
        ("node_memory_working_set_bytes", "gauge", [("", node_memory, now)]),
        ("pod_cpu_usage_seconds_total", "counter", [(pod, used / _NANOSECONDS, when) for pod, (used, _, when) in sums]),
        ("pod_memory_working_set_bytes", "gauge", [(pod, held, when) for pod, (_, held, when) in sums]),
    ]
    texts = [_family(name, kind, samples) for name, kind, samples in families]
    return "".join([*texts, _family("resource_scrape_error", "gauge", [("", 0, 0)])])


_Taken = tuple[str, float, int]
"""Labels, value, and nanoseconds since 1970; 0 where that is not told."""


def _family(name: str, kind: str, samples: list[_Taken]) -> str:
    lines = [f"# TYPE {name} {kind}\n"]
    for labels, value, moment in samples:
        taken = f" {moment // 1_000_000}" if moment else ""
        lines.append(f"{name}{labels} {number(value)}{taken}\n")
    return "".join(lines)


def kubelet_metrics(kubelet: Kubelet) -> str:
    """`/metrics`: what the kubelet says of itself."""
    running = [pod for pod in kubelet.node.cache.pods.values() if pod.anything_alive()]
    containers = sum(len(pod.running()) for pod in running)
    desired = len(kubelet.workers)
    families = [
        constant("gauge", "kubelet_node_name", "The node's name. The count is always 1.", _node(kubelet)),
        constant("gauge", "kubelet_running_pods", "Number of pods that have a running pod sandbox", {}, len(running)),
        constant(
            "gauge",
            "kubelet_running_containers",
            "Number of containers currently running",
            {"container_state": "running"},
            containers,
        ),
        constant("gauge", "kubelet_desired_pods", "The number of pods the kubelet is being asked to run.", {}, desired),
    ]
    options = kubelet.options
    process = process_families(options.kubernetes_version, options.features.table())
    return text(
        [
            *process,
            *measures.families(),
            *families,
            *claimed_volumes.families(kubelet.claimed_volumes.found),
            evictions,
            preemptions,
        ]
    )


def _node(kubelet: Kubelet) -> dict[str, str]:
    return {"node": kubelet.options.node_name}
