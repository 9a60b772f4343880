"""What the node and its pods use: the `/stats/summary` document and the `/metrics/resource` text.

Figures come from the runtime and /proc; shapes are those that metrics-server and Prometheus read
(https://kubernetes.io/docs/reference/instrumentation/node-metrics/).
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pinnace.cri.api import ContainerStats, CriError
from pinnace.kubelet.pods import LABEL_CONTAINER_NAME, LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID
from pinnace.machinery.meta import Obj, format_time

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
    """The same from figures: of the node, nanoseconds of CPU and bytes."""
    cpu, memory = [], []
    pods: dict[tuple[str, str], list[int]] = {}
    for stats in found:
        namespace, pod = stats.labels.get(LABEL_POD_NAMESPACE, ""), stats.labels.get(LABEL_POD_NAME, "")
        name = stats.labels.get(LABEL_CONTAINER_NAME, stats.metadata.name)
        labels = f'{{container="{name}",namespace="{namespace}",pod="{pod}"}}'
        cpu.append((labels, stats.cpu_usage_core_nano_seconds / _NANOSECONDS))
        memory.append((labels, float(stats.memory_working_set_bytes)))
        total = pods.setdefault((namespace, pod), [0, 0])
        total[0] += stats.cpu_usage_core_nano_seconds
        total[1] += stats.memory_working_set_bytes
    pod_labels = {key: f'{{namespace="{key[0]}",pod="{key[1]}"}}' for key in pods}
    families = [
        ("container_cpu_usage_seconds_total", "counter", cpu),
        ("container_memory_working_set_bytes", "gauge", memory),
        ("node_cpu_usage_seconds_total", "counter", [("", node_cpu / _NANOSECONDS)]),
        ("node_memory_working_set_bytes", "gauge", [("", float(node_memory))]),
        ("pod_cpu_usage_seconds_total", "counter", [(pod_labels[k], v[0] / _NANOSECONDS) for k, v in pods.items()]),
        ("pod_memory_working_set_bytes", "gauge", [(pod_labels[k], float(v[1])) for k, v in pods.items()]),
    ]
    return "".join(_family(name, kind, samples) for name, kind, samples in families) + _family(
        "resource_scrape_error", "gauge", [("", 0.0)]
    )


def _family(name: str, kind: str, samples: list[tuple[str, float]]) -> str:
    lines = [f"# TYPE {name} {kind}\n"]
    lines += [
        f"{name}{labels} {value:g}\n" if value < 1e6 else f"{name}{labels} {value:.0f}\n" for labels, value in samples
    ]
    return "".join(lines)


def kubelet_metrics(kubelet: Kubelet) -> str:
    """`/metrics`: what the kubelet says of itself."""
    running = [pod for pod in kubelet.node.cache.pods.values() if pod.anything_alive()]
    containers = sum(len(pod.running()) for pod in running)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return "".join(
        [
            _family("kubelet_node_name", "gauge", [(f'{{node="{kubelet.options.node_name}"}}', 1.0)]),
            _family("kubelet_running_pods", "gauge", [("", float(len(running)))]),
            _family("kubelet_running_containers", "gauge", [('{container_state="running"}', float(containers))]),
            _family("kubelet_desired_pods", "gauge", [("", float(len(kubelet.workers)))]),
            _family("process_cpu_seconds_total", "counter", [("", usage.ru_utime + usage.ru_stime)]),
            _family("process_resident_memory_bytes", "gauge", [("", float(pages * os.sysconf("SC_PAGE_SIZE")))]),
        ]
    )
