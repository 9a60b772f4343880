"""What a pod's volume is to its CSI driver, and what the driver is told of it: pure.

Specified by https://kubernetes.io/docs/concepts/storage/volumes/#csi, https://kubernetes-csi.github.io/docs/ and
https://github.com/container-storage-interface/spec.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

from pinnace.apis.storage import csi_names
from pinnace.machinery.meta import Obj, name_of, namespace_of, uid_of

# Capabilities of a driver's Node service, by CSI's numbers.
STAGE_UNSTAGE_VOLUME, GET_VOLUME_STATS, EXPAND_VOLUME, VOLUME_CONDITION = 1, 2, 3, 4
SINGLE_NODE_MULTI_WRITER, VOLUME_MOUNT_GROUP = 5, 6

_MAY_GO_ON = ("CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED")

Step = Literal["NodeStage", "NodePublish", "NodeExpand"]


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
    secrets: dict[Step, Obj] = field(default_factory=dict)  # references, for steps that need one

    @property
    def unique_name(self) -> str:
        """As the node's status has it."""
        return csi_names.unique_name(self.driver, self.handle)


def of_persistent(persistent: Obj, volume: Obj) -> CsiVolume:
    """What a pod's `volume` means by a claim that is bound to this persistent volume."""
    spec = persistent["spec"]
    source = spec["csi"]
    references: dict[Step, Obj] = {
        "NodeStage": source.get("nodeStageSecretRef"),
        "NodePublish": source.get("nodePublishSecretRef"),
        "NodeExpand": source.get("nodeExpandSecretRef"),
    }
    return CsiVolume(
        source["driver"],
        source["volumeHandle"],
        name_of(persistent),
        inline=False,
        block=spec.get("volumeMode") == "Block",
        read_only=bool(source.get("readOnly")) or bool((volume.get("persistentVolumeClaim") or {}).get("readOnly")),
        fs_type=source.get("fsType") or "",
        mount_options=tuple(spec.get("mountOptions") or ()),
        modes=tuple(spec.get("accessModes") or ()),
        attributes=dict(source.get("volumeAttributes") or {}),
        secrets={step: reference for step, reference in references.items() if reference},
    )


def of_inline(pod: Obj, volume: Obj) -> CsiVolume:
    """What a pod has of a driver for itself alone, as long as it is there."""
    source = volume["csi"]
    digest = hashlib.sha256(f"{uid_of(pod)}{volume['name']}".encode()).hexdigest()
    reference = source.get("nodePublishSecretRef")
    return CsiVolume(
        source["driver"],
        f"csi-{digest}",
        volume["name"],
        inline=True,
        read_only=bool(source.get("readOnly")),
        fs_type=source.get("fsType") or "",
        modes=("ReadWriteOnce",),
        attributes=dict(source.get("volumeAttributes") or {}),
        secrets={"NodePublish": {**reference, "namespace": namespace_of(pod)}} if reference else {},
    )


def access_mode(modes: tuple[str, ...], *, single_node_multi: bool) -> int:
    """CSI's number for the first of a volume's access modes; some drivers can tell pods of one node apart."""
    first = modes[0] if modes else "ReadWriteOnce"
    if first == "ReadWriteOnce" and single_node_multi:
        return 7
    if first == "ReadWriteOncePod" and single_node_multi:
        return 6
    return {"ReadOnlyMany": 3, "ReadWriteMany": 5}.get(first, 1)


def capability(volume: CsiVolume, can: frozenset[int], group: int | None = None) -> dict[str, Any]:
    """The VolumeCapability; `group` is whom a driver that sees to it gives the files to, `can` what it can."""
    mode = {"mode": access_mode(volume.modes, single_node_multi=SINGLE_NODE_MULTI_WRITER in can)}
    if volume.block:
        return {"block": {}, "access_mode": mode}
    mount: dict[str, Any] = {"fs_type": volume.fs_type, "mount_flags": list(volume.mount_options)}
    if group is not None and VOLUME_MOUNT_GROUP in can:
        mount["volume_mount_group"] = str(group)
    return {"mount": mount, "access_mode": mode}


def is_final(code: str) -> bool:
    """Whether a call that failed with this gRPC code has done nothing: after others the driver may still be at it."""
    return code not in _MAY_GO_ON


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
    single = not {"ReadWriteOnce", "ReadWriteOncePod"}.isdisjoint(volume.modes)
    return policy == "File" or (bool(volume.fs_type) and single)
