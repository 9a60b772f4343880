"""Makes all volumes of a pod ready, turns a container's volumeMounts into mounts (`tear_down` takes all away)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import structlog

from pinnace.cri.api import Device, Image, ImageSpec, Mount
from pinnace.kubelet.containers.env import ConfigError, expand, referred
from pinnace.kubelet.containers.runtime_config import propagation
from pinnace.kubelet.pods import all_containers
from pinnace.kubelet.statistics.volume_measures import operation, plugin_of
from pinnace.kubelet.volumes import (
    config_map,
    csi,
    downward_api,
    empty_dir,
    host_path,
    persistent_volume_claim,
    projected,
    rare,
    secret,
)
from pinnace.kubelet.volumes.context import SetUp, UnprocessedError, VolumeContext, VolumeError
from pinnace.kubelet.volumes.subpath import prepare
from pinnace.machinery.meta import Obj, get_in

_log = structlog.get_logger()

KINDS: dict[str, SetUp] = {
    "emptyDir": empty_dir.set_up,
    "hostPath": host_path.set_up,
    "configMap": config_map.set_up,
    "secret": secret.set_up,
    "downwardAPI": downward_api.set_up,
    "projected": projected.set_up,
    "persistentVolumeClaim": persistent_volume_claim.set_up,
    "ephemeral": persistent_volume_claim.set_up,
    "csi": csi.set_up_inline,
    **rare.INLINE,
}
CHANGING = ("configMap", "secret", "downwardAPI", "projected")
"""Volumes whose contents follow objects of the API."""
LOOKED_AFTER = (*CHANGING, "persistentVolumeClaim", "ephemeral", "csi")
"""Volumes that may need something as long as their pod runs: they grow, or their drivers want to be asked again."""


class MountErrors(Exception):
    """Some volumes cannot be made ready: by name, why."""

    def __init__(self, errors: Mapping[str, VolumeError]) -> None:
        super().__init__("; ".join(map(str, errors.values())))
        self.errors = errors

    def events(self) -> list[tuple[str, str]]:
        """Reasons and messages of the events that tell of them."""
        unknown = {name: error for name, error in self.errors.items() if isinstance(error, UnprocessedError)}
        found = [error.event(name) for name, error in self.errors.items() if name not in unknown]
        if unknown:
            left, lost = " ".join(self.errors), " ".join(unknown)
            why = "; ".join(dict.fromkeys(map(str, unknown.values())))
            text = f"unmounted volumes=[{left}], unattached volumes=[], failed to process volumes=[{lost}]: {why}"
            found.append(("FailedMount", f"Unable to attach or mount volumes: {text}"))
        return found


def kind_of(volume: Obj) -> str:
    """The member that says what a volume is; a volume without any is an emptyDir."""
    return next((kind for kind in volume if kind != "name" and volume[kind] is not None), "emptyDir")


async def set_up_all(context: VolumeContext, *, again: bool = False) -> dict[str, Path]:
    """The volumes that the pod's containers use, by name; `again`: those to be looked after. Raises MountErrors."""
    volumes = [one for one in used_volumes(context.pod) if not again or kind_of(one) in LOOKED_AFTER]
    results = await asyncio.gather(*(_one(context, volume) for volume in volumes), return_exceptions=True)
    ready: dict[str, Path] = {}
    errors: dict[str, VolumeError] = {}
    for volume, result in zip(volumes, results, strict=True):
        if isinstance(result, Path):
            ready[volume["name"]] = result
        elif isinstance(result, VolumeError):
            errors[volume["name"]] = result
        else:
            raise result
    if errors:
        raise MountErrors(errors)
    return ready


def used_volumes(pod: Obj) -> list[Obj]:
    """The volumes that some container mounts, has as a device or takes its environment from; images are not made."""
    used = {
        name
        for container in all_containers(pod)
        for name in (
            *(one["name"] for one in container.get("volumeMounts") or ()),
            *(one["name"] for one in container.get("volumeDevices") or ()),
            *(get_in(one, "valueFrom", "fileKeyRef", "volumeName") for one in container.get("env") or ()),
        )
    }
    volumes = pod["spec"].get("volumes") or ()
    return [volume for volume in volumes if volume["name"] in used and kind_of(volume) != "image"]


async def _one(context: VolumeContext, volume: Obj) -> Path:
    kind = kind_of(volume)
    if kind not in KINDS:
        name = volume["name"]
        raise UnprocessedError(f'failed to get Plugin from volumeSpec for volume "{name}" err=no volume plugin matched')
    context.plugins[volume["name"]] = plugin_of(volume)
    with operation("volume_mount", volume["name"], context.plugins):
        return await KINDS[kind](context, volume)


def image_volumes(pod: Obj, container: Obj) -> dict[str, Obj]:
    """What the container mounts of images: `volumes[].image` by the volumes' names."""
    mounted = {mount["name"] for mount in container.get("volumeMounts") or ()}
    return {
        volume["name"]: volume["image"]
        for volume in pod["spec"].get("volumes") or ()
        if kind_of(volume) == "image" and volume["name"] in mounted
    }


def container_mounts(
    pod: Obj,
    container: Obj,
    volumes: Mapping[str, Path],
    envs: Mapping[str, str],
    pod_dir: Path,
    images: Mapping[str, Image] | None = None,
) -> list[Mount]:
    """The mounts that a container's volumeMounts ask for; `images` are those that volumes name. Raises ConfigError."""
    mounts = []
    for index, wanted in enumerate(container.get("volumeMounts") or ()):
        if images and wanted["name"] in images:
            mounts.append(_image_mount(wanted, images[wanted["name"]], envs))
            continue
        source = volumes.get(wanted["name"])
        if source is None:
            raise ConfigError(f'cannot find volume "{wanted["name"]}" to mount into container "{container["name"]}"')
        subpath = _subpath(wanted, envs)
        if subpath:
            target = pod_dir / "volume-subpaths" / wanted["name"] / container["name"] / str(index)
            source = _prepared(container, wanted, source, subpath, target)
        mounts.append(
            Mount(
                container_path=_absolute(wanted["mountPath"]),
                host_path=str(source),
                readonly=bool(wanted.get("readOnly")) or _read_only(pod, wanted["name"]),
                propagation=propagation(wanted),
                recursive_read_only=wanted.get("recursiveReadOnly") in ("Enabled", "IfPossible"),
            )
        )
    return mounts


def _prepared(container: Obj, wanted: Obj, volume: Path, subpath: str, target: Path) -> Path:
    """Part of a volume for a container, which is not told what of the machine's files was in the way."""
    try:
        return prepare(volume, subpath, target, create=True)
    except ConfigError as error:
        _log.warning("cannot prepare a part of a volume", volume=wanted["name"], path=subpath, error=str(error))
        about = f'for volumeMount "{wanted["name"]}" of container "{container["name"]}"'
        raise ConfigError(f"failed to prepare subPath {about}") from error


def container_devices(pod: Obj, container: Obj, volumes: Mapping[str, Path]) -> list[Device]:
    """The block devices that a container's volumeDevices ask for. Raises ConfigError."""
    devices = []
    for wanted in container.get("volumeDevices") or ():
        source = volumes.get(wanted["name"])
        if source is None:
            raise ConfigError(f'cannot find volume "{wanted["name"]}" to pass into container "{container["name"]}"')
        permissions = "r" if _read_only(pod, wanted["name"]) else "mrw"
        path = _absolute(wanted["devicePath"])
        devices.append(Device(container_path=path, host_path=str(source), permissions=permissions))
    return devices


def _image_mount(wanted: Obj, image: Image, envs: Mapping[str, str]) -> Mount:
    return Mount(
        container_path=_absolute(wanted["mountPath"]),
        host_path="",
        readonly=True,
        image=ImageSpec(image=image.id),
        image_sub_path=_subpath(wanted, envs),
    )


def _subpath(wanted: Obj, envs: Mapping[str, str]) -> str:
    """The part of its volume that a volumeMount asks for, "" for all of it. Raises ConfigError."""
    subpath: str = wanted.get("subPath") or ""
    if wanted.get("subPathExpr"):
        subpath = wanted["subPathExpr"]
        missing = sorted(name for name in referred(subpath) if not envs.get(name))
        if missing:
            raise ConfigError(f"missing value for {', '.join(missing)}")
        subpath = expand(subpath, envs)
    if subpath.startswith("/"):
        raise ConfigError(f"error SubPath `{subpath}` must not be an absolute path")
    if ".." in subpath.split("/"):
        raise ConfigError(f"unable to provision SubPath `{subpath}`: must not contain '..'")
    return subpath


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _read_only(pod: Obj, name: str) -> bool:
    """Volumes made from API objects are never written to by containers."""
    for volume in pod["spec"].get("volumes") or ():
        if volume["name"] == name:
            kind = kind_of(volume)
            return kind in CHANGING or bool((volume.get(kind) or {}).get("readOnly"))
    return False
