"""What the node and its pods use: the `/stats/summary` document and the `/metrics/resource` text.

Figures come from the runtime and /proc; shapes are those that metrics-server and Prometheus read
(https://kubernetes.io/docs/reference/instrumentation/node-metrics/).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pinnace.client import measures
from pinnace.cri.api import ContainerStats, CriError
from pinnace.kubelet.eviction.manager import evictions
from pinnace.kubelet.pods import LABEL_CONTAINER_NAME, LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID
from pinnace.kubelet.preemption import preemptions
from pinnace.machinery.meta import Obj, format_time
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


def _moment(nanoseconds: int) -> str:
    return format_time(datetime.fromtimestamp((nanoseconds or time.time_ns()) / _NANOSECONDS, UTC))


def _container(stats: ContainerStats) -> Obj:
    moment = _moment(stats.timestamp)
    return {
        "name": stats.labels.get(LABEL_CONTAINER_NAME, stats.metadata.name),
        "startTime": moment,
        "cpu": {"time": moment, "usageCoreNanoSeconds": stats.cpu_usage_core_nano_seconds},
        "memory": {
            "time": moment,
            "usageBytes": stats.memory_usage_bytes,
            "workingSetBytes": stats.memory_working_set_bytes,
            "rssBytes": stats.memory_rss_bytes,
        },
        "rootfs": {"time": moment, "usedBytes": stats.writable_layer_used_bytes},
    }


async def _all_stats(kubelet: Kubelet) -> list[ContainerStats]:
    try:
        return await kubelet.node.runtime.list_container_stats()
    except CriError:
        return []


async def summary(kubelet: Kubelet) -> Obj:
    """The node and its pods, as `/stats/summary` shows them."""
    cpu, memory = node_usage()
    disk = os.statvfs(kubelet.options.root_dir)
    node = node_summary(kubelet.options.node_name, cpu, memory)
    node["fs"] = {
        "time": node["startTime"],
        "availableBytes": disk.f_bavail * disk.f_frsize,
        "capacityBytes": disk.f_blocks * disk.f_frsize,
        "usedBytes": (disk.f_blocks - disk.f_bfree) * disk.f_frsize,
    }
    return {"node": node, "pods": pod_summaries(await _all_stats(kubelet))}


def node_summary(name: str, cpu: int, memory: int) -> Obj:
    """What a node uses in all: nanoseconds of CPU and bytes."""
    moment = _moment(0)
    return {
        "nodeName": name,
        "startTime": moment,
        "cpu": {"time": moment, "usageCoreNanoSeconds": cpu},
        "memory": {"time": moment, "workingSetBytes": memory, "usageBytes": memory},
    }


def pod_summaries(found: Iterable[ContainerStats]) -> list[Obj]:
    """What pods use, from what their containers use."""
    pods: dict[str, Obj] = {}
    for stats in found:
        labels = stats.labels
        uid = labels.get(LABEL_POD_UID, "")
        reference = {
            "name": labels.get(LABEL_POD_NAME, ""),
            "namespace": labels.get(LABEL_POD_NAMESPACE, ""),
            "uid": uid,
        }
        pod = pods.setdefault(uid, {"podRef": reference, "startTime": _moment(stats.timestamp), "containers": []})
        pod["containers"].append(_container(stats))
    for pod in pods.values():
        _add_up(pod)
    return list(pods.values())


def _add_up(pod: Obj) -> None:
    containers = pod["containers"]
    moment = pod["startTime"]
    pod["cpu"] = {"time": moment, "usageCoreNanoSeconds": sum(one["cpu"]["usageCoreNanoSeconds"] for one in containers)}
    pod["memory"] = {
        "time": moment,
        "workingSetBytes": sum(one["memory"]["workingSetBytes"] for one in containers),
        "usageBytes": sum(one["memory"]["usageBytes"] for one in containers),
    }


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
    return text([*process, *measures.families(), *families, evictions, preemptions])


def _node(kubelet: Kubelet) -> dict[str, str]:
    return {"node": kubelet.options.node_name}
