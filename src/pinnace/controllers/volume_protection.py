"""Keeps claims, volumes and their classes that are in use from vanishing: their finalizers go when nothing uses them.

Admission gives every new claim and volume its finalizer; what was made without gets it here. Specified by
https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection.
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.apis.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, VOLUME_ATTRIBUTES_CLASSES
from pinnace.client.client import Client
from pinnace.client.controller import Controller, itself
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj, controller_of, get_in, is_deleting, name_of, namespace_of, uid_of

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"
CLASS_FINALIZER = "kubernetes.io/vac-protection"


def claims_of(pod: Obj) -> Iterable[str]:
    """The keys of the claims that a pod's volumes are, its own ephemeral ones among them."""
    for volume in pod["spec"].get("volumes") or ():  # asked of every pod that changes
        if "persistentVolumeClaim" in volume:
            yield f"{namespace_of(pod)}/{volume['persistentVolumeClaim']['claimName']}"
        elif "ephemeral" in volume:
            yield f"{namespace_of(pod)}/{name_of(pod)}-{volume['name']}"


def uses(pod: Obj, claim: Obj) -> bool:
    """Whether a pod has a claim that it names: from when it is placed on a node until it is gone.

    What was made for the pod alone it has only until its node is done with it: a deletion in the foreground waits for
    what the pod owns, and its claims would wait for the pod.
    """
    if not get_in(pod, "spec", "nodeName"):
        return False
    done = is_deleting(pod) and pod["metadata"].get("deletionGracePeriodSeconds") == 0
    owner = controller_of(claim) or {}
    for volume in pod["spec"].get("volumes") or ():
        if get_in(volume, "persistentVolumeClaim", "claimName") == name_of(claim):
            return True
        if "ephemeral" in volume and name_of(claim) == f"{name_of(pod)}-{volume['name']}":
            return not done and owner.get("uid") == uid_of(pod)
    return False


def attributes_of(obj: Obj) -> Iterable[str]:
    """The names of the VolumeAttributesClasses that a claim or volume has, asks for, or is on its way to."""
    named = {
        get_in(obj, "spec", "volumeAttributesClassName"),
        get_in(obj, "status", "currentVolumeAttributesClassName"),
        get_in(obj, "status", "modifyVolumeStatus", "targetVolumeAttributesClassName"),
    }
    return sorted(name for name in named if name)


def guarded(obj: Obj, finalizer: str, *, in_use: bool) -> list[str] | None:
    """The finalizers that a claim or volume should have; None if it has them."""
    finalizers: list[str] = obj["metadata"].get("finalizers") or []
    if is_deleting(obj) and not in_use and finalizer in finalizers:
        return [one for one in finalizers if one != finalizer]
    if not is_deleting(obj) and finalizer not in finalizers:
        return [*finalizers, finalizer]
    return None


class PvcProtectionController(Controller):
    """One key is one claim."""

    name = "persistentvolumeclaim-protection-controller"
    workers = 2

    def setup(self) -> None:
        self.claims = self.watch(PERSISTENT_VOLUME_CLAIMS, itself)
        self.pods = self.watch(PODS, claims_of)
        self.pods.add_index("persistentvolumeclaim", claims_of)

    async def reconcile(self, key: str) -> None:
        claim = self.claims.store.get(key)
        if claim is None:
            return
        in_use = any(uses(pod, claim) for pod in self.pods.store.by_index("persistentvolumeclaim", key))
        await _write(self.client, PERSISTENT_VOLUME_CLAIMS, claim, guarded(claim, CLAIM_FINALIZER, in_use=in_use))


class PvProtectionController(Controller):
    """One key is one volume. It is in use while it is bound to a claim."""

    name = "persistentvolume-protection-controller"
    workers = 1

    def setup(self) -> None:
        self.volumes = self.watch(PERSISTENT_VOLUMES, itself)

    async def reconcile(self, key: str) -> None:
        volume = self.volumes.store.get(key)
        if volume is None:
            return
        in_use = get_in(volume, "status", "phase") == "Bound"
        await _write(self.client, PERSISTENT_VOLUMES, volume, guarded(volume, VOLUME_FINALIZER, in_use=in_use))


class VacProtectionController(Controller):
    """One key is one VolumeAttributesClass. It is in use while a claim or volume names it."""

    name = "volumeattributesclass-protection-controller"
    workers = 1

    def setup(self) -> None:
        self.classes = self.watch(VOLUME_ATTRIBUTES_CLASSES)
        self.users = [
            self.watch(resource, attributes_of) for resource in (PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES)
        ]
        for informer in self.users:
            informer.add_index("attributes", attributes_of)

    async def reconcile(self, key: str) -> None:
        found = self.classes.store.get(key)
        if found is None:
            return
        in_use = any(informer.store.by_index("attributes", key) for informer in self.users)
        await _write(self.client, VOLUME_ATTRIBUTES_CLASSES, found, guarded(found, CLASS_FINALIZER, in_use=in_use))


async def _write(client: Client, resource: GVR, obj: Obj, finalizers: list[str] | None) -> None:
    if finalizers is None:
        return
    try:
        await client.update(resource, {**obj, "metadata": {**obj["metadata"], "finalizers": finalizers}})
    except ApiError as error:
        if not error.is_not_found:
            raise
