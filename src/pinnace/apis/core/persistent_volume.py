"""Persistent volumes: storage that outlives the pods that use it.

Specified in https://kubernetes.io/docs/concepts/storage/persistent-volumes/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import every, one_of, optional_one_of, unchanged
from pinnace.apis.core.affinity import validate_node_selector
from pinnace.apis.core.persistent_volume_claim import (
    VOLUME_MODES,
    access_modes,
    positive_size,
    short_modes,
    storage_class,
)
from pinnace.apis.core.pod_defaults import default_volume_source
from pinnace.apis.core.volumes import validate_csi, validate_host_path, validate_nfs
from pinnace.apis.fields import AGE, NAME, UNSET, age, column, name, spec_of, status_of, wide
from pinnace.apis.kind import Rules
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, field_forbidden, not_supported, required
from pinnace.machinery.meta import Obj, is_deleting

SOURCES = (
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "csi",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "glusterfs",
    "hostPath",
    "iscsi",
    "local",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
)
_RECLAIM = ("Delete", "Recycle", "Retain")


def default(volume: Obj) -> None:
    spec = volume.setdefault("spec", {})
    if not spec.get("persistentVolumeReclaimPolicy"):
        spec["persistentVolumeReclaimPolicy"] = "Retain"
    if not spec.get("volumeMode"):
        spec["volumeMode"] = "Filesystem"
    for source in SOURCES:
        if spec.get(source) is not None:
            default_volume_source(source, spec[source])


def prepare(volume: Obj, old: Obj | None) -> None:
    if old is None:
        volume["status"] = {"phase": "Pending"}


def validate(volume: Obj) -> list[Cause]:
    spec = spec_of(volume)
    modes = spec.get("accessModes") or []
    errors = [] if modes else [required("spec.accessModes")]
    errors += access_modes(modes, "spec.accessModes")
    capacity = spec.get("capacity") or {}
    if not capacity:
        errors.append(required("spec.capacity"))
    if "storage" not in capacity or len(capacity) > 1:
        errors.append(not_supported("spec.capacity", capacity, ("storage",)))
    for key, size in capacity.items():
        errors += positive_size(size, f"spec.capacity[{key}]")
    policy = spec.get("persistentVolumeReclaimPolicy")
    errors += one_of("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM)
    errors += _source(spec)
    if (spec.get("nodeAffinity") or {}).get("required"):
        errors += validate_node_selector(spec["nodeAffinity"]["required"], "spec.nodeAffinity.required")
    if spec.get("storageClassName"):
        errors += every(
            "spec.storageClassName", spec["storageClassName"], names.is_dns_subdomain(spec["storageClassName"])
        )
    return errors + optional_one_of("spec.volumeMode", spec.get("volumeMode"), VOLUME_MODES)


def _source(spec: Obj) -> list[Cause]:
    present = [source for source in SOURCES if spec.get(source) is not None]
    if not present:
        return [required("spec", "must specify a volume type")]
    errors = [field_forbidden(f"spec.{source}", "may not specify more than 1 volume type") for source in present[1:]]
    source = present[0]
    settings, path = spec[source], f"spec.{source}"
    if source == "hostPath":
        errors += validate_host_path(settings, path)
        if settings.get("path") == "/" and spec.get("persistentVolumeReclaimPolicy") == "Recycle":
            why = "may not be 'recycle' for a hostPath mount of '/'"
            errors.append(field_forbidden("spec.persistentVolumeReclaimPolicy", why))
    elif source == "nfs":
        errors += validate_nfs(settings, path)
    elif source == "csi":
        errors += validate_csi(settings, path)
        if not settings.get("volumeHandle"):
            errors.append(required(f"{path}.volumeHandle"))
    elif source == "local":
        if not settings.get("path"):
            errors.append(required(f"{path}.path"))
        if not spec.get("nodeAffinity"):
            errors.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
    return errors


def validate_update(new: Obj, old: Obj) -> list[Cause]:
    spec, before = new["spec"], old["spec"]
    errors: list[Cause] = []
    if any(spec.get(source) != before.get(source) for source in SOURCES):
        why = "spec.persistentvolumesource is immutable after creation"
        errors.append(field_forbidden("spec.persistentvolumesource", why))
    errors += unchanged("spec.volumeMode", spec.get("volumeMode"), before.get("volumeMode"))
    if before.get("nodeAffinity"):
        errors += unchanged("spec.nodeAffinity", spec.get("nodeAffinity"), before["nodeAffinity"])
    return errors


def row(volume: Obj, now: datetime) -> list[Any]:
    spec, status = spec_of(volume), status_of(volume)
    claim = spec.get("claimRef")
    return [
        name(volume),
        (spec.get("capacity") or {}).get("storage") or "",
        short_modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy") or "",
        "Terminating" if is_deleting(volume) else status.get("phase") or "",
        f"{claim.get('namespace') or ''}/{claim.get('name') or ''}" if claim else "",
        storage_class(volume),
        spec.get("volumeAttributesClassName") or UNSET,
        status.get("reason") or "",
        age(volume, now),
        spec.get("volumeMode") or UNSET,
    ]


PERSISTENT_VOLUME = Rules(
    columns=(
        NAME,
        column("Capacity"),
        column("Access Modes"),
        column("Reclaim Policy"),
        column("Status"),
        column("Claim"),
        column("StorageClass"),
        column("VolumeAttributesClass"),
        column("Reason"),
        AGE,
        wide("VolumeMode"),
    ),
    row=row,
    default=default,
    validate=validate,
    validate_update=validate_update,
    prepare=prepare,
)
