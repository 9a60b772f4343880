"""`flexVolume` volumes, of drivers that are programs in the kubelet's `--volume-plugin-dir`.

Drivers that mount by themselves are called for that; those that want to be attached to first (the default for one that
does not say `"attach": false`) are refused, as FlexVolume is deprecated and none is left in use.
https://github.com/kubernetes/design-proposals-archive/blob/main/storage/flexvolume-deployment.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pinnace.apis.resources import SECRETS
from pinnace.kubelet.volumes import programs
from pinnace.kubelet.volumes.context import UnprocessedError, VolumeContext, VolumeError
from pinnace.kubelet.volumes.disks import Disks
from pinnace.kubelet.volumes.mounts import mounted_below, unmount_below
from pinnace.kubelet.volumes.ownership import give_to_group
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, name_of, namespace_of, uid_of

_UNSUPPORTED = "Not supported"

# Decisions.


def program_of(directory: Path, driver: str) -> Path:
    """`vendor/driver` is in a directory `vendor~driver`."""
    return directory / driver.replace("/", "~") / driver.rpartition("/")[2]


def plugin_of(driver: str) -> str:
    """The part of the volume's path that tells its driver."""
    return driver.replace("/", "~")


def options_of(pod: Obj, name: str, source: Obj, secret: Mapping[str, str], *, read_only: bool) -> dict[str, str]:
    """What a driver is told of a volume, as JSON; the pod's author may overrule it."""
    told = {
        "kubernetes.io/fsType": source.get("fsType") or "",
        "kubernetes.io/readwrite": "ro" if read_only else "rw",
        "kubernetes.io/pvOrVolumeName": name,
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
        raise VolumeError(_UNSUPPORTED)
    if status != "Success":
        reason = answer.get("message") or ""
        raise VolumeError(f"{command} command failed, status: {status}, reason: {reason}")
    return dict(answer)


# Doing it.


async def set_up(context: VolumeContext, volume: Obj) -> Path:
    """One that the pod names itself."""
    source = volume["flexVolume"]
    read_only = bool(source.get("readOnly"))
    return await _mount(context, volume["name"], source, namespace_of(context.pod), read_only=read_only)


async def set_up_persistent(context: VolumeContext, volume: Obj, persistent: Obj) -> Path:
    source = persistent["spec"]["flexVolume"]
    namespace = get_in(source, "secretRef", "namespace") or namespace_of(context.pod)
    read_only = bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
    return await _mount(context, name_of(persistent), source, namespace, read_only=read_only)


async def _mount(context: VolumeContext, name: str, source: Obj, namespace: str, *, read_only: bool) -> Path:
    driver = source["driver"]
    target = context.pods_dir / uid_of(context.pod) / "volumes" / plugin_of(driver) / name
    if mounted_below(target):
        return target
    program = program_of(context.disks.flex_drivers, driver)
    if not program.exists():
        raise UnprocessedError(f'failed to get Plugin from volumeSpec for volume "{name}" err=no volume plugin matched')
    can = (await _call(program, "init")).get("capabilities") or {}
    if can.get("attach", True):
        raise VolumeError(f"the driver {driver} must be attached to, which is not supported for flexVolume")
    options = options_of(context.pod, name, source, await _secret(context, source, namespace), read_only=read_only)
    try:
        target.mkdir(parents=True, exist_ok=True, mode=0o750)
        await _call(program, "mount", str(target), json.dumps(options))
        if context.fs_group is not None and not read_only and can.get("fsGroup", True):
            changes = get_in(context.pod, "spec", "securityContext", "fsGroupChangePolicy")
            once = changes == "OnRootMismatch"
            await asyncio.to_thread(give_to_group, target, context.fs_group, only_on_mismatch=once)
    except VolumeError:
        with contextlib.suppress(OSError):
            target.rmdir()  # nothing is to be unmounted
        raise
    except OSError as error:
        raise VolumeError(str(error)) from error
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
        try:
            await _call(program, "unmount", str(target))
        except VolumeError as error:
            if str(error) != _UNSUPPORTED:
                raise
        unmount_below(target)
        if target.exists():
            target.rmdir()
