"""CSI volumes: staged on the node and published to pods by their driver, or made by it for one pod alone (inline).

Specified by https://kubernetes.io/docs/concepts/storage/volumes/#csi and https://kubernetes-csi.github.io/docs/.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pinnace.apis.resources import CSI_DRIVERS, SECRETS, VOLUME_ATTACHMENTS
from pinnace.apis.storage import csi_names
from pinnace.cri.api import CriError
from pinnace.kubelet.go_words import os_error, rpc_error
from pinnace.kubelet.volumes import csi_published as places
from pinnace.kubelet.volumes.context import UnprocessedError, VolumeContext, VolumeError
from pinnace.kubelet.volumes.csi_volume import (
    STAGE_UNSTAGE_VOLUME,
    VOLUME_MOUNT_GROUP,
    CsiVolume,
    Step,
    capability,
    is_final,
    of_inline,
    pod_context,
    wants_group,
)
from pinnace.kubelet.volumes.ownership import give_to_group
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, uid_of

if TYPE_CHECKING:
    from pinnace.kubelet.csi.driver import Driver

_DEFAULT_TOKEN_SECONDS = 3600
_TOKENS = "csi.storage.k8s.io/serviceAccount.tokens"


async def set_up_inline(context: VolumeContext, volume: Obj) -> Path:
    """An inline volume, whose driver must allow them."""
    found = of_inline(context.pod, volume)
    about = await _about(context, found.driver)
    modes = get_in(about or {}, "spec", "volumeLifecycleModes") or ["Persistent"]
    if about is None or "Ephemeral" not in modes:
        why = "(no CSIDriver object)" if about is None else f"(only supports {json.dumps(modes)})"
        raise VolumeError(f'volume mode "Ephemeral" not supported by driver {found.driver} {why}')
    return await _set_up(context, found, about["spec"])


async def set_up_persistent(context: VolumeContext, volume: CsiVolume) -> Path:
    """A persistent volume, when it is attached."""
    own = places.directory_of(context.pods_dir, uid_of(context.pod), volume.name) / places.DATA
    data = {"driverName": volume.driver, "volumeHandle": volume.handle}
    if "ReadWriteOncePod" in volume.modes and places.is_used(context.pods_dir, data, but=own):
        raise VolumeError("volume uses the ReadWriteOncePod access mode and is already in use by another pod")
    spec: Obj = (await _about(context, volume.driver) or {}).get("spec") or {}
    context.csi.use(volume.unique_name, uid_of(context.pod), attaches=_attaches(volume, spec))
    return await _set_up(context, volume, spec)


def is_published(context: VolumeContext, volume: CsiVolume) -> bool:
    """Whether the pod has the volume already."""
    return places.is_filled(context.csi, places.target_of(context.csi, volume, uid_of(context.pod), context.pods_dir))


def _attaches(volume: CsiVolume, spec: Obj) -> bool:
    """Whether the driver with this `spec` of its CSIDriver attaches the volume to nodes."""
    return not volume.inline and spec.get("attachRequired") is not False


async def _about(context: VolumeContext, driver: str) -> Obj | None:
    try:
        return await context.client.get(CSI_DRIVERS, driver)
    except ApiError as error:
        if error.is_not_found:
            return None
        raise VolumeError(error.message) from error


async def _set_up(context: VolumeContext, volume: CsiVolume, spec: Obj) -> Path:
    """The volume's path; what is there already is left alone, or published anew where its driver wants that."""
    target = places.target_of(context.csi, volume, uid_of(context.pod), context.pods_dir)
    if spec.get("requiresRepublish"):
        context.csi.republishing.add(uid_of(context.pod))
    elif is_published(context, volume):
        return target
    published = await _publish_context(context, volume) if _attaches(volume, spec) else {}
    doing = "mounter.SetUpAt failed to get CSI client"
    if not volume.inline:
        doing = "attacher.MountDevice failed to create newCsiDriverClient"
    try:
        driver = places.driver_of(context.csi, volume.driver, doing)
        can = await driver.capabilities()
        async with context.csi.locks[volume.unique_name]:
            return await _Mounting(context, volume, spec, driver, can, published, target).run()
    except CriError as error:
        raise VolumeError(rpc_error(error)) from error
    except ApiError as error:
        raise VolumeError(error.message) from error
    except OSError as error:
        raise VolumeError(os_error(error)) from error


async def _publish_context(context: VolumeContext, volume: CsiVolume) -> dict[str, str]:
    """What the attacher says of the volume on this node, when it is attached."""
    try:
        await context.csi.attached(volume.unique_name)
    except TimeoutError as error:
        raise UnprocessedError("timed out waiting for the condition") from error
    name = csi_names.attachment_name(volume.driver, volume.handle, context.csi.node_name)
    try:
        attachment = await context.client.get(VOLUME_ATTACHMENTS, name)
    except ApiError as error:
        why = f"volume {volume.handle} has GET error for volume attachment {name}: {error.message}"
        raise VolumeError(why, operation="MountVolume.WaitForAttach failed") from error
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
    target: Path

    async def run(self) -> Path:
        volume, context, target = self.volume, self.context, self.target
        staged = STAGE_UNSTAGE_VOLUME in self.can and not volume.inline
        staging = places.staging_of(context.csi, volume) if staged else None
        directory = places.directory_of(context.pods_dir, uid_of(context.pod), volume.name)
        if staging is None or places.is_filled(context.csi, staging):
            places.write_data(directory, volume, target, staging)
        else:
            secrets = await secrets_of(context, volume, "NodeStage")
            data = places.write_data(directory, volume, target, staging)
            try:
                await self._stage(staging, secrets)
            except CriError as error:
                if is_final(error.code) and not target.exists():  # neither staged nor ever published
                    places.forget(context.pods_dir, directory / places.DATA, data)
                operation = "MapVolume.SetUpDevice failed" if volume.block else "MountVolume.MountDevice failed"
                raise VolumeError(rpc_error(error), operation=operation) from error
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        anew = places.is_filled(context.csi, target)
        await self._publish(staging, target)
        group = context.fs_group
        policy = str(self.spec.get("fsGroupPolicy") or "ReadWriteOnceWithFSType")
        if group is not None and VOLUME_MOUNT_GROUP not in self.can and not anew and wants_group(policy, volume):
            changes = get_in(context.pod, "spec", "securityContext", "fsGroupChangePolicy")
            await asyncio.to_thread(give_to_group, target, group, only_on_mismatch=changes == "OnRootMismatch")
        return target

    async def _stage(self, staging: Path, secrets: dict[str, str]) -> None:
        staging.mkdir(parents=True, exist_ok=True, mode=0o750)
        await self.driver.call(
            "NodeStageVolume",
            volume_id=self.volume.handle,
            publish_context=self.published,
            staging_target_path=str(staging),
            volume_capability=capability(self.volume, self.can, self.context.fs_group),
            secrets=secrets,
            volume_context=self.volume.attributes,
        )
        self.context.csi.filled.add(staging)

    async def _publish(self, staging: Path | None, target: Path) -> None:
        told = dict(self.volume.attributes)
        secrets = await secrets_of(self.context, self.volume, "NodePublish")
        if self.spec.get("podInfoOnMount"):
            told |= pod_context(self.context.pod, self.volume)
        if self.spec.get("tokenRequests"):
            (secrets if self.spec.get("serviceAccountTokenInSecrets") else told)[_TOKENS] = await self._tokens()
        await self.driver.call(
            "NodePublishVolume",
            volume_id=self.volume.handle,
            publish_context=self.published,
            staging_target_path="" if staging is None else str(staging),
            target_path=str(target),
            volume_capability=capability(self.volume, self.can, self.context.fs_group),
            readonly=self.volume.read_only,
            secrets=secrets,
            volume_context=told,
        )
        self.context.csi.filled.add(target)

    async def _tokens(self) -> str:
        found = {}
        for request in self.spec["tokenRequests"]:
            audience = request.get("audience") or ""
            seconds = request.get("expirationSeconds") or _DEFAULT_TOKEN_SECONDS
            token, expires = await self.context.tokens.get_with_expiry(self.context.pod, audience, seconds)
            found[audience] = {"token": token, "expirationTimestamp": expires}
        return json.dumps(found)


async def secrets_of(context: VolumeContext, volume: CsiVolume, step: Step) -> dict[str, str]:
    """What the Secret holds that a volume names for a step, nothing where it names none. Raises VolumeError."""
    reference = volume.secrets.get(step)
    if not reference:
        return {}
    name, namespace = reference["name"], reference["namespace"]
    try:
        secret = await context.client.get(SECRETS, name, namespace)
    except ApiError as error:
        why = f"kubernetes.io/csi: failed to find the secret {name} in the namespace {namespace} with error: {error}"
        raise VolumeError(f"fetching {step}SecretRef {namespace}/{name} failed: {why}") from error
    return {key: base64.b64decode(text).decode("utf-8", "replace") for key, text in (secret.get("data") or {}).items()}
