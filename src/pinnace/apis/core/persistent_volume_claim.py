"""Claims to storage: how much, how it is to be reached, and from which class.

Specified in https://kubernetes.io/docs/concepts/storage/persistent-volumes/#persistentvolumeclaims.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import amount, every, optional_one_of
from pinnace.apis.fields import AGE, NAME, UNSET, age, column, name, spec_of, status_of, wide
from pinnace.apis.kind import Rules
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj, is_deleting
from pinnace.machinery.quantity import Quantity
from pinnace.machinery.selectors import label_selector_errors

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")

_SHORT_MODES = (
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
)


def default(claim: Obj) -> None:
    spec = claim.setdefault("spec", {})
    if not spec.get("volumeMode"):
        spec["volumeMode"] = "Filesystem"
    if spec.get("dataSource") and not spec.get("dataSourceRef"):
        spec["dataSourceRef"] = dict(spec["dataSource"])


def prepare(claim: Obj, old: Obj | None) -> None:
    if old is None:
        claim["status"] = {"phase": "Pending"}


def validate(claim: Obj) -> list[Cause]:
    return validate_claim_spec(claim.get("spec") or {}, "spec")


def validate_claim_spec(spec: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    modes = spec.get("accessModes") or []
    if not modes:
        errors.append(required(f"{path}.accessModes", "at least 1 access mode is required"))
    errors += label_selector_errors(spec.get("selector"), f"{path}.selector")
    errors += access_modes(modes, f"{path}.accessModes")
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if size is None:
        errors.append(required(f"{path}.resources[storage]"))
    else:
        errors += positive_size(size, f"{path}.resources[storage]")
    class_name = spec.get("storageClassName")
    if class_name:
        errors += every(f"{path}.storageClassName", class_name, names.is_dns_subdomain(class_name))
    return errors + optional_one_of(f"{path}.volumeMode", spec.get("volumeMode"), VOLUME_MODES)


def access_modes(modes: list[str], path: str) -> list[Cause]:
    errors: list[Cause] = [not_supported(path, mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES]
    if "ReadWriteOncePod" in modes and len(set(modes)) > 1:
        why = "may not use ReadWriteOncePod with other access modes"
        errors.append(field_forbidden(path, why))
    return errors


def positive_size(size: Any, path: str) -> list[Cause]:
    quantity = amount(size)
    if quantity is not None and quantity.amount <= 0:
        return [invalid_value(path, str(quantity), "must be greater than zero")]
    return []


_FIXED_SPEC = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
)


def validate_update(claim: Obj, old: Obj) -> list[Cause]:
    spec, before = spec_of(claim), spec_of(old)
    if spec == before:
        return []
    errors: list[Cause] = []
    bound = status_of(old).get("phase") == "Bound"
    free = ("resources", "volumeAttributesClassName") if bound else ()
    keys = sorted(key for key in {*spec, *before} if key not in free and spec.get(key) != before.get(key))
    if not before.get("volumeName"):
        keys = [key for key in keys if key != "volumeName"]  # the binder's one write
    if before.get("storageClassName") is None:
        keys = [key for key in keys if key != "storageClassName"]  # given a default afterwards
    if keys:
        changes = "\n".join(f"- {key}: {before.get(key)}\n+ {key}: {spec.get(key)}" for key in keys)
        errors.append(field_forbidden("spec", f"{_FIXED_SPEC}\n{changes}"))
    new_size, old_size = _size(spec), _size(before)
    if new_size is not None and old_size is not None and new_size < old_size:
        capacity = amount(((status_of(old).get("capacity")) or {}).get("storage") or "0")
        if capacity is None or new_size <= capacity:
            why = "field can not be less than status.capacity"
            errors.append(field_forbidden("spec.resources.requests.storage", why))
    return errors


def _size(spec: Obj) -> Quantity | None:
    text = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    return amount(text) if text is not None else None


def short_modes(modes: list[str] | None) -> str:
    """`RWO,ROX`, in Kubernetes' own order."""
    return ",".join(short for mode, short in _SHORT_MODES if mode in (modes or ()))


def storage_class(obj: Obj) -> str:
    """The class asked for; the annotation that came before the field still overrules it."""
    annotation = (obj["metadata"].get("annotations") or {}).get("volume.beta.kubernetes.io/storage-class")
    return annotation if annotation is not None else spec_of(obj).get("storageClassName") or ""


def row(claim: Obj, now: datetime) -> list[Any]:
    spec, status = spec_of(claim), status_of(claim)
    phase = "Terminating" if is_deleting(claim) else status.get("phase") or ""
    volume, capacity, modes = spec.get("volumeName") or "", "", ""
    if volume:
        modes = short_modes(status.get("accessModes"))
        capacity = (status.get("capacity") or {}).get("storage") or ""
    return [
        name(claim),
        phase,
        volume,
        capacity,
        modes,
        storage_class(claim),
        spec.get("volumeAttributesClassName") or UNSET,
        age(claim, now),
        spec.get("volumeMode") or UNSET,
    ]


PERSISTENT_VOLUME_CLAIM = Rules(
    columns=(
        NAME,
        column("Status"),
        column("Volume"),
        column("Capacity"),
        column("Access Modes"),
        column("StorageClass"),
        column("VolumeAttributesClass"),
        AGE,
        wide("VolumeMode"),
    ),
    row=row,
    default=default,
    validate=validate,
    validate_update=validate_update,
    prepare=prepare,
)
