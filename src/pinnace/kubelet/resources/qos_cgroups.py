"""The share of the CPU that classes of pods have: guaranteed ones each its own, burstable ones together what they asked
for, best-effort ones what nobody else wants. Where memory is kept for pods, it is kept for their classes.

What is written is pure (`class_limits`); `QosCgroups` writes what changed. Specified by
https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/ and
https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/#node-allocatable.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from pinnace.cri.api import LinuxContainerResources
from pinnace.kubelet.node.machine_info import has_unified_cgroups
from pinnace.kubelet.pods import BEST_EFFORT, BURSTABLE, qos_class, resource_requests
from pinnace.kubelet.resources.amounts import MIN_SHARES, cpu_shares
from pinnace.kubelet.resources.cgroups import CgroupManager
from pinnace.kubelet.resources.unified import MemoryQos, class_files
from pinnace.machinery.meta import Obj

_log = structlog.get_logger()


def class_shares(pods: Iterable[Obj], allocatable_cpu: int) -> dict[str, int]:
    """CPU shares by cgroup, of classes that have pods; `allocatable_cpu` in millicores, for all pods together."""
    pods = list(pods)
    if not pods:
        return {}
    shares = {"/kubepods": cpu_shares(allocatable_cpu)}
    burstable = [pod for pod in pods if qos_class(pod) == BURSTABLE]
    if burstable:
        asked = sum(resource_requests(pod).get("cpu", 0) for pod in burstable)
        shares["/kubepods/burstable"] = cpu_shares(asked)
    if any(qos_class(pod) == BEST_EFFORT for pod in pods):
        shares["/kubepods/besteffort"] = MIN_SHARES
    return shares


def class_limits(pods: Iterable[Obj], allocatable_cpu: int, qos: MemoryQos) -> dict[str, LinuxContainerResources]:
    """What cgroups of classes that have pods are limited to."""
    pods = list(pods)
    files = class_files(pods, qos)
    return {
        path: LinuxContainerResources(cpu_shares=shares, unified=files.get(path, {}))
        for path, shares in class_shares(pods, allocatable_cpu).items()
    }


class QosCgroups:
    """The cgroups of one node's classes, below a root."""

    def __init__(self, root: str, allocatable_cpu: int, qos: MemoryQos | None = None) -> None:
        self._root = root.rstrip("/")
        self._allocatable_cpu = allocatable_cpu
        self._qos = qos if qos and has_unified_cgroups() else MemoryQos()
        self._written: dict[str, LinuxContainerResources] = {}

    def apply(self, cgroups: CgroupManager | None, pods: Iterable[Obj]) -> None:
        """Write what changed since the last time; nothing where cgroups are not the kubelet's to make."""
        if cgroups is None:
            return
        wanted = class_limits(pods, self._allocatable_cpu, self._qos)
        for path, limits in wanted.items():
            if self._written.get(path) == limits:
                continue
            try:
                cgroups.create(self._root + path)
                cgroups.limit(self._root + path, limits)
            except OSError as error:
                _log.warning("cannot divide the machine among classes of pods", cgroup=path, error=str(error))
                return
        self._written = wanted
