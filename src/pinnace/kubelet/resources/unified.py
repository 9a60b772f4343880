"""What is written to a container's cgroup of version 2 beside its limits: whom the OOM killer takes along, where
memory is throttled (`memory.high`) or kept for it (`memory.min`, `memory.low`). Pure.

https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/#memory-qos-with-cgroup-v2, KEP-2570, and for
`singleProcessOOMKill` https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/ specify it.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass

from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.pods import BURSTABLE, GUARANTEED, qos_class, resource_requests
from pinnace.kubelet.resources.allocation import amounts
from pinnace.machinery.meta import Obj

TIERED_RESERVATION = "TieredReservation"
_FORMER_FACTOR = 0.9  # what the throttling factor was by default before 1.37


@dataclass(frozen=True, slots=True)
class MemoryQos:
    """How a node treats its pods' memory; as it is by default, it does nothing."""

    factor: float | None = None  # of what lies between a container's request and its limit: throttled from there on
    reserved: bool = False  # what containers request is kept for them
    tiered: bool = True  # ... only softly for burstable ones


def memory_qos(options: KubeletOptions) -> MemoryQos:
    """As configured; the defaults were others when the feature was alpha."""
    if not options.features.enabled("MemoryQoS"):
        return MemoryQos()
    factor = options.memory_throttling_factor
    if factor is None and options.minor < 37:
        factor = _FORMER_FACTOR
    if options.minor < 36:
        return MemoryQos(factor, reserved=True, tiered=False)
    return MemoryQos(factor, reserved=options.memory_reservation_policy == TIERED_RESERVATION)


def container_files(
    pod: Obj, container: Obj, qos: MemoryQos, *, allocatable_memory: int, single_process_oom_kill: bool
) -> dict[str, str]:
    """File -> what is written to it; `allocatable_memory` is the node's, in bytes."""
    request = amounts(container.get("resources"), "requests").get("memory", 0)
    limit = amounts(container.get("resources"), "limits").get("memory", 0)
    found = {} if single_process_oom_kill else {"memory.oom.group": "1"}
    found |= _protection(pod, request or limit, qos)
    if qos.factor is not None and qos_class(pod) != GUARANTEED:
        high = int(request + qos.factor * ((limit or allocatable_memory) - request)) // mmap.PAGESIZE * mmap.PAGESIZE
        if high > request and (limit != request or not limit):
            found["memory.high"] = str(high)
    return found


def pod_files(pod: Obj, qos: MemoryQos) -> dict[str, str]:
    """The same for the cgroup of the whole pod: what is kept for containers must be kept for what they are in."""
    return _protection(pod, resource_requests(pod).get("memory", 0), qos)


def class_files(pods: Iterable[Obj], qos: MemoryQos) -> dict[str, dict[str, str]]:
    """The same for the cgroups of classes of pods, by path."""
    if not qos.reserved:
        return {}
    asked = {GUARANTEED: 0, BURSTABLE: 0}
    for pod in pods:
        quality = qos_class(pod)
        if quality in asked:
            asked[quality] += resource_requests(pod).get("memory", 0)
    return {
        "/kubepods": {"memory.min": str(sum(asked.values()))},
        "/kubepods/burstable": {"memory.low" if qos.tiered else "memory.min": str(asked[BURSTABLE])},
    }


def _protection(pod: Obj, amount: int, qos: MemoryQos) -> dict[str, str]:
    if not qos.reserved or not amount:
        return {}
    soft = qos.tiered and qos_class(pod) == BURSTABLE
    return {"memory.low" if soft else "memory.min": str(amount)}
