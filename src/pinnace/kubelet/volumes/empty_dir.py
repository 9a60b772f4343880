"""`emptyDir` volumes on disk, in memory or on huge pages (https://kubernetes.io/docs/concepts/storage/volumes/#emptydir).

Huge pages: https://kubernetes.io/docs/tasks/manage-hugepages/scheduling-hugepages/.
"""

from __future__ import annotations

from pathlib import Path

from pinnace.kubelet.go_words import os_error
from pinnace.kubelet.pods import all_containers
from pinnace.kubelet.resources.cgroups import pod_resources
from pinnace.kubelet.volumes.context import VolumeContext, VolumeError
from pinnace.kubelet.volumes.mounts import is_mounted, mount_huge_pages, mount_tmpfs
from pinnace.kubelet.volumes.ownership import give_to_group
from pinnace.machinery.meta import Obj, uid_of
from pinnace.machinery.quantity import Quantity

_HUGE_PAGES, _HUGE_PAGES_OF = "HugePages", "HugePages-"


async def set_up(context: VolumeContext, volume: Obj) -> Path:
    source = volume.get("emptyDir") or {}
    directory = context.directory("empty-dir", volume["name"])
    medium = source.get("medium") or ""
    made = context.pods_dir / uid_of(context.pod) / "plugins" / "kubernetes.io~empty-dir" / volume["name"] / "ready"
    try:
        if made.exists() and (is_mounted(directory) if medium else directory.exists()):
            return directory  # containers may have changed whose it is
        directory.mkdir(parents=True, exist_ok=True)
        if medium and not is_mounted(directory):
            _mount(context, directory, medium, source.get("sizeLimit"))
        if directory.stat().st_mode & 0o777 != 0o777:
            directory.chmod(0o777)  # else one in memory stays sticky, as it was made
        if context.fs_group is not None:
            give_to_group(directory, context.fs_group)
        made.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        made.touch()
    except OSError as error:
        raise VolumeError(os_error(error)) from error
    return directory


def _mount(context: VolumeContext, directory: Path, medium: str, limit: object) -> None:
    if medium == "Memory":
        mount_tmpfs(directory, memory_size(context.pod, limit, context.facts.allocatable.get("memory", 0)))
    elif medium == _HUGE_PAGES or medium.startswith(_HUGE_PAGES_OF):
        mount_huge_pages(directory, page_size(context.pod, medium))
    else:
        raise VolumeError(f'storage medium "{medium}" is not supported')


def memory_size(pod: Obj, limit: object, allocatable: int) -> int:
    """Bytes that a volume in memory may take: what it or its pod is limited to, at most what the node gives to pods."""
    own = Quantity.parse(str(limit)).value() if limit else 0
    return min((size for size in (own, pod_resources(pod).memory_limit_in_bytes, allocatable) if size > 0), default=0)


def page_size(pod: Obj, medium: str) -> int:
    """Bytes of a page: of the medium's name, or of the only size that containers ask for. Raises VolumeError."""
    asked = {
        Quantity.parse(name.removeprefix("hugepages-")).value()
        for container in all_containers(pod)
        for name in (container.get("resources") or {}).get("requests") or {}
        if name.startswith("hugepages-")
    }
    if medium != _HUGE_PAGES:
        size = Quantity.parse(medium.removeprefix(_HUGE_PAGES_OF)).value()
        if size not in asked:
            text = Quantity.parse(medium.removeprefix(_HUGE_PAGES_OF))
            raise VolumeError(f"medium {text} was not found in the pod's huge page resources")
        return size
    if not asked:
        raise VolumeError("hugePages storage requested, but there is no resource request for huge pages")
    if len(asked) > 1:
        raise VolumeError("medium HugePages can't be used if container requests multiple huge page sizes")
    return asked.pop()
