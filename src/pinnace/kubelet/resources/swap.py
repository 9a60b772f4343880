"""How much swap space a container may use: none, or a share by its memory request (`memorySwap.swapBehavior`); pure.

https://kubernetes.io/docs/concepts/cluster-administration/swap-memory-management/ (KEP-2400). Only cgroups of version 2
can limit it by itself.
"""

from __future__ import annotations

from pinnace.kubelet.pods import BURSTABLE, qos_class
from pinnace.kubelet.resources.allocation import amounts
from pinnace.kubelet.resources.amounts import CRITICAL_PRIORITY
from pinnace.machinery.meta import Obj

NO_SWAP, LIMITED_SWAP = "NoSwap", "LimitedSwap"
BEHAVIORS = (NO_SWAP, LIMITED_SWAP)


def swap_limit(pod: Obj, container: Obj, behavior: str, memory: int, swap: int) -> int:
    """Bytes, of a node with so much memory and swap space."""
    if behavior != LIMITED_SWAP or not memory or not may_swap(pod, container):
        return 0
    return amounts(container.get("resources"), "requests").get("memory", 0) * swap // memory


def may_swap(pod: Obj, container: Obj) -> bool:
    """Burstable pods alone may, where they are not critical, and containers that can grow beyond their request."""
    if qos_class(pod) != BURSTABLE or (pod["spec"].get("priority") or 0) >= CRITICAL_PRIORITY:
        return False
    request = amounts(container.get("resources"), "requests").get("memory", 0)
    return request > 0 and request != amounts(container.get("resources"), "limits").get("memory")
