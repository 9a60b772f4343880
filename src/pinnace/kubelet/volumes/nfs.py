"""`nfs` volumes, mounted by the machine's `mount.nfs` (https://kubernetes.io/docs/concepts/storage/volumes/#nfs)."""

from __future__ import annotations

import contextlib
import ipaddress
from pathlib import Path

from pinnace.kubelet.go_words import os_error
from pinnace.kubelet.volumes import programs
from pinnace.kubelet.volumes.context import VolumeContext, VolumeError
from pinnace.kubelet.volumes.mounts import mounted_below
from pinnace.machinery.meta import Obj, name_of

PLUGIN = "nfs"
_UNMOUNT_SECONDS = 60.0  # for a server that does not answer


async def set_up(context: VolumeContext, volume: Obj) -> Path:
    """One that the pod names itself."""
    source = volume["nfs"]
    return await _mount(context, volume["name"], source, ["ro"] if source.get("readOnly") else [])


async def set_up_persistent(context: VolumeContext, volume: Obj, persistent: Obj) -> Path:
    read_only = (volume.get("persistentVolumeClaim") or {}).get("readOnly")
    options = programs.joined(persistent["spec"].get("mountOptions") or (), ["ro"] if read_only else ())
    return await _mount(context, name_of(persistent), persistent["spec"]["nfs"], options)


def export(source: Obj) -> str:
    """`server:/path`, with an IPv6 address in brackets."""
    server = source["server"]
    with contextlib.suppress(ValueError):
        server = f"[{server}]" if ipaddress.ip_address(server).version == 6 else server
    return f"{server}:{source['path']}"


async def _mount(context: VolumeContext, name: str, source: Obj, options: list[str]) -> Path:
    target = context.directory(PLUGIN, name)
    if mounted_below(target):
        return target
    try:
        target.mkdir(parents=True, exist_ok=True, mode=0o750)
    except OSError as error:
        raise VolumeError(os_error(error)) from error
    try:
        await programs.mount(export(source), target, "nfs", options)
    except VolumeError:
        with contextlib.suppress(OSError):
            target.rmdir()
        raise
    return target


async def tear_down(pods_dir: Path, uid: str) -> None:
    """Unmount a pod's, by force where the server does not answer. Raises VolumeError: try again."""
    for target in mounted_below(pods_dir / uid / "volumes" / f"kubernetes.io~{PLUGIN}"):
        try:
            try:
                await programs.run("umount", str(target), timeout=_UNMOUNT_SECONDS)
            except TimeoutError:
                await programs.run("umount", "-f", str(target), timeout=_UNMOUNT_SECONDS)
        except (TimeoutError, programs.ProgramError) as error:
            output = getattr(error, "output", "")
            what = f"Unmounting arguments: {target}\nOutput: {output}"
            raise VolumeError(f"unmount failed: {error or 'timed out'}\n{what}") from error
