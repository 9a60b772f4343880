"""Storage classes, drivers and attachments: where volumes come from.

Specified in https://kubernetes.io/docs/concepts/storage/storage-classes/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import needed, one_of, optional_one_of, unchanged
from pinnace.apis.core.volumes import validate_csi
from pinnace.apis.fields import AGE, NAME, UNSET, age, column, name, spec_of, status_of
from pinnace.apis.kind import Rules
from pinnace.apis.metadata import name_is_subdomain
from pinnace.apis.workload import forget_status
from pinnace.machinery.errors import Cause, field_forbidden, required
from pinnace.machinery.meta import Obj, annotations_of

_DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
_DEFAULT_ATTRIBUTES = "volumeattributesclass.kubernetes.io/is-default-class"
_BINDING_MODES = ("Immediate", "WaitForFirstConsumer")


def default_class(storage_class: Obj) -> None:
    if not storage_class.get("reclaimPolicy"):
        storage_class["reclaimPolicy"] = "Delete"
    if not storage_class.get("volumeBindingMode"):
        storage_class["volumeBindingMode"] = "Immediate"


def validate_class(storage_class: Obj) -> list[Cause]:
    errors = needed("provisioner", storage_class.get("provisioner"))
    errors += one_of("reclaimPolicy", storage_class.get("reclaimPolicy"), ("Delete", "Retain"))
    for key in storage_class.get("parameters") or {}:
        if not key:
            errors.append(required("parameters", "field can not be empty."))
    return errors + one_of("volumeBindingMode", storage_class.get("volumeBindingMode"), _BINDING_MODES)


def validate_class_update(new: Obj, old: Obj) -> list[Cause]:
    errors: list[Cause] = []
    if (new.get("parameters") or {}) != (old.get("parameters") or {}):
        errors.append(field_forbidden("parameters", "updates to parameters are forbidden."))
    if new.get("provisioner") != old.get("provisioner"):
        errors.append(field_forbidden("provisioner", "updates to provisioner are forbidden."))
    if new.get("reclaimPolicy") != old.get("reclaimPolicy"):
        errors.append(field_forbidden("reclaimPolicy", "updates to reclaimPolicy are forbidden."))
    return errors + unchanged("volumeBindingMode", new.get("volumeBindingMode"), old.get("volumeBindingMode"))


def row_class(storage_class: Obj, now: datetime) -> list[Any]:
    annotations = annotations_of(storage_class)
    is_default = any(annotations.get(key) == "true" for key in _DEFAULT_CLASS)
    return [
        name(storage_class) + (" (default)" if is_default else ""),
        storage_class.get("provisioner") or "",
        storage_class.get("reclaimPolicy") or "Delete",
        storage_class.get("volumeBindingMode") or "Immediate",
        bool(storage_class.get("allowVolumeExpansion")),
        age(storage_class, now),
    ]


STORAGE_CLASS = Rules(
    columns=(
        NAME,
        column("Provisioner"),
        column("ReclaimPolicy"),
        column("VolumeBindingMode"),
        column("AllowVolumeExpansion"),
        AGE,
    ),
    row=row_class,
    default=default_class,
    validate=validate_class,
    validate_update=validate_class_update,
)


def row_attributes(attributes: Obj, now: datetime) -> list[Any]:
    is_default = annotations_of(attributes).get(_DEFAULT_ATTRIBUTES) == "true"
    shown = name(attributes) + (" (default)" if is_default else "")
    return [shown, attributes.get("driverName") or "", age(attributes, now)]


def validate_attributes(attributes: Obj) -> list[Cause]:
    errors = needed("driverName", attributes.get("driverName"))
    if not attributes.get("parameters"):
        errors.append(required("parameters", "must contain at least one key/value pair"))
    return errors


def validate_attributes_update(new: Obj, old: Obj) -> list[Cause]:
    return [
        field_forbidden(key, f"updates to {key} are forbidden.")
        for key in ("driverName", "parameters")
        if new.get(key) != old.get(key)
    ]


VOLUME_ATTRIBUTES_CLASS = Rules(
    columns=(NAME, column("DriverName"), AGE),
    row=row_attributes,
    validate=validate_attributes,
    validate_update=validate_attributes_update,
)


def default_driver(driver: Obj) -> None:
    spec = driver.setdefault("spec", {})
    for key, value in (
        ("attachRequired", True),
        ("podInfoOnMount", False),
        ("storageCapacity", False),
        ("fsGroupPolicy", "ReadWriteOnceWithFSType"),
        ("requiresRepublish", False),
        ("seLinuxMount", False),
    ):
        if spec.get(key) is None:
            spec[key] = value
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


def validate_driver(driver: Obj) -> list[Cause]:
    spec = spec_of(driver)
    errors = validate_csi({"driver": name(driver)}, "metadata.name")
    errors = [Cause(error.reason, error.message, "metadata.name") for error in errors]
    for mode in spec.get("volumeLifecycleModes") or ():
        errors += optional_one_of("spec.volumeLifecycleModes", mode, ("Ephemeral", "Persistent"))
    policies = ("File", "None", "ReadWriteOnceWithFSType")
    return errors + optional_one_of("spec.fsGroupPolicy", spec.get("fsGroupPolicy"), policies)


def validate_driver_update(new: Obj, old: Obj) -> list[Cause]:
    errors: list[Cause] = []
    for key in ("attachRequired", "volumeLifecycleModes"):
        errors += unchanged(f"spec.{key}", spec_of(new).get(key), spec_of(old).get(key))
    return errors


def row_driver(driver: Obj, now: datetime) -> list[Any]:
    spec = spec_of(driver)
    audiences = [request.get("audience") or "" for request in spec.get("tokenRequests") or ()]
    return [
        name(driver),
        spec.get("attachRequired", True),
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        ",".join(audiences) or UNSET,
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()),
        age(driver, now),
    ]


CSI_DRIVER = Rules(
    name=name_is_subdomain,
    columns=(
        NAME,
        column("AttachRequired", "boolean"),
        column("PodInfoOnMount", "boolean"),
        column("StorageCapacity", "boolean"),
        column("TokenRequests"),
        column("RequiresRepublish", "boolean"),
        column("Modes"),
        AGE,
    ),
    row=row_driver,
    default=default_driver,
    validate=validate_driver,
    validate_update=validate_driver_update,
)


def row_csi_node(node: Obj, now: datetime) -> list[Any]:
    return [name(node), len(spec_of(node).get("drivers") or ()), age(node, now)]


def validate_csi_node(node: Obj) -> list[Cause]:
    errors: list[Cause] = []
    for index, driver in enumerate(spec_of(node).get("drivers") or ()):
        for key in ("name", "nodeID"):
            errors += needed(f"spec.drivers[{index}].{key}", driver.get(key))
    return errors


CSI_NODE = Rules(columns=(NAME, column("Drivers", "integer"), AGE), row=row_csi_node, validate=validate_csi_node)


def row_capacity(capacity: Obj, _now: datetime) -> list[Any]:
    return [name(capacity), capacity.get("storageClassName") or "", str(capacity.get("capacity") or UNSET)]


CSI_STORAGE_CAPACITY = Rules(columns=(NAME, column("StorageClassName"), column("Capacity")), row=row_capacity)


def validate_attachment(attachment: Obj) -> list[Cause]:
    spec = spec_of(attachment)
    errors = needed("spec.attacher", spec.get("attacher")) + needed("spec.nodeName", spec.get("nodeName"))
    source = spec.get("source") or {}
    if not source.get("persistentVolumeName") and source.get("inlineVolumeSpec") is None:
        why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        errors.append(required("spec.source", why))
    return errors


def validate_attachment_update(new: Obj, old: Obj) -> list[Cause]:
    return unchanged("spec", new.get("spec"), old.get("spec"))


def row_attachment(attachment: Obj, now: datetime) -> list[Any]:
    spec = spec_of(attachment)
    return [
        name(attachment),
        spec.get("attacher") or "",
        (spec.get("source") or {}).get("persistentVolumeName") or "",
        spec.get("nodeName") or "",
        bool(status_of(attachment).get("attached")),
        age(attachment, now),
    ]


VOLUME_ATTACHMENT = Rules(
    columns=(
        NAME,
        column("Attacher", "string"),
        column("PV", "string"),
        column("Node", "string"),
        column("Attached", "boolean"),
        AGE,
    ),
    row=row_attachment,
    validate=validate_attachment,
    validate_update=validate_attachment_update,
    prepare=forget_status,
)
