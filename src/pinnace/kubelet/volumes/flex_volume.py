"""`flexVolume` volumes, of drivers that are programs in the kubelet's `--volume-plugin-dir`.

A driver that does not say `"attach": false` is called for a disk first, on this node: to attach it, to wait for it and
to mount it once for all pods; and when no pod has it any more, to unmount and to detach it. What a driver does not
support is done for it, or is not needed.
https://github.com/kubernetes/community/blob/master/contributors/devel/sig-storage/flexvolume.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pinnace.apis.resources import SECRETS
from pinnace.kubelet.go_words import os_error
from pinnace.kubelet.volumes import programs
from pinnace.kubelet.volumes.context import UnprocessedError, VolumeContext, VolumeError
from pinnace.kubelet.volumes.disks import Disks, is_mounted_at, known_of, mount_disk
from pinnace.kubelet.volumes.mounts import bind, mounted_below, unmount_below
from pinnace.kubelet.volumes.ownership import give_to_group
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, name_of, namespace_of, uid_of

PLUGIN = "flexvolume"  # the directory of what is attached
_UNSUPPORTED = "Not supported"


class UnsupportedError(VolumeError):
    """The driver leaves that call to us."""


# Decisions.


def program_of(directory: Path, driver: str) -> Path:
    """`vendor/driver` is in a directory `vendor~driver`."""
    return directory / driver.replace("/", "~") / driver.rpartition("/")[2]


def plugin_of(driver: str) -> str:
    """The part of the volume's path that tells its driver."""
    return driver.replace("/", "~")


def disk_options(name: str, source: Obj, *, read_only: bool) -> dict[str, str]:
    """What a driver is told of a disk, as JSON; the pod's author may overrule it."""
    return {
        "kubernetes.io/fsType": source.get("fsType") or "",
        "kubernetes.io/readwrite": "ro" if read_only else "rw",
        "kubernetes.io/pvOrVolumeName": name,
    } | (source.get("options") or {})


def options_of(pod: Obj, name: str, source: Obj, secret: Mapping[str, str], *, read_only: bool) -> dict[str, str]:
    """What it is told of a volume of a pod; the same holds."""
    told = disk_options(name, {"fsType": source.get("fsType")}, read_only=read_only) | {
        "kubernetes.io/pod.name": name_of(pod),
        "kubernetes.io/pod.namespace": namespace_of(pod),
        "kubernetes.io/pod.uid": uid_of(pod),
        "kubernetes.io/serviceAccount.name": pod["spec"].get("serviceAccountName") or "",
        **{f"kubernetes.io/secret/{key}": text for key, text in secret.items()},
    }
    group = get_in(pod, "spec", "securityContext", "fsGroup")
    if group is not None:
        told["kubernetes.io/fsGroup"] = str(group)
    return told | (source.get("options") or {})


def answer_of(command: str, output: str) -> dict[str, Any]:
    """A driver's answer. Raises VolumeError where it is no success."""
    try:
        answer = json.loads(output)
        status = answer["status"]
    except (ValueError, KeyError, TypeError) as error:
        raise VolumeError(f"failed to unmarshal output for command: {command}, output: {output!r}") from error
    if status == _UNSUPPORTED:
        raise UnsupportedError(_UNSUPPORTED)
    if status != "Success":
        reason = answer.get("message") or ""
        raise VolumeError(f"{command} command failed, status: {status}, reason: {reason}")
    return dict(answer)


# Doing it.


async def set_up(context: VolumeContext, volume: Obj) -> Path:
    """One that the pod names itself."""
    source = volume["flexVolume"]
    name = volume["name"]
    disk = f"{uid_of(context.pod)}~{name}"  # names of volumes are a pod's own
    wanted = _Wanted(name, source, disk, namespace_of(context.pod), bool(source.get("readOnly")))
    return await _mount(context, wanted)


async def set_up_persistent(context: VolumeContext, volume: Obj, persistent: Obj) -> Path:
    source = persistent["spec"]["flexVolume"]
    namespace = get_in(source, "secretRef", "namespace") or namespace_of(context.pod)
    read_only = bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
    name = name_of(persistent)
    return await _mount(context, _Wanted(name, source, name, namespace, read_only))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A volume to be made ready for a pod."""

    name: str
    source: Obj
    disk: str  # the name of what is attached, on this node
    namespace: str  # of its secret
    read_only: bool


async def _mount(context: VolumeContext, wanted: _Wanted) -> Path:
    driver, name = wanted.source["driver"], wanted.name
    target = context.pods_dir / uid_of(context.pod) / "volumes" / plugin_of(driver) / name
    if mounted_below(target):
        return target
    program = program_of(context.disks.flex_drivers, driver)
    if not program.exists():
        raise UnprocessedError(f'failed to get Plugin from volumeSpec for volume "{name}" err=no volume plugin matched')
    can = (await _call(program, "init")).get("capabilities") or {}
    if not can.get("attach", True):
        return await _give(context, wanted, program, target, None, group=bool(can.get("fsGroup", True)))
    place = _place(context.disks, driver, wanted.disk)
    async with context.disks.locks[place.name]:  # until the pod has it: who has none lets it go
        await _attach(context, wanted, program, place)
        return await _give(context, wanted, program, target, place, group=bool(can.get("fsGroup", True)))


def _place(disks: Disks, driver: str, disk: str) -> Path:
    """Where a disk is mounted for all pods."""
    return disks.plugins_dir / PLUGIN / plugin_of(driver) / "mounts" / disk


async def _attach(context: VolumeContext, wanted: _Wanted, program: Path, place: Path) -> None:
    """Have a disk on this node, mounted unless its driver mounts it for each pod. Raises VolumeError."""
    if is_mounted_at(place):
        return
    options = json.dumps(disk_options(wanted.name, wanted.source, read_only=wanted.read_only))
    node, driver = context.csi.node_name, wanted.source["driver"]
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    # Before it is done, so that it is undone whatever happens.
    known = {"driver": driver, "volume": wanted.name, "target": f"{plugin_of(driver)}/{wanted.name}", "node": node}
    context.disks.write(place, known)
    device = await _device(program, "AttachVolume.Attach failed", "", "attach", options, node)
    device = await _device(program, "MountVolume.WaitForAttach failed", device, "waitforattach", device, options)
    operation = "MountVolume.MountDevice failed"
    try:
        place.mkdir(exist_ok=True, mode=0o750)
        await _call(program, "mountdevice", str(place), device, options)
    except UnsupportedError:
        if device:
            how = ["ro" if wanted.read_only else "rw"]
            await mount_disk(device, place, wanted.source.get("fsType") or "", how)
    except VolumeError as error:
        raise VolumeError(str(error), operation=operation) from error
    except OSError as error:
        raise VolumeError(os_error(error), operation=operation) from error


async def _device(program: Path, operation: str, device: str, *command: str) -> str:
    """The device that a driver tells of, or `device` where it does not. Raises VolumeError."""
    try:
        return str((await _call(program, *command)).get("device") or "")
    except UnsupportedError:
        return device
    except VolumeError as error:
        raise VolumeError(str(error), operation=operation) from error


async def _give(
    context: VolumeContext, wanted: _Wanted, program: Path, target: Path, place: Path | None, *, group: bool
) -> Path:
    """Mount a volume for the pod: what is at `place`, for a driver that leaves that to us. Raises VolumeError."""
    read_only = wanted.read_only
    secret = await _secret(context, wanted.source, wanted.namespace)
    options = options_of(context.pod, wanted.name, wanted.source, secret, read_only=read_only)
    try:
        target.mkdir(parents=True, exist_ok=True, mode=0o750)
        try:
            await _call(program, "mount", str(target), json.dumps(options))
        except UnsupportedError:
            if place is None:
                raise
            bind(str(place), target, read_only=read_only)
        if context.fs_group is not None and not read_only and group:
            changes = get_in(context.pod, "spec", "securityContext", "fsGroupChangePolicy")
            once = changes == "OnRootMismatch"
            await asyncio.to_thread(give_to_group, target, context.fs_group, only_on_mismatch=once)
    except VolumeError:
        with contextlib.suppress(OSError):
            target.rmdir()  # nothing is to be unmounted
        raise
    except OSError as error:
        raise VolumeError(os_error(error)) from error
    return target


async def _secret(context: VolumeContext, source: Obj, namespace: str) -> dict[str, str]:
    """The secret's members, in base64; it must be of the driver's own type."""
    name = get_in(source, "secretRef", "name")
    if not name:
        return {}
    try:
        secret = await context.client.get(SECRETS, name, namespace)
    except ApiError as error:
        raise VolumeError(f"Couldn't get secret {namespace}/{name} err: {error.message}") from error
    if secret.get("type") != source["driver"]:
        raise VolumeError(f"Couldn't get secret {namespace}/{name} err: cannot get secret of type {source['driver']}")
    return dict(secret.get("data") or {})


async def _call(program: Path, command: str, *arguments: str) -> dict[str, Any]:
    """Raises VolumeError."""
    try:
        output = await programs.run(str(program), command, *arguments)
    except programs.ProgramError as error:
        answer_of(command, error.output)
        raise VolumeError(str(error)) from error
    return answer_of(command, output)


# Undoing it.


async def tear_down(node: Disks, uid: str) -> None:
    """Have a pod's volumes unmounted by their drivers. Raises OSError, VolumeError: try again."""
    for target in (node.pods_dir / uid / "volumes").glob("*~*/*"):
        vendor, _, driver = target.parent.name.rpartition("~")
        program = program_of(node.flex_drivers, f"{vendor}/{driver}")
        if vendor == "kubernetes.io" or not program.exists():
            continue
        with contextlib.suppress(UnsupportedError):
            await _call(program, "unmount", str(target))
        unmount_below(target)
        if target.exists():
            target.rmdir()


async def release(disks: Disks) -> None:
    """Have disks unmounted and detached that no pod has any more. Raises OSError, VolumeError: try again."""
    for data in list((disks.plugins_dir / PLUGIN).glob("*/mounts/*.json")):
        place = data.with_name(data.name.removesuffix(".json"))
        lock = disks.locks[place.name]
        if lock.locked():
            continue  # somebody is about to have it
        async with lock:
            known = known_of(data)
            if known is None or not _is_used(disks, place, known["target"]):
                if known is not None:
                    await _let_go(disks, place, known)
                data.unlink()


def _is_used(disks: Disks, place: Path, target: str) -> bool:
    """Whether a pod has the volume mounted; one that its pods name themselves has one."""
    uid, own, _ = place.name.partition("~")
    return any(mounted_below(path) for path in disks.pods_dir.glob(f"{uid if own else '*'}/volumes/{target}"))


async def _let_go(disks: Disks, place: Path, known: Obj) -> None:
    program = program_of(disks.flex_drivers, known["driver"])
    there = program.exists()
    if there and is_mounted_at(place):
        with contextlib.suppress(UnsupportedError):
            await _call(program, "unmountdevice", str(place))
    unmount_below(place)
    if place.exists():
        place.rmdir()
    if there:
        with contextlib.suppress(UnsupportedError):
            await _call(program, "detach", known["volume"], known["node"])
