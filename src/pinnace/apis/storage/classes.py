"""Storage classes, drivers and attachments: where volumes come from.

Specified in https://kubernetes.io/docs/concepts/storage/storage-classes/.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pinnace.apis.checks import (
    IMMUTABLE,
    every,
    needed,
    not_negative,
    one_of,
    optional_one_of,
    quantity_not_negative,
    unchanged,
    unique,
)
from pinnace.apis.core.volumes import validate_csi
from pinnace.apis.fields import AGE, NAME, UNSET, age, column, name, spec_of, status_of
from pinnace.apis.kind import Rules
from pinnace.apis.metadata import name_is_subdomain
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, duplicate, field_forbidden, invalid_value, required, too_long
from pinnace.machinery.meta import Obj, annotations_of
from pinnace.machinery.selectors import label_selector_errors

_DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
_DEFAULT_ATTRIBUTES = "volumeattributesclass.kubernetes.io/is-default-class"
_BINDING_MODES = ("Immediate", "WaitForFirstConsumer")
_MOST_PARAMETERS = 512
_PARAMETER_BYTES = 256 << 10
_NODE_ID_LENGTH = 256
_TOO_LONG_ID = f"must be {_NODE_ID_LENGTH} characters or less"


def default_class(storage_class: Obj) -> None:
    if not storage_class.get("reclaimPolicy"):
        storage_class["reclaimPolicy"] = "Delete"
    if not storage_class.get("volumeBindingMode"):
        storage_class["volumeBindingMode"] = "Immediate"


def validate_class(storage_class: Obj) -> list[Cause]:
    errors = _driver("provisioner", storage_class.get("provisioner") or "")
    errors += _parameters(storage_class.get("parameters") or {})
    errors += one_of("reclaimPolicy", storage_class.get("reclaimPolicy"), ("Delete", "Retain"))
    errors += one_of("volumeBindingMode", storage_class.get("volumeBindingMode"), _BINDING_MODES)
    for index, term in enumerate(storage_class.get("allowedTopologies") or ()):
        errors += _topology(term, f"allowedTopologies[{index}].matchLabelExpressions")
    return errors


def _driver(field: str, driver: str) -> list[Cause]:
    """A qualified name, in whatever case."""
    return every(field, driver, names.is_qualified_name(driver.lower())) if driver else [required(field)]


def _parameters(parameters: Mapping[str, str]) -> list[Cause]:
    errors: list[Cause] = []
    if len(parameters) > _MOST_PARAMETERS:
        errors.append(too_long("parameters", _MOST_PARAMETERS))
    errors += [invalid_value("parameters", key, "field can not be empty.") for key in parameters if not key]
    if sum(len(key.encode()) + len(value.encode()) for key, value in parameters.items()) > _PARAMETER_BYTES:
        errors.append(too_long("parameters", _PARAMETER_BYTES))
    return errors


def _topology(term: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    seen: set[str] = set()
    for index, expression in enumerate(term.get("matchLabelExpressions") or ()):
        at, key, values = f"{path}[{index}]", expression.get("key") or "", expression.get("values") or []
        errors += unique(f"{at}.values", values) if values else [required(f"{at}.values")]
        errors += every(f"{at}.key", key, names.is_qualified_name(key))
        if key in seen:
            errors.append(duplicate(f"{at}.key", key))
        seen.add(key)
    return errors


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
    errors = _driver("driverName", attributes.get("driverName") or "")
    parameters = attributes.get("parameters") or {}
    if not parameters:
        errors.append(required("parameters", "must contain at least one key/value pair"))
    return errors + _parameters(parameters)


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
    errors = _renamed(errors, "metadata.name")
    policies = ("File", "None", "ReadWriteOnceWithFSType")
    errors += optional_one_of("spec.fsGroupPolicy", spec.get("fsGroupPolicy"), policies)
    errors += _token_requests(spec.get("tokenRequests") or [])
    for mode in spec.get("volumeLifecycleModes") or ():
        errors += optional_one_of("spec.volumeLifecycleModes", mode, ("Ephemeral", "Persistent"))
    return errors


def _token_requests(requests: list[Obj]) -> list[Cause]:
    errors: list[Cause] = []
    seen: set[str] = set()
    for index, request in enumerate(requests):
        path, audience = f"spec.tokenRequests[{index}]", request.get("audience") or ""
        if audience in seen:
            errors.append(duplicate(f"{path}.audience", audience))
        seen.add(audience)
        seconds = request.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            why = "may not specify a duration less than 10 minutes"
            errors.append(invalid_value(f"{path}.expirationSeconds", seconds, why))
        if seconds is not None and seconds > 1 << 32:
            why = "may not specify a duration larger than 2^32 seconds"
            errors.append(invalid_value(f"{path}.expirationSeconds", seconds, why))
    return errors


def validate_driver_update(new: Obj, old: Obj) -> list[Cause]:
    errors: list[Cause] = []
    for key, shown in (("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")):
        errors += unchanged(f"spec.{shown}", spec_of(new).get(key), spec_of(old).get(key))
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
    seen: set[str] = set()
    for index, driver in enumerate(spec_of(node).get("drivers") or ()):
        path, driver_name = f"spec.drivers[{index}]", driver.get("name") or ""
        errors += _renamed(validate_csi({"driver": driver_name}, path), f"{path}.name")
        errors += needed(f"{path}.nodeID", driver.get("nodeID"))
        if len(driver.get("nodeID") or "") > _NODE_ID_LENGTH:
            errors.append(invalid_value(f"{path}.nodeID", driver["nodeID"], _TOO_LONG_ID))
        for key in driver.get("topologyKeys") or ():
            errors += every(f"{path}.topologyKeys", key, names.is_qualified_name(key))
        count = (driver.get("allocatable") or {}).get("count")
        errors += not_negative(f"{path}.allocatable.count", count)
        if driver_name in seen:
            errors.append(duplicate(f"{path}.name", driver_name))
        seen.add(driver_name)
    return errors


def _renamed(errors: list[Cause], field: str) -> list[Cause]:
    return [Cause(error.reason, error.message, field) for error in errors]


def validate_csi_node_update(new: Obj, old: Obj) -> list[Cause]:
    """A driver may come and go, and say how many volumes it takes; it never becomes another."""
    drivers = spec_of(new).get("drivers") or []
    kept = {driver.get("name"): driver for driver in drivers}

    def fixed(driver: Obj) -> Obj:
        return {key: value for key, value in driver.items() if key != "allocatable"}

    return [
        invalid_value("CSINodeDriver", drivers, IMMUTABLE)
        for before in spec_of(old).get("drivers") or ()
        if before.get("name") in kept and fixed(kept[before.get("name")]) != fixed(before)
    ]


CSI_NODE = Rules(
    columns=(NAME, column("Drivers", "integer"), AGE),
    row=row_csi_node,
    validate=validate_csi_node,
    validate_update=validate_csi_node_update,
)


def validate_capacity(capacity: Obj) -> list[Cause]:
    of_class = capacity.get("storageClassName") or ""
    errors = every("storageClassName", of_class, names.is_dns_subdomain(of_class))
    for key in ("capacity", "maximumVolumeSize"):
        if capacity.get(key) is not None:
            errors += quantity_not_negative(key, capacity[key])
    return errors + label_selector_errors(capacity.get("nodeTopology"), "nodeTopology")


def validate_capacity_update(new: Obj, old: Obj) -> list[Cause]:
    return [
        error for key in ("nodeTopology", "storageClassName") for error in unchanged(key, new.get(key), old.get(key))
    ]


def row_capacity(capacity: Obj, _now: datetime) -> list[Any]:
    return [name(capacity), capacity.get("storageClassName") or "", str(capacity.get("capacity") or UNSET)]


CSI_STORAGE_CAPACITY = Rules(
    columns=(NAME, column("StorageClassName"), column("Capacity")),
    row=row_capacity,
    validate=validate_capacity,
    validate_update=validate_capacity_update,
)


_ONE_SOURCE = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"


def validate_attachment(attachment: Obj) -> list[Cause]:
    spec = spec_of(attachment)
    errors = _driver("spec.attacher", spec.get("attacher") or "")
    source, volume = spec.get("source") or {}, (spec.get("source") or {}).get("persistentVolumeName")
    if source.get("inlineVolumeSpec") is None and volume is None:
        errors.append(required("spec.source", _ONE_SOURCE))
    elif source.get("inlineVolumeSpec") is not None and volume is not None:
        errors.append(field_forbidden("spec.source", _ONE_SOURCE))
    elif volume is not None:
        path = "spec.source.persistentVolumeName"
        missing = [required(path, "must specify non empty persistentVolumeName")]
        errors += every(path, volume, names.is_dns_subdomain(volume)) if volume else missing
    node = spec.get("nodeName") or ""
    return errors + every("spec.nodeName", node, names.is_dns_subdomain(node))


def validate_attachment_update(new: Obj, old: Obj) -> list[Cause]:
    return unchanged("spec", new.get("spec"), old.get("spec"))


def prepare_attachment(attachment: Obj, old: Obj | None) -> None:
    if old is None:
        attachment["status"] = {"attached": False}


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
    prepare=prepare_attachment,
)
