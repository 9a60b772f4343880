"""Volumes that are directories of this machine: made for claims whose class asks for them, deleted when released.

For clusters of one machine. In a local cluster it is what minikube's storage-provisioner is, under its name; with
`--enable-hostpath-provisioner` what kube-controller-manager has for tests. Decisions are pure; directories are made and
deleted here. https://kubernetes.io/docs/concepts/storage/dynamic-provisioning/ and
https://minikube.sigs.k8s.io/docs/handbook/persistent_volumes/.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

from pinnace.apis.core import volume_binding as binding
from pinnace.apis.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
from pinnace.client.client import Client
from pinnace.client.controller import Controller
from pinnace.client.informer import InformerFactory
from pinnace.controllers.directories import delete_directory, is_below
from pinnace.controllers.persistentvolume_binder import claim_of
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    annotations_of,
    get_in,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    uid_of,
)

_CREATED_BY = "kubernetes.io/createdby"


@dataclass(frozen=True, slots=True)
class Provisioner:
    """Who makes volumes, and below which directory."""

    name: str
    root: Path

    @property
    def is_in_tree(self) -> bool:
        """Whether it is the controller manager's own, which has a directory for each volume and events of its own."""
        return self.name.startswith("kubernetes.io/")

    def directory(self, claim: Obj) -> Path:
        """Where the volume of a claim is."""
        return self.root / uid_of(claim) if self.is_in_tree else self.root / namespace_of(claim) / name_of(claim)


RETRY_SECONDS = 15.0  # after a directory could not be made
IN_TREE = Provisioner("kubernetes.io/host-path", Path("/tmp/hostpath_pv"))

# Decisions.


def is_wanted(claim: Obj, storage_class: Obj | None, provisioner: Provisioner) -> bool:
    """Whether a volume is to be made for the claim: it has none, and asks this provisioner, now."""
    asked = annotations_of(claim).get(binding.PROVISIONER) or annotations_of(claim).get(binding.BETA_PROVISIONER)
    if is_deleting(claim) or get_in(claim, "spec", "volumeName") or asked != provisioner.name:
        return False
    if storage_class is None or storage_class["provisioner"] != provisioner.name:
        return False
    return not binding.is_delayed(storage_class) or binding.SELECTED_NODE in annotations_of(claim)


def refusal(claim: Obj) -> str:
    """Why a directory cannot be what the claim asks for; empty if it can."""
    if get_in(claim, "spec", "selector"):
        return "claim Selector is not supported"
    if binding.mode_of(claim) == "Block":
        return "does not support block volume provisioning"
    return ""


def volume_name(claim: Obj) -> str:
    return f"pvc-{uid_of(claim)}"


def volume_of(claim: Obj, storage_class: Obj, provisioner: Provisioner) -> Obj:
    """The volume to be made for a claim, kept for it."""
    annotations = {binding.PROVISIONED_BY: provisioner.name}
    if provisioner.is_in_tree:
        annotations |= {_CREATED_BY: "hostpath-dynamic-provisioner", binding.BOUND_BY_CONTROLLER: "yes"}
    spec: Obj = {
        "accessModes": get_in(claim, "spec", "accessModes", default=[]),
        "capacity": {"storage": get_in(claim, "spec", "resources", "requests", "storage")},
        "claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": namespace_of(claim),
            "name": name_of(claim),
            "uid": uid_of(claim),
            "resourceVersion": claim["metadata"].get("resourceVersion", ""),
        },
        "hostPath": {"path": str(provisioner.directory(claim)), "type": ""},
        "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
        "storageClassName": name_of(storage_class),
        "volumeMode": "Filesystem",
    }
    if options := storage_class.get("mountOptions"):
        spec["mountOptions"] = options
    metadata = {"name": volume_name(claim), "annotations": annotations}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}


def is_to_be_deleted(volume: Obj, provisioner: Provisioner) -> bool:
    """Whether a volume of this provisioner's has lost its claim and goes with it."""
    return (
        get_in(volume, "status", "phase") == "Released"
        and get_in(volume, "spec", "persistentVolumeReclaimPolicy") == "Delete"
        and annotations_of(volume).get(binding.PROVISIONED_BY) == provisioner.name
    )


# Carrying them out.


class HostPathProvisioner(Controller):
    """One key is one claim, `namespace/name`, or one volume, `name`."""

    name = "hostpath-provisioner"
    workers = 2

    def __init__(self, client: Client, informers: InformerFactory, *, provisioner: Provisioner) -> None:
        self.provisioner = provisioner
        self.component = "persistentvolume-controller" if provisioner.is_in_tree else provisioner.name
        super().__init__(client, informers)

    def setup(self) -> None:
        self.claims = self.watch(PERSISTENT_VOLUME_CLAIMS)
        # A volume that goes makes room for the next claim of the name.
        self.volumes = self.watch(PERSISTENT_VOLUMES, lambda volume: (name_of(volume), *claim_of(volume)))
        self.classes = self.use(STORAGE_CLASSES)

    async def reconcile(self, key: str) -> float | None:
        if "/" not in key:
            volume = self.volumes.store.get(key)
            if volume is not None and not self.provisioner.is_in_tree:  # the binder deletes those of the tree
                await self._delete(volume)
            return None
        claim = self.claims.store.get(key)
        storage_class = self.classes.store.get(binding.class_of(claim)) if claim is not None else None
        if claim is None or storage_class is None or not is_wanted(claim, storage_class, self.provisioner):
            return None
        directory = self.provisioner.directory(claim)
        if self.volumes.store.get(volume_name(claim)) is not None or self._is_to_be_emptied(directory):
            return None
        return await self._make(claim, storage_class, directory)

    def _is_to_be_emptied(self, directory: Path) -> bool:
        """Whether what an earlier claim of the name left there is about to be deleted."""
        return any(
            get_in(volume, "spec", "hostPath", "path") == str(directory)
            and get_in(volume, "spec", "persistentVolumeReclaimPolicy") == "Delete"
            for volume in self.volumes.store.list()
        )

    async def _make(self, claim: Obj, storage_class: Obj, directory: Path) -> float | None:
        name, why = volume_name(claim), refusal(claim)
        if not self.provisioner.is_in_tree:
            message = f'External provisioner is provisioning volume for claim "{key_of(claim)}"'
            self.recorder.event(claim, "Normal", "Provisioning", message)
        try:
            if not why:
                directory.mkdir(parents=True, exist_ok=True)
                directory.chmod(0o750 if self.provisioner.is_in_tree else 0o777)
        except OSError as error:
            why = f"mkdir {directory}: {error.strerror}"
        if why:
            message = f'failed to provision volume with StorageClass "{name_of(storage_class)}": {why}'
            self.recorder.event(claim, "Warning", "ProvisioningFailed", message)
            return RETRY_SECONDS
        await self.client.create(PERSISTENT_VOLUMES, volume_of(claim, storage_class, self.provisioner))
        using = f" using {self.provisioner.name}" if self.provisioner.is_in_tree else ""
        self.recorder.event(claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {name}{using}")
        return None

    async def _delete(self, volume: Obj) -> None:
        if not is_to_be_deleted(volume, self.provisioner):
            return
        path = str(get_in(volume, "spec", "hostPath", "path", default=""))
        if not is_below(path, self.provisioner.root):
            why = f"{path or 'no directory'} is not below {self.provisioner.root}"
            self.recorder.event(volume, "Warning", "VolumeFailedDelete", why)
            return
        try:
            await asyncio.to_thread(delete_directory, Path(path))
        except OSError as error:
            self.recorder.event(volume, "Warning", "VolumeFailedDelete", f"unlinkat {path}: {error.strerror}")
            raise
        with contextlib.suppress(OSError):
            Path(path).parent.rmdir()  # others of the namespace may be there
        try:
            await self.client.delete(PERSISTENT_VOLUMES, name_of(volume), uid=uid_of(volume))
        except ApiError as error:
            if not error.is_not_found:
                raise
