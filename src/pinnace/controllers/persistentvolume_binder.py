"""Brings claims and volumes together, asks provisioners for volumes, and reclaims those whose claims are gone.

What fits is decided in `apis/core/volume_binding.py`. A binding is written in four steps (the volume, its phase, the
claim, its phase), each of which can be taken up where it was left. Provisioners make and destroy volumes; directories
that were made by hand are deleted here, as the original's plugin for them does.
Specified by https://kubernetes.io/docs/concepts/storage/persistent-volumes/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from pinnace.apis.core import volume_binding as binding
from pinnace.apis.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES
from pinnace.client.client import Client
from pinnace.client.controller import Controller, itself
from pinnace.client.informer import InformerFactory
from pinnace.controllers.directories import delete_directory, may_be_deleted
from pinnace.controllers.pods import is_finished
from pinnace.controllers.volume_protection import claims_of
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    GVR,
    Obj,
    annotations_of,
    format_time,
    get_in,
    key_of,
    name_of,
    split_key,
    uid_of,
    utc_now,
)

_NO_PLUGIN = "no volume plugin matched"


def claim_of(volume: Obj) -> Iterable[str]:
    """The key of the claim that a volume belongs to or is kept for."""
    reference = get_in(volume, "spec", "claimRef")
    return (f"{reference.get('namespace', '')}/{reference['name']}",) if reference else ()


def first_consumer(pods: Iterable[Obj]) -> tuple[str, str]:
    """What a claim waits for whose volume depends on where a pod goes: reason and message."""
    names = [name_of(pod) for pod in pods if not get_in(pod, "spec", "nodeName") and not is_finished(pod)]
    if not names:
        return "WaitForFirstConsumer", "waiting for first consumer to be created before binding"
    which = f"pod {names[0]}" if len(names) == 1 else f"pods {','.join(sorted(names))}"
    return "WaitForPodScheduled", f"waiting for {which} to be scheduled"


class PersistentVolumeBinder(Controller):
    """One key is one claim, `namespace/name`, or one volume, `name`."""

    name = "persistentvolume-binder-controller"
    component = "persistentvolume-controller"
    workers = 1  # two claims must not choose the same volume

    def __init__(
        self, client: Client, informers: InformerFactory, *, provisioning: bool = True, in_tree: str = ""
    ) -> None:
        self._provisioning = provisioning
        self._in_tree = in_tree  # the one provisioner of Kubernetes' own that there is, if it is
        super().__init__(client, informers)

    def setup(self) -> None:
        self.claims = self.watch(PERSISTENT_VOLUME_CLAIMS, itself)
        self.volumes = self.watch(PERSISTENT_VOLUMES, self._concerned)
        self.volumes.add_index("claim", claim_of)
        self.classes = self.watch(STORAGE_CLASSES, self._waiting_for_class)
        self.pods = self.use(PODS)
        self.pods.add_index("persistentvolumeclaim", claims_of)
        # A claim goes, and its volume is to be reclaimed.
        self.claims.add_handler(deleted=self._claim_gone)

    def _concerned(self, volume: Obj) -> Iterable[str]:
        """The volume itself, the claim that it is for or, if for nobody, all that wait for one."""
        yield name_of(volume)
        if get_in(volume, "spec", "claimRef"):
            yield from claim_of(volume)
        elif get_in(volume, "status", "phase") == "Available":
            for claim in self.claims.store.list():
                if get_in(claim, "status", "phase") != "Bound":
                    yield key_of(claim)

    def _waiting_for_class(self, storage_class: Obj) -> Iterable[str]:
        """Unbound claims of the class, and those that take whatever is the default."""
        for claim in self.claims.store.list():
            concerned = binding.wants_a_class(claim) or binding.class_of(claim) == name_of(storage_class)
            if concerned and not get_in(claim, "spec", "volumeName"):
                yield key_of(claim)

    def _claim_gone(self, claim: Obj) -> None:
        for volume in self.volumes.store.by_index("claim", key_of(claim)):
            self.queue.add(name_of(volume))

    async def reconcile(self, key: str) -> None:
        if "/" in key:
            claim = self.claims.store.get(key)
            if claim is None:
                return
            if binding.BIND_COMPLETED in annotations_of(claim):
                await self._check_bound(claim)
            elif get_in(claim, "spec", "volumeName"):
                await self._take_named(claim)
            else:
                await self._find(claim)
        elif (volume := self.volumes.store.get(key)) is not None:
            await self._sync_volume(volume)

    # Claims.

    async def _find(self, claim: Obj) -> None:
        """Bind a claim that leaves the choice to us, or have a volume made for it."""
        storage_class = self.classes.store.get(binding.class_of(claim))
        delayed = binding.is_delayed(storage_class)
        volume = binding.find_volume(claim, self.volumes.store.list(), delayed=delayed)
        if volume is not None:
            await self._bind(volume, claim)
            return
        if binding.wants_a_class(claim):
            default = binding.default_class(self.classes.store.list())
            if default is not None:
                spec = {**claim["spec"], "storageClassName": name_of(default)}
                await self.client.update(PERSISTENT_VOLUME_CLAIMS, {**claim, "spec": spec})
                return
        if delayed and binding.SELECTED_NODE not in annotations_of(claim):
            self.recorder.event(
                claim, "Normal", *first_consumer(self.pods.store.by_index("persistentvolumeclaim", key_of(claim)))
            )
        elif binding.class_of(claim) and self._provisioning:
            claim = await self._have_made(claim, storage_class)
        elif not binding.class_of(claim):
            message = "no persistent volumes available for this claim and no storage class is set"
            self.recorder.event(claim, "Normal", "FailedBinding", message)
        await self._set_claim_status(claim, {**(claim.get("status") or {}), "phase": "Pending"})

    async def _have_made(self, claim: Obj, storage_class: Obj | None) -> Obj:
        """Tell the class's provisioner, by annotations, that a volume is wanted."""
        if storage_class is None:
            why = f'storageclass.storage.k8s.io "{binding.class_of(claim)}" not found'
            self.recorder.event(claim, "Warning", "ProvisioningFailed", why)
            return claim
        provisioner = storage_class["provisioner"]
        in_tree = provisioner.startswith("kubernetes.io/")
        if in_tree and provisioner != self._in_tree:
            why = f"{_NO_PLUGIN} name: {provisioner}"
            self.recorder.event(claim, "Warning", "ProvisioningFailed", why)
            return claim
        told = {binding.PROVISIONER: provisioner, binding.BETA_PROVISIONER: provisioner}
        if not told.items() <= annotations_of(claim).items():
            claim = await self.client.update(PERSISTENT_VOLUME_CLAIMS, binding.with_annotations(claim, told))
        if in_tree:
            return claim
        message = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the "
            "system administrator. If volume creation is delayed, please verify that the provisioner is running and "
            "correctly registered."
        )
        self.recorder.event(claim, "Normal", "ExternalProvisioning", message)
        return claim

    async def _take_named(self, claim: Obj) -> None:
        """Bind a claim that names its volume, if that is there and nobody else's."""
        name = claim["spec"]["volumeName"]
        volume = self.volumes.store.get(name)
        if volume is not None and binding.is_meant_for(volume, claim):
            await self._bind(volume, claim)
            return
        if volume is not None and not get_in(volume, "spec", "claimRef"):
            why = binding.mismatch(volume, claim)
            if not why:
                await self._bind(volume, claim)
                return
            message = f'Cannot bind to requested volume "{name}": {why}'
            self.recorder.event(claim, "Warning", "VolumeMismatch", message)
        elif volume is not None:
            message = f'volume "{name}" already bound to a different claim.'
            self.recorder.event(claim, "Warning", "FailedBinding", message)
        await self._set_claim_status(claim, {**(claim.get("status") or {}), "phase": "Pending"})

    async def _check_bound(self, claim: Obj) -> None:
        """See that a bound claim still has its volume."""
        name = get_in(claim, "spec", "volumeName")
        if not name:
            why = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
            await self._lose(claim, "ClaimLost", why)
            return
        volume = self.volumes.store.get(name) or await self._fresh(PERSISTENT_VOLUMES, name)
        if volume is None:
            await self._lose(
                claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
            )
        elif not get_in(volume, "spec", "claimRef") or binding.is_meant_for(volume, claim):
            await self._bind(volume, claim)
        else:
            why = "Two claims are bound to the same volume, this one is bound incorrectly"
            await self._lose(claim, "ClaimMisbound", why)

    async def _lose(self, claim: Obj, reason: str, message: str) -> None:
        if get_in(claim, "status", "phase") != "Lost":
            await self._set_claim_status(claim, {**(claim.get("status") or {}), "phase": "Lost"})
            self.recorder.event(claim, "Warning", reason, message)

    async def _bind(self, volume: Obj, claim: Obj) -> None:
        volume = await self._write(PERSISTENT_VOLUMES, volume, binding.bound_volume(volume, claim))
        await self._set_phase(volume, "Bound")
        claim = await self._write(PERSISTENT_VOLUME_CLAIMS, claim, binding.bound_claim(claim, volume))
        await self._set_claim_status(claim, binding.bound_claim_status(claim, volume))

    # Volumes.

    async def _sync_volume(self, volume: Obj) -> None:
        reference = get_in(volume, "spec", "claimRef")
        if not reference or not reference.get("uid"):
            await self._set_phase(volume, "Available")
            return
        (key,) = claim_of(volume)
        claim = self.claims.store.get(key)
        if claim is None or uid_of(claim) != reference["uid"]:
            # Data hang on this: the cache may not have seen the claim yet.
            namespace, name = split_key(key)
            claim = await self._fresh(PERSISTENT_VOLUME_CLAIMS, name, namespace)
        if claim is None or uid_of(claim) != reference["uid"]:
            await self._release(volume)
        elif not get_in(claim, "spec", "volumeName"):
            if binding.mode_of(volume) != binding.mode_of(claim):
                self._say_modes_differ(volume, claim)
            else:
                self.queue.add(key)
        elif claim["spec"]["volumeName"] == name_of(volume):
            await self._set_phase(volume, "Bound")
        elif binding.PROVISIONED_BY in annotations_of(volume) and _policy(volume) == "Delete":
            await self._release(volume)  # made for this claim, which found another meanwhile
        else:
            volume = await self._write(PERSISTENT_VOLUMES, volume, binding.released_volume(volume))
            await self._set_phase(volume, "Available")

    def _say_modes_differ(self, volume: Obj, claim: Obj) -> None:
        said = f'Cannot bind PersistentVolume to requested PersistentVolumeClaim "{name_of(claim)}"'
        self.recorder.event(volume, "Warning", "VolumeMismatch", f"{said} due to incompatible volumeMode.")
        said = f'Cannot bind PersistentVolume "{name_of(volume)}" to requested PersistentVolumeClaim'
        self.recorder.event(claim, "Warning", "VolumeMismatch", f"{said} due to incompatible volumeMode.")

    async def _release(self, volume: Obj) -> None:
        """The claim is gone. What becomes of the data is the reclaim policy's word and the provisioner's deed."""
        if get_in(volume, "status", "phase") == "Failed":
            return
        volume = await self._set_phase(volume, "Released")
        policy, marks = _policy(volume), annotations_of(volume)
        if policy == "Retain" or binding.MIGRATED_TO in marks:
            return
        if policy == "Delete":
            if binding.PROVISIONED_BY in marks and not marks[binding.PROVISIONED_BY].startswith("kubernetes.io/"):
                return
            if path := get_in(volume, "spec", "hostPath", "path"):
                await self._delete_directory(volume, path)
                return
            why = f'error getting deleter volume plugin for volume "{name_of(volume)}": {_NO_PLUGIN}'
            await self._fail(volume, "VolumeFailedDelete", why)
        elif policy == "Recycle":
            await self._fail(volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!")
        else:
            why = "Volume has unrecognized PersistentVolumeReclaimPolicy"
            await self._fail(volume, "VolumeUnknownReclaimPolicy", why)

    async def _delete_directory(self, volume: Obj, path: str) -> None:
        if not may_be_deleted(path):
            why = f"host_path deleter only supports /tmp/.+ but received provided {path}"
            await self._fail(volume, "VolumeFailedDelete", why)
            return
        try:
            await asyncio.to_thread(delete_directory, Path(path))
        except OSError as error:
            await self._fail(volume, "VolumeFailedDelete", f"unlinkat {path}: {error.strerror}")
            return
        try:
            await self.client.delete(PERSISTENT_VOLUMES, name_of(volume), uid=uid_of(volume))
        except ApiError as error:
            if not error.is_not_found:
                raise

    async def _fail(self, volume: Obj, reason: str, message: str) -> None:
        await self._set_phase(volume, "Failed", message)
        self.recorder.event(volume, "Warning", reason, message)

    # Calls.

    async def _set_phase(self, volume: Obj, phase: str, message: str = "") -> Obj:
        status = volume.get("status") or {}
        if status.get("phase") == phase:
            return volume
        status = {key: value for key, value in status.items() if key not in ("phase", "message")}
        status |= {"phase": phase, "lastPhaseTransitionTime": format_time(utc_now())}
        if message:
            status["message"] = message
        return await self.client.update_status(PERSISTENT_VOLUMES, {**volume, "status": status})

    async def _set_claim_status(self, claim: Obj, status: Obj) -> None:
        if status != (claim.get("status") or {}):
            await self.client.update_status(PERSISTENT_VOLUME_CLAIMS, {**claim, "status": status})

    async def _write(self, resource: GVR, old: Obj, new: Obj) -> Obj:
        return old if new is old else await self.client.update(resource, new)

    async def _fresh(self, resource: GVR, name: str, namespace: str = "") -> Obj | None:
        try:
            return await self.client.get(resource, name, namespace)
        except ApiError as error:
            if error.is_not_found:
                return None
            raise


def _policy(volume: Obj) -> str:
    return get_in(volume, "spec", "persistentVolumeReclaimPolicy") or "Retain"
