"""CSI volumes: staged on the node and published to pods by their driver, or made by it for one pod alone (inline).

What was published is written down beside it before it is, so that a kubelet started anew can have it undone. Specified
by https://kubernetes.io/docs/concepts/storage/volumes/#csi and https://kubernetes-csi.github.io/docs/.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinnace.apis.resources import CSI_DRIVERS, PERSISTENT_VOLUME_CLAIMS, SECRETS, VOLUME_ATTACHMENTS
from pinnace.apis.storage import csi_names
from pinnace.cri.api import CriError
from pinnace.kubelet import state_files
from pinnace.kubelet.csi.drivers import CsiDrivers
from pinnace.kubelet.go_words import rpc_error
from pinnace.kubelet.volumes.context import VolumeContext, VolumeError
from pinnace.kubelet.volumes.mounts import mounted_below, unmount
from pinnace.kubelet.volumes.ownership import give_to_group
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, name_of, namespace_of, uid_of
from pinnace.machinery.quantity import Quantity

if TYPE_CHECKING:
    from pinnace.kubelet.csi.driver import Driver

PLUGIN = "csi"
DATA = "vol_data.json"
_STAGE_UNSTAGE, _EXPAND, _SINGLE_NODE_MULTI, _MOUNT_GROUP = 1, 3, 5, 6  # capabilities, by CSI's numbers
_DEFAULT_TOKEN_SECONDS = 3600

# Decisions.


@dataclass(frozen=True, slots=True)
class CsiVolume:
    """One volume for one pod."""

    driver: str
    handle: str
    name: str  # of the persistent volume, or of the pod's volume
    inline: bool
    block: bool = False
    read_only: bool = False
    fs_type: str = ""
    mount_options: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)
    secrets: tuple[Obj, Obj, Obj] = ({}, {}, {})  # references: of staging, publishing, expanding

    @property
    def unique_name(self) -> str:
        """As the node's status has it."""
        return csi_names.unique_name(self.driver, self.handle)


def of_persistent(persistent: Obj, volume: Obj) -> CsiVolume:
    """What a pod's `volume` means by a claim that is bound to this persistent volume."""
    spec = persistent["spec"]
    source = spec["csi"]
    read_only = bool(source.get("readOnly")) or bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
    references = tuple(
        source.get(name) or {} for name in ("nodeStageSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef")
    )
    return CsiVolume(
        source["driver"],
        source["volumeHandle"],
        name_of(persistent),
        inline=False,
        block=spec.get("volumeMode") == "Block",
        read_only=read_only,
        fs_type=source.get("fsType") or "",
        mount_options=tuple(spec.get("mountOptions") or ()),
        modes=tuple(spec.get("accessModes") or ()),
        attributes=dict(source.get("volumeAttributes") or {}),
        secrets=(references[0], references[1], references[2]),
    )


def of_inline(pod: Obj, volume: Obj) -> CsiVolume:
    """What a pod has of a driver for itself alone, as long as it is there."""
    source = volume["csi"]
    digest = hashlib.sha256(f"{uid_of(pod)}{volume['name']}".encode()).hexdigest()
    reference = source.get("nodePublishSecretRef")
    publish = {**reference, "namespace": namespace_of(pod)} if reference else {}
    return CsiVolume(
        source["driver"],
        f"csi-{digest}",
        volume["name"],
        inline=True,
        read_only=bool(source.get("readOnly")),
        fs_type=source.get("fsType") or "",
        modes=("ReadWriteOnce",),
        attributes=dict(source.get("volumeAttributes") or {}),
        secrets=({}, publish, {}),
    )


def access_mode(modes: tuple[str, ...], *, single_node_multi: bool) -> int:
    """CSI's number for a volume's access modes; drivers that can tell pods of one node apart get the finer ones."""
    if "ReadWriteMany" in modes:
        return 5
    if "ReadOnlyMany" in modes and "ReadWriteOnce" not in modes:
        return 3
    if "ReadWriteOncePod" in modes:
        return 6 if single_node_multi else 1
    return 7 if single_node_multi else 1


def pod_context(pod: Obj, volume: CsiVolume) -> dict[str, str]:
    """What a driver with `podInfoOnMount` is told."""
    prefix = "csi.storage.k8s.io"
    return {
        f"{prefix}/pod.name": name_of(pod),
        f"{prefix}/pod.namespace": namespace_of(pod),
        f"{prefix}/pod.uid": uid_of(pod),
        f"{prefix}/serviceAccount.name": pod["spec"].get("serviceAccountName") or "",
        f"{prefix}/ephemeral": "true" if volume.inline else "false",
    }


def wants_group(policy: str, volume: CsiVolume) -> bool:
    """Whether a pod's fsGroup is given the files of the volume, by the driver's fsGroupPolicy."""
    if policy == "None" or volume.block or volume.read_only:
        return False
    return policy == "File" or (bool(volume.fs_type) and volume.modes == ("ReadWriteOnce",))


# Doing it.


async def set_up_inline(context: VolumeContext, volume: Obj) -> Path:
    """An inline volume, whose driver must allow them."""
    found = of_inline(context.pod, volume)
    about = await _about(context, found.driver)
    modes = get_in(about or {}, "spec", "volumeLifecycleModes") or ["Persistent"]
    if about is None or "Ephemeral" not in modes:
        why = "(no CSIDriver object)" if about is None else f"(only supports {json.dumps(modes)})"
        raise VolumeError(f'volume mode "Ephemeral" not supported by driver {found.driver} {why}')
    return await _set_up(context, found, about)


async def set_up_persistent(context: VolumeContext, volume: Obj, claim: Obj, persistent: Obj) -> Path:
    """A persistent volume, when it is attached."""
    found = of_persistent(persistent, volume)
    about = await _about(context, found.driver)
    context.csi.use(found.unique_name)
    path = await _set_up(context, found, about)
    await _expand(context, found, claim, persistent, path)
    return path


async def _about(context: VolumeContext, driver: str) -> Obj | None:
    try:
        return await context.client.get(CSI_DRIVERS, driver)
    except ApiError as error:
        if error.is_not_found:
            return None
        raise VolumeError(error.message) from error


async def _set_up(context: VolumeContext, volume: CsiVolume, about: Obj | None) -> Path:
    driver = _driver(context.csi, volume.driver)
    spec: Obj = (about or {}).get("spec") or {}
    published = await _publish_context(context, volume) if not volume.inline and _attaches(spec) else {}
    try:
        can = await driver.capabilities()
        async with context.csi.locks[volume.unique_name]:
            return await _Mounting(context, volume, spec, driver, can, published).run()
    except CriError as error:
        raise VolumeError(rpc_error(error)) from error
    except ApiError as error:
        raise VolumeError(error.message) from error
    except OSError as error:
        raise VolumeError(str(error)) from error


def _driver(drivers: CsiDrivers, name: str) -> Driver:
    found = drivers.get(name)
    if found is None:
        raise VolumeError(
            f"kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name {name} not found in the list of "
            "registered CSI drivers"
        )
    return found


def _attaches(spec: Obj) -> bool:
    return spec.get("attachRequired") is not False


async def _publish_context(context: VolumeContext, volume: CsiVolume) -> dict[str, str]:
    """What the attacher says of the volume on this node, when it is attached."""
    try:
        await context.csi.attached(volume.unique_name)
    except TimeoutError as error:
        why = f"timed out waiting for external-attacher of {volume.driver} CSI driver to attach volume {volume.handle}"
        raise VolumeError(why) from error
    name = csi_names.attachment_name(volume.driver, volume.handle, context.csi.node_name)
    try:
        attachment = await context.client.get(VOLUME_ATTACHMENTS, name)
    except ApiError as error:
        raise VolumeError(error.message) from error
    return dict(get_in(attachment, "status", "attachmentMetadata") or {})


@dataclass(slots=True)
class _Mounting:
    """Bringing one volume to one pod: its places on the node, and the two steps."""

    context: VolumeContext
    volume: CsiVolume
    spec: Obj  # of the CSIDriver
    driver: Driver
    can: frozenset[int]
    published: dict[str, str]

    async def run(self) -> Path:
        volume, context = self.volume, self.context
        directory = _directory(context.pods_dir, uid_of(context.pod), volume.name)
        target = _target(context.csi, volume, uid_of(context.pod), directory)
        if mounted_below(target) and not self.spec.get("requiresRepublish"):
            return target
        staging = _staging(context.csi, volume) if _STAGE_UNSTAGE in self.can and not volume.inline else None
        _write_data(directory, volume, target, staging)
        if staging is not None and not mounted_below(staging):
            staging.mkdir(parents=True, exist_ok=True, mode=0o750)
            await self._stage(staging)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        await self._publish(staging, target)
        group = context.fs_group
        if group is not None and _MOUNT_GROUP not in self.can and wants_group(self._policy, volume):
            changes = get_in(context.pod, "spec", "securityContext", "fsGroupChangePolicy")
            give_to_group(target, group, only_on_mismatch=changes == "OnRootMismatch")
        return target

    @property
    def _policy(self) -> str:
        return str(self.spec.get("fsGroupPolicy") or "ReadWriteOnceWithFSType")

    async def _stage(self, staging: Path) -> None:
        await self.driver.call(
            "NodeStageVolume",
            volume_id=self.volume.handle,
            publish_context=self.published,
            staging_target_path=str(staging),
            volume_capability=self._capability(),
            secrets=await self._secrets(0),
            volume_context=self.volume.attributes,
        )

    async def _publish(self, staging: Path | None, target: Path) -> None:
        told = dict(self.volume.attributes)
        if self.spec.get("podInfoOnMount"):
            told |= pod_context(self.context.pod, self.volume)
        if self.spec.get("tokenRequests"):
            told["csi.storage.k8s.io/serviceAccount.tokens"] = await self._tokens()
        await self.driver.call(
            "NodePublishVolume",
            volume_id=self.volume.handle,
            publish_context=self.published,
            staging_target_path="" if staging is None else str(staging),
            target_path=str(target),
            volume_capability=self._capability(),
            readonly=self.volume.read_only,
            secrets=await self._secrets(1),
            volume_context=told,
        )

    def _capability(self) -> dict[str, Any]:
        volume = self.volume
        mode = {"mode": access_mode(volume.modes, single_node_multi=_SINGLE_NODE_MULTI in self.can)}
        if volume.block:
            return {"block": {}, "access_mode": mode}
        mount: dict[str, Any] = {"fs_type": volume.fs_type, "mount_flags": list(volume.mount_options)}
        if self.context.fs_group is not None and _MOUNT_GROUP in self.can:
            mount["volume_mount_group"] = str(self.context.fs_group)
        return {"mount": mount, "access_mode": mode}

    async def _secrets(self, which: int) -> dict[str, str]:
        return await secrets_of(self.context, self.volume.secrets[which])

    async def _tokens(self) -> str:
        found = {}
        for request in self.spec["tokenRequests"]:
            audience = request.get("audience") or ""
            seconds = request.get("expirationSeconds") or _DEFAULT_TOKEN_SECONDS
            token, expires = await self.context.tokens.get_with_expiry(self.context.pod, audience, seconds)
            found[audience] = {"token": token, "expirationTimestamp": expires}
        return json.dumps(found)


async def secrets_of(context: VolumeContext, reference: Obj) -> dict[str, str]:
    """What a Secret that a volume names holds, nothing where it names none. Raises ApiError."""
    import base64

    if not reference:
        return {}
    secret = await context.client.get(SECRETS, reference["name"], reference["namespace"])
    return {key: base64.b64decode(text).decode("utf-8", "replace") for key, text in (secret.get("data") or {}).items()}


async def _expand(context: VolumeContext, volume: CsiVolume, claim: Obj, persistent: Obj, path: Path) -> None:
    """Have the driver grow what is on a volume that has grown, and say so in the claim."""
    wanted = get_in(persistent, "spec", "capacity", "storage")
    before = get_in(claim, "status", "capacity", "storage")
    if not wanted or not before or Quantity.parse(wanted) <= Quantity.parse(before) or volume.read_only:
        return
    driver = _driver(context.csi, volume.driver)
    try:
        if _EXPAND not in await driver.capabilities():
            return
        staging = _staging(context.csi, volume)
        await driver.call(
            "NodeExpandVolume",
            volume_id=volume.handle,
            volume_path=str(path),
            capacity_range={"required_bytes": Quantity.parse(wanted).value()},
            staging_target_path=str(staging) if staging.exists() else "",
            secrets=await secrets_of(context, volume.secrets[2]),
        )
        status = {"capacity": {"storage": wanted}, "conditions": None, "allocatedResourceStatuses": None}
        await context.client.patch(
            PERSISTENT_VOLUME_CLAIMS, name_of(claim), {"status": status}, namespace_of(claim), subresource="status"
        )
    except CriError as error:
        raise VolumeError(f"MountVolume.NodeExpandVolume failed: {rpc_error(error)}") from error
    except ApiError as error:
        raise VolumeError(error.message) from error


# Places, and undoing it.


def _directory(pods_dir: Path, uid: str, name: str) -> Path:
    return pods_dir / uid / "volumes" / f"kubernetes.io~{PLUGIN}" / name


def _target(drivers: CsiDrivers, volume: CsiVolume, uid: str, directory: Path) -> Path:
    if volume.block:
        return drivers.volumes_dir / "volumeDevices" / "publish" / volume.name / uid
    return directory / "mount"


def _staging(drivers: CsiDrivers, volume: CsiVolume) -> Path:
    if volume.block:
        return drivers.volumes_dir / "volumeDevices" / "staging" / volume.name
    digest = hashlib.sha256(volume.handle.encode()).hexdigest()
    return drivers.volumes_dir / volume.driver / digest / "globalmount"


def _write_data(directory: Path, volume: CsiVolume, target: Path, staging: Path | None) -> None:
    """What undoing will need."""
    data = {
        "driverName": volume.driver,
        "volumeHandle": volume.handle,
        "specVolID": volume.name,
        "volumeLifecycleMode": "Ephemeral" if volume.inline else "Persistent",
        "targetPath": str(target),
        "stagingPath": "" if staging is None else str(staging),
    }
    state_files.write(directory / DATA, json.dumps(data).encode())


def _published(pods_dir: Path, uid: str) -> Iterator[tuple[Path, Obj]]:
    """What was published to a pod: where that is written, and what."""
    for file in sorted((pods_dir / uid / "volumes" / f"kubernetes.io~{PLUGIN}").glob(f"*/{DATA}")):
        yield file, json.loads(file.read_text())


async def tear_down(drivers: CsiDrivers, pods_dir: Path, uid: str) -> None:
    """Have everything of a pod unpublished, and unstaged what no other pod has. Raises VolumeError: try again."""
    for file, data in list(_published(pods_dir, uid)):
        unique_name = csi_names.unique_name(data["driverName"], data["volumeHandle"])
        try:
            async with drivers.locks[unique_name]:
                await _undo(drivers, pods_dir, file, data)
        except CriError as error:
            raise VolumeError(rpc_error(error)) from error
        except OSError as error:
            raise VolumeError(str(error)) from error
        if not _is_used(pods_dir, data):
            drivers.release(unique_name)
            drivers.locks.pop(unique_name, None)


async def _undo(drivers: CsiDrivers, pods_dir: Path, file: Path, data: Obj) -> None:
    driver = _driver(drivers, data["driverName"])
    target = Path(data["targetPath"])
    await driver.call("NodeUnpublishVolume", volume_id=data["volumeHandle"], target_path=str(target))
    _remove(target)
    staging = Path(data["stagingPath"]) if data["stagingPath"] else None
    if staging is not None and not _is_used(pods_dir, data, but=file):
        await driver.call("NodeUnstageVolume", volume_id=data["volumeHandle"], staging_target_path=str(staging))
        _remove(staging)
        if staging.name == "globalmount":
            shutil.rmtree(staging.parent, ignore_errors=True)
    shutil.rmtree(file.parent)


def _remove(path: Path) -> None:
    """What a driver has unmounted and left."""
    for point in mounted_below(path):
        unmount(point)
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _is_used(pods_dir: Path, data: Obj, but: Path | None = None) -> bool:
    """Whether another pod has the volume, or another place in the same pod."""
    return any(
        (other["driverName"], other["volumeHandle"]) == (data["driverName"], data["volumeHandle"])
        for pod in pods_dir.iterdir()
        for file, other in _published(pods_dir, pod.name)
        if file != but
    )


def adopt(drivers: CsiDrivers, pods_dir: Path) -> None:
    """What a predecessor of this kubelet left published is in use."""
    for pod in pods_dir.iterdir():
        for _, data in _published(pods_dir, pod.name):
            if data["volumeLifecycleMode"] == "Persistent":
                drivers.use(csi_names.unique_name(data["driverName"], data["volumeHandle"]))
