"""Whose pod is evicted first: what pods use, and their order for each resource that is short.

Pure. Pods that use more than they asked for come first, then those of low priority, then those that use the most beyond
their requests (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#pod-selection-for-kubelet-eviction).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pinnace.kubelet.eviction.thresholds import MEMORY_SIGNALS, Signal
from pinnace.kubelet.pods import is_mirror, is_static, resource_requests
from pinnace.machinery.meta import Obj, uid_of

CRITICAL_PRIORITY = 2_000_000_000


class Disk(NamedTuple):
    """Bytes and inodes."""

    used: int = 0
    inodes: int = 0

    def __add__(self, other: object) -> Disk:
        return Disk(self.used + other.used, self.inodes + other.inodes) if isinstance(other, Disk) else NotImplemented


NOTHING = Disk()


@dataclass(slots=True, kw_only=True)
class ContainerUsage:
    """What one container uses."""

    name: str
    memory: int = 0  # bytes of its working set
    rootfs: Disk = NOTHING
    logs: Disk = NOTHING


@dataclass(slots=True, kw_only=True)
class PodUsage:
    """What one pod uses."""

    containers: list[ContainerUsage] = field(default_factory=list)
    volumes: dict[str, Disk] = field(default_factory=dict)  # the local ones
    processes: int = 0

    @property
    def memory(self) -> int:
        return sum(one.memory for one in self.containers)

    def disk(self, *, rootfs: bool = True, logs: bool = True, volumes: Iterable[str] = ()) -> Disk:
        """What was written by containers, to their logs, and to some volumes."""
        total = NOTHING
        for one in self.containers:
            total += (one.rootfs if rootfs else NOTHING) + (one.logs if logs else NOTHING)
        for name in volumes:
            total += self.volumes.get(name, NOTHING)
        return total


def is_critical(pod: Obj) -> bool:
    """Whether the node must not lose the pod: static ones, and those of a system priority class."""
    return is_static(pod) or is_mirror(pod) or priority(pod) >= CRITICAL_PRIORITY


def priority(pod: Obj) -> int:
    return int(pod["spec"].get("priority") or 0)


def local_volumes(pod: Obj) -> list[str]:
    """Volumes that take room of the node's own file system."""
    return [
        volume["name"]
        for volume in pod["spec"].get("volumes") or ()
        if "hostPath" in volume
        or "configMap" in volume
        or ("emptyDir" in volume and (volume["emptyDir"] or {}).get("medium") != "Memory")
    ]


def rank(
    pods: Iterable[Obj], usages: Mapping[str, PodUsage], signal: Signal, *, dedicated_image_fs: bool = False
) -> list[Obj]:
    """Pods in the order in which they are to be evicted; `usages` are by UID."""
    if signal is Signal.PID_AVAILABLE:
        return sorted(pods, key=lambda pod: _by_processes(pod, usages.get(uid_of(pod))))
    resource = signal.resource
    image_side = not signal.startswith("nodefs.")

    def key(pod: Obj) -> tuple[bool, bool, int, int]:
        usage = usages.get(uid_of(pod))
        if usage is None:
            return (False, False, priority(pod), 0)  # what nobody can measure goes first
        if signal in MEMORY_SIGNALS:
            used = usage.memory
        else:
            disk = _disk(pod, usage, image_side=image_side, dedicated_image_fs=dedicated_image_fs)
            used = disk.inodes if resource == "inodes" else disk.used
        asked = resource_requests(pod).get(resource, 0)
        return (True, used <= asked, priority(pod), asked - used)

    return sorted(pods, key=key)


def _by_processes(pod: Obj, usage: PodUsage | None) -> tuple[int, int]:
    return priority(pod), -(usage.processes if usage else 0)


def _disk(pod: Obj, usage: PodUsage, *, image_side: bool, dedicated_image_fs: bool) -> Disk:
    """What a pod has on the file system that is short."""
    if not dedicated_image_fs:
        return usage.disk(volumes=local_volumes(pod))
    if image_side:
        return usage.disk(logs=False)
    return usage.disk(rootfs=False, volumes=local_volumes(pod))
