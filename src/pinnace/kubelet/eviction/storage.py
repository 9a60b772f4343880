"""Pods that write more to the node's disk than they are allowed: emptyDir's sizeLimit, limits of ephemeral-storage.

Pure. Specified by
https://kubernetes.io/docs/concepts/storage/ephemeral-storage/#resource-emphemeralstorage-consumption.
"""

from __future__ import annotations

from typing import NamedTuple

from pinnace.kubelet.eviction.ranking import PodUsage
from pinnace.kubelet.pods import amount_of, containers, init_containers, is_sidecar
from pinnace.machinery.meta import Obj
from pinnace.machinery.quantity import Quantity

RESOURCE = "ephemeral-storage"


class Excess(NamedTuple):
    """A limit that was passed: its signal in metrics, and the message."""

    signal: str
    message: str


def is_limited(pod: Obj) -> bool:
    """Whether there is any limit that the pod could pass."""
    return bool(_size_limits(pod)) or bool(_limits(pod))


def excess(pod: Obj, usage: PodUsage, *, dedicated_image_fs: bool = False) -> Excess | None:
    """The first limit that a pod has passed."""
    for name, limit in _size_limits(pod).items():
        if name in usage.volumes and usage.volumes[name].used > limit.value():
            return Excess("emptydirfs.limit", f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". ')
    limits = _limits(pod)
    total = pod_limit(pod)
    if total is not None:
        used = usage.disk(rootfs=not dedicated_image_fs, volumes=ephemeral_volumes(pod)).used
        if used > total.value():
            message = f"Pod ephemeral local storage usage exceeds the total limit of containers {total}. "
            return Excess("ephemeralpodfs.limit", message)
    for one in usage.containers:
        written = one.logs.used + (0 if dedicated_image_fs else one.rootfs.used)
        if one.name in limits and written > limits[one.name].value():
            message = f'Container {one.name} exceeded its local ephemeral storage limit "{limits[one.name]}". '
            return Excess("ephemeralcontainerfs.limit", message)
    return None


def _size_limits(pod: Obj) -> dict[str, Quantity]:
    found = {}
    for volume in pod["spec"].get("volumes") or ():
        limit = (volume.get("emptyDir") or {}).get("sizeLimit")
        if limit is not None and Quantity.parse(str(limit)).amount > 0:
            found[volume["name"]] = Quantity.parse(str(limit))
    return found


def _limits(pod: Obj) -> dict[str, Quantity]:
    """Limits of ephemeral-storage of containers that run along with the others."""
    found = {}
    for container in (*filter(is_sidecar, init_containers(pod)), *containers(pod)):
        text = ((container.get("resources") or {}).get("limits") or {}).get(RESOURCE)
        if text is not None and amount_of(RESOURCE, text) > 0:
            found[container["name"]] = Quantity.parse(str(text))
    return found


def pod_limit(pod: Obj) -> Quantity | None:
    """What all containers together may write; the largest initial one counts where it may write more."""
    limits = _limits(pod)
    own = [text for one in init_containers(pod) if not is_sidecar(one) and (text := _limit(one)) is not None]
    if not limits and not own:
        return None
    total = Quantity(0)
    for limit in limits.values():
        total += limit
    return max([total, *own])


def _limit(container: Obj) -> Quantity | None:
    text = ((container.get("resources") or {}).get("limits") or {}).get(RESOURCE)
    return None if text is None else Quantity.parse(str(text))


def ephemeral_volumes(pod: Obj) -> list[str]:
    """Volumes on the node's disk that live as long as the pod."""
    return [
        volume["name"]
        for volume in pod["spec"].get("volumes") or ()
        if "configMap" in volume
        or "gitRepo" in volume
        or ("emptyDir" in volume and (volume["emptyDir"] or {}).get("medium") != "Memory")
    ]
