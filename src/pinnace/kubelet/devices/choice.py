"""Which devices a container gets: pure (https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/).

Devices that the pod's init containers held come first, then those of the NUMA nodes that the topology manager chose,
then any other that is healthy and free.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

Numa = frozenset[int]
"""The NUMA nodes that a device is near to; empty where it does not matter."""


class Unavailable(Exception):
    """There are not enough devices; the text is that of the kubelet's event."""


def candidates(
    resource: str, healthy: Mapping[str, Numa], taken: Collection[str], reusable: Collection[str], needed: int
) -> tuple[list[str], list[str]]:
    """Devices that the container gets in any case, and those among which the rest is chosen. Raises Unavailable."""
    first = sorted(device for device in reusable if device in healthy)[:needed]
    free = sorted(device for device in healthy if device not in taken and device not in first)
    if len(first) + len(free) < needed:
        available = len(first) + len(free)
        raise Unavailable(
            f"requested number of devices unavailable for {resource}. Requested: {needed}, Available: {available}"
        )
    return first, free


def aligned(free: Iterable[str], healthy: Mapping[str, Numa], affinity: Numa | None) -> tuple[list[str], list[str]]:
    """Free devices that are near to the chosen NUMA nodes, and all others."""
    listed = list(free)
    if affinity is None:
        return listed, []
    near = [device for device in listed if healthy[device] & affinity]
    return near, [device for device in listed if device not in set(near)]


def pick(
    first: list[str], free: list[str], healthy: Mapping[str, Numa], affinity: Numa | None, needed: int
) -> list[str]:
    """As many devices as are needed, the best first."""
    near, others = aligned(free, healthy, affinity)
    return [*first, *near, *others][:needed]
