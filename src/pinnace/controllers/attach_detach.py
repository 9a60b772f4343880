"""Attaches the CSI volumes that pods need to the nodes they are on, and detaches them when no pod there needs them.

Attaching is asked for with a VolumeAttachment and done by the driver's external attacher; what is attached is told to
the kubelet in the node's status. A volume in use is detached by force only from a node that is lost. Specified by
https://kubernetes.io/docs/concepts/architecture/nodes/#non-graceful-node-shutdown and the CSI design
(https://github.com/kubernetes/design-proposals-archive/blob/main/storage/container-storage-interface.md).
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from pinnace.apis.core.volume_binding import is_meant_for
from pinnace.apis.resources import (
    CSI_DRIVERS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    VOLUME_ATTACHMENTS,
)
from pinnace.apis.storage import csi_names
from pinnace.client.client import Client
from pinnace.client.controller import Controller
from pinnace.client.informer import InformerFactory
from pinnace.controllers.conditions import is_true
from pinnace.controllers.node_lifecycle import by_node
from pinnace.controllers.persistentvolume_binder import claim_of
from pinnace.controllers.podgc import OUT_OF_SERVICE
from pinnace.controllers.pods import is_finished
from pinnace.controllers.volume_protection import claims_of
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, annotations_of, get_in, is_deleting, key_of, name_of, namespace_of

_MANAGED = "volumes.kubernetes.io/controller-managed-attach-detach"
_KEEP_TERMINATED = "volumes.kubernetes.io/keep-terminated-pod-volumes"
_PATIENCE_SECONDS = 360.0  # for which an unmount is waited for on a node that is not ready
_ATTACH_SECONDS = 120.0  # until pods are told that nobody attaches their volume, and told again
_RETRY_SECONDS = 5.0  # between looks at what another node still holds

# Decisions.


def unique_name(volume: Obj) -> str:
    """How a CSI volume is called in a node's status."""
    source = volume["spec"]["csi"]
    return csi_names.unique_name(source["driver"], source["volumeHandle"])


def attachment_name(volume: Obj, node: str) -> str:
    """The VolumeAttachment of a volume on a node."""
    source = volume["spec"]["csi"]
    return csi_names.attachment_name(source["driver"], source["volumeHandle"], node)


def attachment(volume: Obj, node: str) -> Obj:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttachment",
        "metadata": {"name": attachment_name(volume, node)},
        "spec": {
            "attacher": volume["spec"]["csi"]["driver"],
            "nodeName": node,
            "source": {"persistentVolumeName": name_of(volume)},
        },
    }


def may_be_on_many_nodes(volume: Obj) -> bool:
    modes = get_in(volume, "spec", "accessModes") or ()
    return not modes or not {"ReadWriteMany", "ReadOnlyMany"}.isdisjoint(modes)


def in_use_elsewhere(volume: Obj, pods: Iterable[Obj], namespace: str) -> str:
    """Why a volume cannot be attached here: who uses it on another node, as far as the pod's author may know."""
    pods = list(pods)
    names = sorted(name_of(pod) for pod in pods if namespace_of(pod) == namespace)
    foreign = len(pods) - len(names)
    why = "Volume is already exclusively attached to one node and can't be attached to another"
    if names:
        why = f"Volume is already used by pod(s) {', '.join(names)}"
        why += f" and {foreign} pod(s) in different namespaces" if foreign else ""
    elif foreign:
        why = f"Volume is already used by {foreign} pod(s) in different namespaces"
    return f'Multi-Attach error for volume "{name_of(volume)}" {why}'


def wait_before_detach(node: Obj | None, volume: str, unwanted: float, *, by_force: bool = True) -> float | None:
    """Seconds until a volume that nobody wants may be detached: 0 for now; None while the node must unmount it first.

    `unwanted` is for how many seconds nobody wanted it.
    """
    if node is None or volume not in (get_in(node, "status", "volumesInUse") or ()):
        return 0.0
    if any(taint.get("key") == OUT_OF_SERVICE for taint in get_in(node, "spec", "taints") or ()):
        return 0.0
    if is_true(node, "Ready") or not by_force:
        return None
    return max(0.0, _PATIENCE_SECONDS - unwanted)


# The controller.


class AttachDetachController(Controller):
    """One key is one node."""

    name = "persistentvolume-attach-detach-controller"
    component = "attachdetach-controller"

    def __init__(
        self,
        client: Client,
        informers: InformerFactory,
        *,
        force_detach: bool = True,
        attach_seconds: float = _ATTACH_SECONDS,
    ) -> None:
        self._force_detach = force_detach
        self._attach_seconds = attach_seconds
        super().__init__(client, informers)

    def setup(self) -> None:
        self._unwanted: dict[str, float] = {}  # attachment name -> since when, by the steady clock
        self._asked: dict[str, float] = {}  # attachment name -> when it was asked for, or last complained of
        self.nodes = self.watch(NODES)
        self.pods = self.watch(PODS, _node_of_user)
        self.pods.add_index("node", by_node)
        self.pods.add_index("persistentvolumeclaim", claims_of)
        self.claims = self.watch(PERSISTENT_VOLUME_CLAIMS, lambda claim: self._nodes_of(key_of(claim)))
        self.volumes = self.watch(PERSISTENT_VOLUMES, self._nodes_of_volume)
        self.drivers = self.watch(CSI_DRIVERS, self._nodes_of_driver)
        self.attachments = self.watch(VOLUME_ATTACHMENTS, _node_of_attachment)
        self.attachments.add_index("node", _node_of_attachment)
        self.attachments.add_index("volume", _volume_of_attachment)

    def _nodes_of(self, claim: str) -> Iterable[str]:
        return {node for pod in self.pods.store.by_index("persistentvolumeclaim", claim) for node in _node_of_user(pod)}

    def _nodes_of_volume(self, volume: Obj) -> Iterable[str]:
        return {node for claim in claim_of(volume) for node in self._nodes_of(claim)}

    def _nodes_of_driver(self, driver: Obj) -> Iterable[str]:
        found = self.attachments.store.list()
        return {one["spec"]["nodeName"] for one in found if one["spec"]["attacher"] == name_of(driver)}

    async def reconcile(self, key: str) -> float | None:
        node = self.nodes.store.get(key)
        wanted = self._wanted(node) if node is not None else {}
        existing = self._ours(key)
        waits: list[float] = []
        for name, (volume, pods) in wanted.items():
            if name not in existing and not await self._attach(volume, key, pods):
                waits.append(_RETRY_SECONDS)
        going: list[Obj] = []
        for name, one in existing.items():
            if name in wanted:
                self._unwanted.pop(name_of(one), None)
                waits += self._wait_for_attacher(one, *wanted[name])
            elif not is_deleting(one):
                wait = self._wait_before_detach(node, one, name)
                if wait == 0.0:
                    going.append(one)
                elif wait is not None:
                    waits.append(wait)
        if node is not None:
            await self._report(node, wanted, existing, {name_of(one) for one in going})
        for one in going:
            await self._detach(one)
        return min(waits, default=None)

    def _wanted(self, node: Obj) -> dict[str, tuple[Obj, list[Obj]]]:
        """The volumes to be attached to the node, by name, and the pods that need each."""
        if annotations_of(node).get(_MANAGED) != "true":
            return {}
        keeps = annotations_of(node).get(_KEEP_TERMINATED) == "true"
        found: dict[str, tuple[Obj, list[Obj]]] = {}
        for pod in self.pods.store.by_index("node", name_of(node)):
            if is_finished(pod) and not keeps:
                continue
            for key in claims_of(pod):
                volume = self._volume_of_claim(key)
                if volume is not None and self._is_attachable(volume):
                    found.setdefault(name_of(volume), (volume, []))[1].append(pod)
        return found

    def _ours(self, node: str) -> dict[str, Obj]:
        """The attachments on the node that we asked for, by volume; what others ask for is theirs to end."""
        found = {}
        for one in self.attachments.store.by_index("node", node):
            for name in _volume_of_attachment(one):
                volume = self.volumes.store.get(name)
                is_csi = volume is not None and get_in(volume, "spec", "csi")
                if volume is not None and is_csi and name_of(one) == attachment_name(volume, node):
                    found[name] = one
        return found

    def _volume_of_claim(self, key: str) -> Obj | None:
        claim = self.claims.store.get(key)
        volume = self.volumes.store.get(get_in(claim, "spec", "volumeName", default="")) if claim is not None else None
        return volume if claim is not None and volume is not None and is_meant_for(volume, claim) else None

    def _is_attachable(self, volume: Obj) -> bool:
        source = get_in(volume, "spec", "csi")
        if not source:
            return False
        driver = self.drivers.store.get(source["driver"])
        return driver is None or get_in(driver, "spec", "attachRequired", default=True) is not False

    async def _attach(self, volume: Obj, node: str, pods: list[Obj]) -> bool:
        """Ask for an attachment; whether that was possible."""
        held = self.attachments.store.by_index("volume", name_of(volume))
        if held and not may_be_on_many_nodes(volume):
            users = [
                user
                for key in claim_of(volume)
                for user in self.pods.store.by_index("persistentvolumeclaim", key)
                if get_in(user, "spec", "nodeName") not in (None, "", node) and not is_finished(user)
            ]
            for pod in pods:
                why = in_use_elsewhere(volume, users, namespace_of(pod))
                self.recorder.event(pod, "Warning", "FailedAttachVolume", why)
            return False
        try:
            await self.client.create(VOLUME_ATTACHMENTS, attachment(volume, node))
        except ApiError as error:
            if not error.is_already_exists:
                raise
        return True

    def _wait_for_attacher(self, one: Obj, volume: Obj, pods: list[Obj]) -> list[float]:
        """When to look again at an attachment that nobody sees to; its pods are told of it in time."""
        status = one.get("status") or {}
        if status.get("attached") or status.get("attachError"):
            self._asked.pop(name_of(one), None)
            return []
        now = time.monotonic()
        left = self._asked.setdefault(name_of(one), now) + self._attach_seconds - now
        if left > 0:
            return [left]
        self._asked[name_of(one)] = now
        source = volume["spec"]["csi"]
        attacher = f"external-attacher of {source['driver']} CSI driver"
        why = f"timed out waiting for {attacher} to attach volume {source['volumeHandle']}"
        for pod in pods:
            said = f'AttachVolume.Attach failed for volume "{name_of(volume)}" : {why}'
            self.recorder.event(pod, "Warning", "FailedAttachVolume", said)
        return [self._attach_seconds]

    def _wait_before_detach(self, node: Obj | None, one: Obj, name: str) -> float | None:
        now = time.monotonic()
        since = self._unwanted.setdefault(name_of(one), now)
        volume = self.volumes.store.get(name)
        if volume is None:
            return 0.0
        return wait_before_detach(node, unique_name(volume), now - since, by_force=self._force_detach)

    async def _report(
        self, node: Obj, wanted: dict[str, tuple[Obj, list[Obj]]], existing: dict[str, Obj], going: set[str]
    ) -> None:
        """Write what is attached into the node's status, and tell the pods that wait for it."""
        before = {one["name"]: one for one in get_in(node, "status", "volumesAttached") or ()}
        attached: list[Obj] = []
        for name, one in existing.items():
            volume = self.volumes.store.get(name)
            if volume is None or is_deleting(one) or name_of(one) in going:
                continue
            pods = wanted[name][1] if name in wanted else []
            if get_in(one, "status", "attached"):
                attached.append({"name": unique_name(volume), "devicePath": name_of(one)})
                if unique_name(volume) not in before:
                    for pod in pods:
                        said = f'AttachVolume.Attach succeeded for volume "{name}" '
                        self.recorder.event(pod, "Normal", "SuccessfulAttachVolume", said)
            elif why := get_in(one, "status", "attachError", "message"):
                for pod in pods:
                    said = f'AttachVolume.Attach failed for volume "{name}" : {why}'
                    self.recorder.event(pod, "Warning", "FailedAttachVolume", said)
        attached.sort(key=lambda entry: str(entry["name"]))
        if attached != sorted(before.values(), key=lambda entry: str(entry["name"])):
            patch = {"status": {"volumesAttached": attached or None}}
            await self.client.patch(NODES, name_of(node), patch, subresource="status")

    async def _detach(self, one: Obj) -> None:
        try:
            await self.client.delete(VOLUME_ATTACHMENTS, name_of(one))
        except ApiError as error:
            if not error.is_not_found:
                raise
        self._unwanted.pop(name_of(one), None)
        self._asked.pop(name_of(one), None)


def _node_of_user(pod: Obj) -> Iterable[str]:
    """The node of a pod that has claims."""
    return by_node(pod) if any(claims_of(pod)) else ()


def _node_of_attachment(one: Obj) -> Iterable[str]:
    return (one["spec"]["nodeName"],)


def _volume_of_attachment(one: Obj) -> Iterable[str]:
    name = get_in(one, "spec", "source", "persistentVolumeName")
    return (name,) if name else ()
