"""The kubelet's `/metrics/resource` and `/metrics`: what the node and its containers use, and what the kubelet does.

Figures come from the runtime and /proc; names are those that metrics-server and Prometheus read
(https://kubernetes.io/docs/reference/instrumentation/node-metrics/).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pinnace.client import measures as client_measures
from pinnace.cri.api import ContainerStats, CriError
from pinnace.kubelet.admission.preemption import preemptions
from pinnace.kubelet.certificates import lives
from pinnace.kubelet.eviction.manager import evictions
from pinnace.kubelet.pods import (
    LABEL_CONTAINER_NAME,
    LABEL_POD_NAME,
    LABEL_POD_NAMESPACE,
    ephemeral_containers,
    is_static,
)
from pinnace.kubelet.statistics import claimed_volumes, measures, volume_measures
from pinnace.kubelet.sync.pod_worker import PodWorker, Stage
from pinnace.machinery.meta import Obj
from pinnace.machinery.metrics import Collected, Family, constant, number, text
from pinnace.wire.process_metrics import process_families

if TYPE_CHECKING:
    from pinnace.kubelet.kubelet import Kubelet
    from pinnace.kubelet.topology.cpu_manager import CpuManager

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


def swap_usage() -> int | None:
    """Bytes of swap space in use; None where there is none."""
    found = dict.fromkeys(("SwapTotal", "SwapFree"), 0)
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value.split()[0]) * 1024
    return found["SwapTotal"] - found["SwapFree"] if found["SwapTotal"] else None


async def resource_metrics(kubelet: Kubelet) -> str:
    """`/metrics/resource`: CPU and memory of containers, pods and the node."""
    failed = False
    try:
        found = await kubelet.node.runtime.list_container_stats()
    except (CriError, OSError):
        found, failed = [], True
    began = {one.id: one.started_at for pod in kubelet.node.cache.pods.values() for one in pod.containers}
    return resource_text(found, *node_usage(), swap=swap_usage(), began=began, failed=failed)


def resource_text(
    found: Iterable[ContainerStats],
    node_cpu: int,
    node_memory: int,
    *,
    swap: int | None = None,
    began: Mapping[str, int] | None = None,
    failed: bool = False,
) -> str:
    """The same from figures: of the node, nanoseconds of CPU and bytes. Samples say when they were taken.

    `began` is when containers did, in nanoseconds since 1970; `swap` is None where there is none.
    """
    starts: list[_Taken] = []
    cpu: list[_Taken] = []
    memory: list[_Taken] = []
    pods: dict[tuple[str, str], list[int]] = {}
    for stats in found:
        namespace, pod = stats.labels.get(LABEL_POD_NAMESPACE, ""), stats.labels.get(LABEL_POD_NAME, "")
        name = stats.labels.get(LABEL_CONTAINER_NAME, stats.metadata.name)
        labels = f'{{container="{name}",namespace="{namespace}",pod="{pod}"}}'
        cpu.append((labels, stats.cpu_usage_core_nano_seconds / _NANOSECONDS, stats.timestamp))
        memory.append((labels, stats.memory_working_set_bytes, stats.timestamp))
        if (began or {}).get(stats.id):
            starts.append((labels, (began or {})[stats.id] / _NANOSECONDS, stats.timestamp))
        total = pods.setdefault((namespace, pod), [0, 0, stats.timestamp])
        total[0] += stats.cpu_usage_core_nano_seconds
        total[1] += stats.memory_working_set_bytes
    sums = [(f'{{namespace="{key[0]}",pod="{key[1]}"}}', total) for key, total in pods.items()]
    now = time.time_ns()
    families: list[tuple[str, str, list[_Taken]]] = [
        ("container_cpu_usage_seconds_total", "counter", cpu),
        ("container_memory_working_set_bytes", "gauge", memory),
        ("node_cpu_usage_seconds_total", "counter", [("", node_cpu / _NANOSECONDS, now)]),
        ("container_start_time_seconds", "gauge", starts),
        ("node_memory_working_set_bytes", "gauge", [("", node_memory, now)]),
        ("node_swap_usage_bytes", "gauge", [] if swap is None else [("", swap, now)]),
        ("pod_cpu_usage_seconds_total", "counter", [(pod, used / _NANOSECONDS, when) for pod, (used, _, when) in sums]),
        ("pod_memory_working_set_bytes", "gauge", [(pod, held, when) for pod, (_, held, when) in sums]),
    ]
    texts = [_family(name, kind, samples) for name, kind, samples in families if samples]
    errors = [_family(name, "gauge", [("", int(failed), 0)]) for name in ("resource_scrape_error", "scrape_error")]
    return "".join([*texts, *errors])


_Taken = tuple[str, float, int]
"""Labels, value, and nanoseconds since 1970; 0 where that is not told."""


def _family(name: str, kind: str, samples: list[_Taken]) -> str:
    lines = [f"# TYPE {name} {kind}\n"]
    for labels, value, moment in samples:
        taken = f" {moment // 1_000_000}" if moment else ""
        lines.append(f"{name}{labels} {number(value)}{taken}\n")
    return "".join(lines)


def kubelet_metrics(kubelet: Kubelet) -> str:
    """`/metrics`: what the kubelet says of itself, and of the volumes of claims."""
    options = kubelet.options
    counted = [
        *measures.families(),
        *volume_measures.families(),
        evictions,
        preemptions,
        *lives.families(),
        *providers_families(),
    ]
    process = process_families(options.kubernetes_version, options.features.table())
    return text(
        [
            *process,
            *client_measures.families(),
            *counted,
            *_now(kubelet),
            *cpu_families(kubelet.node.managers.cpu),
            *claimed_volumes.families(kubelet.claimed_volumes.found),
        ]
    )


def providers_families() -> list[Family]:
    """Of the plugins that know credentials, where there are any."""
    import sys

    found = sys.modules.get("pinnace.kubelet.images.providers")
    return [found.errors, found.durations] if found is not None else []


def _now(kubelet: Kubelet) -> list[Family]:
    """What is as it is now."""
    alive = [pod for pod in kubelet.node.cache.pods.values() if pod.anything_alive()]
    states = Counter[str]()
    for runtime in kubelet.node.cache.pods.values():
        states.update(status.state.value.removeprefix("CONTAINER_").lower() for status in runtime.containers)
    workers = list(kubelet.workers.values())
    desired = Counter(_static(worker.pod) for worker in workers if not worker.gone)
    active = Counter(_static(worker.pod) for worker in workers if worker.admitted and worker.stage is Stage.SYNCING)
    working: Counter[tuple[str, ...]] = Counter(
        (_config(worker), _LIFECYCLES[worker.stage], _static(worker.pod)) for worker in workers
    )
    volumes = _volumes(workers)
    ephemeral = sum(len(ephemeral_containers(worker.pod)) for worker in workers)
    return [
        constant("gauge", "kubelet_node_name", "The node's name. The count is always 1.", _node(kubelet)),
        constant("gauge", "kubelet_running_pods", "Number of pods that have a running pod sandbox", {}, len(alive)),
        _counted(
            "kubelet_running_containers",
            "Number of containers currently running",
            ("container_state",),
            {(state,): count for state, count in states.items()},
        ),
        _counted(
            "kubelet_desired_pods",
            "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the "
            "apiserver.",
            ("static",),
            {(static,): desired[static] for static in _BOTH},
        ),
        _counted(
            "kubelet_active_pods",
            "The number of pods the kubelet considers active and which are being considered when admitting new pods. "
            "static is true if the pod is not from the apiserver.",
            ("static",),
            {(static,): active[static] for static in _BOTH},
        ),
        _counted(
            "kubelet_working_pods",
            "Number of pods the kubelet is actually running, broken down by lifecycle phase, whether the pod is "
            "desired, orphaned, or runtime only (also orphaned), and whether the pod is static. An orphaned pod has "
            "been removed from local configuration or force deleted in the API and consumes resources that are not "
            "otherwise visible.",
            ("config", "lifecycle", "static"),
            working,
        ),
        constant(
            "gauge",
            "kubelet_mirror_pods",
            "The number of mirror pods the kubelet will try to create (one per admitted static pod)",
            {},
            desired["true"],
        ),
        _counted(
            "volume_manager_total_volumes", "Number of volumes in Volume Manager", ("plugin_name", "state"), volumes
        ),
        constant(
            "gauge",
            "kubelet_managed_ephemeral_containers",
            "Current number of ephemeral containers in pods managed by this kubelet.",
            {},
            ephemeral,
        ),
    ]


_BOTH = ("true", "false")
_LIFECYCLES = {
    Stage.SYNCING: "sync",
    Stage.TERMINATING: "terminating",
    Stage.TERMINATED: "terminated",
    Stage.FINISHED: "terminated",
}


def _static(pod: Obj) -> str:
    return "true" if is_static(pod) else "false"


def _config(worker: PodWorker) -> str:
    """Whether somebody wishes for a worker's pod; one that was found in the runtime alone has no labels of the API."""
    return "orphan" if worker.gone else "desired"


def cpu_families(manager: CpuManager | None) -> list[Family]:
    """How CPUs are shared, where some may be a container's own."""
    if manager is None:
        return []
    taken, by_node = manager.exclusive, manager.topology
    counts: dict[tuple[str, ...], int] = {
        (str(node),): len(taken & by_node.of_numa([node])) for node in by_node.numa_nodes
    }
    about = "The total number of CPUs exclusively allocated to containers running on this node"
    shared = "The size of the shared CPU pool for non-guaranteed QoS pods, in millicores."
    size = 1000 * len(manager.shared - manager.reserved)
    return [
        constant("gauge", "kubelet_cpu_manager_exclusive_cpu_allocation_count", about, {}, len(taken)),
        constant("gauge", "kubelet_cpu_manager_shared_pool_size_millicores", shared, {}, size),
        _counted(
            "kubelet_cpu_manager_allocation_per_numa", "Number of CPUs allocated per NUMA node", ("numa_node",), counts
        ),
    ]


def _volumes(workers: Iterable[PodWorker]) -> Counter[tuple[str, ...]]:
    """How many there are of each plugin, as pods want them and as they are."""
    found: Counter[tuple[str, ...]] = Counter()
    for worker in workers:
        wanted, ready = worker.plugins_of_volumes()
        found.update((plugin, "desired_state_of_world") for plugin in wanted)
        found.update((plugin, "actual_state_of_world") for plugin in ready)
    return found


def _counted(name: str, about: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], int]) -> Family:
    return Collected("gauge", name, about, labels, lambda: sorted(values.items()))


def _node(kubelet: Kubelet) -> dict[str, str]:
    return {"node": kubelet.options.node_name}
