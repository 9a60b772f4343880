"""`emptyDir` volumes on disk, in memory or on huge pages (https://kubernetes.io/docs/concepts/storage/volumes/#emptydir).

Huge pages: https://kubernetes.io/docs/tasks/manage-hugepages/scheduling-hugepages/.
"""

from __future__ import annotations

from pathlib import Path

from pinnace.kubelet.pods import all_containers
from pinnace.kubelet.volumes.context import VolumeContext, VolumeError
from pinnace.kubelet.volumes.mounts import is_mounted, mount_huge_pages, mount_tmpfs
from pinnace.kubelet.volumes.ownership import give_to_group
from pinnace.machinery.meta import Obj
from pinnace.machinery.quantity import Quantity

_HUGE_PAGES, _HUGE_PAGES_OF = "HugePages", "HugePages-"


async def set_up(context: VolumeContext, volume: Obj) -> Path:
    source = volume.get("emptyDir") or {}
    directory = context.directory("empty-dir", volume["name"])
    medium = source.get("medium") or ""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if medium and not is_mounted(directory):
            _mount(context, directory, medium, source.get("sizeLimit"))
        if directory.stat().st_mode & 0o777 != 0o777:
            directory.chmod(0o777)
        if context.fs_group is not None:
            give_to_group(directory, context.fs_group)
    except OSError as error:
        raise VolumeError(str(error)) from error
    return directory


def _mount(context: VolumeContext, directory: Path, medium: str, limit: object) -> None:
    if medium == "Memory":
        mount_tmpfs(directory, Quantity.parse(str(limit)).value() if limit else 0)
    elif medium == _HUGE_PAGES or medium.startswith(_HUGE_PAGES_OF):
        mount_huge_pages(directory, page_size(context.pod, medium))
    else:
        raise VolumeError(f'storage medium "{medium}" is not supported')


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
