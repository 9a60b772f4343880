"""The share of the CPU that classes of pods have: guaranteed ones each its own, burstable ones together what they asked
for, best-effort ones what nobody else wants.

Which shares is pure (`class_shares`); `QosCgroups` writes those that changed. Specified by
https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/ and
https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/#node-allocatable.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from pinnace.cri.api import LinuxContainerResources
from pinnace.kubelet.pods import BEST_EFFORT, BURSTABLE, qos_class, resource_requests
from pinnace.kubelet.resources.amounts import MIN_SHARES, cpu_shares
from pinnace.kubelet.resources.cgroups import CgroupManager
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


class QosCgroups:
    """The cgroups of one node's classes, below a root."""

    def __init__(self, root: str, allocatable_cpu: int) -> None:
        self._root = root.rstrip("/")
        self._allocatable_cpu = allocatable_cpu
        self._written: dict[str, int] = {}

    def apply(self, cgroups: CgroupManager | None, pods: Iterable[Obj]) -> None:
        """Write what changed since the last time; nothing where cgroups are not the kubelet's to make."""
        if cgroups is None:
            return
        wanted = class_shares(pods, self._allocatable_cpu)
        for path, shares in wanted.items():
            if self._written.get(path) == shares:
                continue
            try:
                cgroups.create(self._root + path)
                cgroups.limit(self._root + path, LinuxContainerResources(cpu_shares=shares))
            except OSError as error:
                _log.warning("cannot divide the CPU among classes of pods", cgroup=path, error=str(error))
                return
        self._written = wanted
