"""What a hollow node and its pods use, as `/stats/summary` shows it: the CPU and the memory that metrics-server reads.

The shape is stats/v1alpha1 (https://kubernetes.io/docs/reference/instrumentation/node-metrics/).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime

from pinnace.cri.api import ContainerStats
from pinnace.kubelet.pods import LABEL_CONTAINER_NAME, LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID
from pinnace.machinery.meta import Obj, format_time

_NANOSECONDS = 1_000_000_000


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
