"""The cgroups of pods as a whole: what they are limited to, and who makes them.

The kubelet makes a pod's cgroup before its sandbox, on any runtime; runtimes make those of containers below it.
Pure but for the protocol (https://kubernetes.io/docs/concepts/architecture/cgroups/, KEP-2837 for pods' own resources).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from pinnace.cri.api import HugepageLimit, LinuxContainerResources
from pinnace.kubelet.pods import (
    BEST_EFFORT,
    GUARANTEED,
    containers,
    init_containers,
    qos_class,
    resource_limits,
    resource_requests,
)
from pinnace.kubelet.resources.allocation import amounts
from pinnace.kubelet.resources.amounts import CPU_PERIOD, MIN_SHARES, cpu_quota, cpu_shares, page_name
from pinnace.machinery.meta import Obj

_PAGES = "hugepages-"


class MemoryUse(Protocol):
    @property
    def memory_working_set(self) -> int: ...


class CgroupManager(Protocol):
    """The machine's cgroups, by paths as a sandbox's `cgroup_parent` has them. Limits raise OSError when refused."""

    def create(self, path: str) -> list[str]: ...

    def limit(self, path: str, resources: LinuxContainerResources) -> None: ...

    def usage(self, path: str) -> MemoryUse: ...

    def counters(self, path: str) -> Mapping[str, Mapping[str, int]]: ...

    def remove_if_empty(self, path: str) -> None: ...

    def missing(self, path: str) -> list[str]: ...


def limit_together(cgroups: CgroupManager, path: str, limits: LinuxContainerResources) -> None:
    """Limit a cgroup that holds those of others. Raises OSError.

    Each of them has its own limit of swap space, and where memory runs out here, the kernel ends one of them and not
    all.
    """
    if limits.memory_limit_in_bytes:
        limits = replace(limits, memory_swap_limit_in_bytes=-1, unified={**limits.unified, "memory.oom.group": "0"})
    cgroups.limit(path, limits)


def pod_resources(
    pod: Obj, pids_limit: int = 0, page_sizes: Iterable[str] = (), *, quotas: bool = True
) -> LinuxContainerResources:
    """The limits of a pod's cgroup; a resource that some container may use without limit has none (0).

    `page_sizes` are the machine's (`hugepages-2Mi`): of those that the pod does not ask for, it gets none. Without
    `quotas` limits of CPU time are not enforced.
    """
    quality = qos_class(pod)
    requests, limits = resource_requests(pod), resource_limits(pod)
    pages = dict.fromkeys(page_sizes, 0) | {name: size for name, size in requests.items() if name.startswith(_PAGES)}
    page_limits = [HugepageLimit(page_size=page_name(name), limit=size) for name, size in sorted(pages.items())]
    if quality == BEST_EFFORT:
        return LinuxContainerResources(cpu_shares=MIN_SHARES, pids_limit=pids_limit, hugepage_limits=page_limits)
    declared = {name for name in ("cpu", "memory") if quality == GUARANTEED or _all_limited(pod, name)}
    quota = cpu_quota(limits.get("cpu", 0)) if quotas and "cpu" in declared else 0
    return LinuxContainerResources(
        cpu_shares=cpu_shares(requests.get("cpu", 0)),
        cpu_quota=quota,
        cpu_period=CPU_PERIOD if quota else 0,
        memory_limit_in_bytes=limits.get("memory", 0) if "memory" in declared else 0,
        pids_limit=pids_limit,
        hugepage_limits=page_limits,
    )


def _all_limited(pod: Obj, resource: str) -> bool:
    if amounts(pod["spec"].get("resources"), "limits").get(resource):
        return True
    return all(
        amounts(container.get("resources"), "limits").get(resource)
        for container in (*init_containers(pod), *containers(pod))
    )
