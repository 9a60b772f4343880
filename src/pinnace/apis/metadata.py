"""What every object's metadata must be, at its creation and at an update, in the words of the API.

Specified by https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/.
"""

from __future__ import annotations

from typing import Any

from pinnace.apis import names
from pinnace.apis.kind import NameRule
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value, required, too_long
from pinnace.machinery.meta import Obj

ANNOTATIONS_LIMIT = 256 * 1024  # bytes of all keys and values

_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")


def invalid_all(field: str, value: Any, messages: list[str]) -> list[Cause]:
    """One error for each message about the same value."""
    return [invalid_value(field, value, message) for message in messages]


def validate_metadata(meta: Obj, namespaced: bool, rule: NameRule, path: str = "metadata") -> list[Cause]:
    """Name, namespace, labels, annotations, owners and finalizers of a new object."""
    errors: list[Cause] = []
    generate_name = meta.get("generateName")
    if generate_name:
        errors += invalid_all(f"{path}.generateName", generate_name, rule(generate_name, True))
    name = meta.get("name")
    if not name:
        errors.append(required(f"{path}.name", "name or generateName is required"))
    else:
        errors += invalid_all(f"{path}.name", name, rule(name, False))
    namespace = meta.get("namespace")
    if namespaced:
        if not namespace:
            errors.append(required(f"{path}.namespace"))
        else:
            errors += invalid_all(f"{path}.namespace", namespace, names.dns_label(namespace))
    elif namespace:
        errors.append(field_forbidden(f"{path}.namespace", "not allowed on this type"))
    return errors + _validate_common(meta, path)


def _validate_common(meta: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    if (meta.get("generation") or 0) < 0:
        errors.append(invalid_value(f"{path}.generation", meta["generation"], names.NOT_NEGATIVE))
    if labels := meta.get("labels"):
        errors += validate_labels(labels, f"{path}.labels")
    if annotations := meta.get("annotations"):
        errors += validate_annotations(annotations, f"{path}.annotations")
    if owners := meta.get("ownerReferences"):
        errors += _validate_owners(owners, f"{path}.ownerReferences")
    if finalizers := meta.get("finalizers"):
        errors += _validate_finalizers(finalizers, f"{path}.finalizers")
    return errors


def validate_labels(labels: dict[str, str], path: str) -> list[Cause]:
    errors: list[Cause] = []
    for key, value in labels.items():
        errors += invalid_all(path, key, names.qualified_name(key))
        errors += invalid_all(path, value, names.label_value(value))
    return errors


def validate_annotations(annotations: dict[str, str], path: str) -> list[Cause]:
    errors: list[Cause] = []
    size = 0
    for key, value in annotations.items():
        errors += invalid_all(path, key, names.qualified_name(key.lower()))
        size += len(key) + len(value)
    if size * 4 > ANNOTATIONS_LIMIT:  # only then can bytes matter: a character is four at most
        size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
        if size > ANNOTATIONS_LIMIT:
            errors.append(too_long(path, ANNOTATIONS_LIMIT))
    return errors


def _validate_owners(owners: list[Obj], path: str) -> list[Cause]:
    errors: list[Cause] = []
    controller = ""
    for owner in owners:
        api_version = owner.get("apiVersion") or ""
        if not api_version.rpartition("/")[2]:
            errors.append(invalid_value(f"{path}.apiVersion", api_version, "version must not be empty"))
        errors += [
            invalid_value(f"{path}.{key}", "", "must not be empty")
            for key in ("kind", "name", "uid")
            if not owner.get(key)
        ]
        if (api_version, owner.get("kind")) == ("v1", "Event"):
            errors.append(invalid_value(path, owner, "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            if controller:
                why = (
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    f"{controller} and {owner.get('name')}"
                )
                errors.append(invalid_value(path, owners, why))
            controller = owner.get("name") or ""
    return errors


def _validate_finalizers(finalizers: list[str], path: str) -> list[Cause]:
    errors: list[Cause] = []
    for finalizer in finalizers:
        bad = names.qualified_name(finalizer)
        errors += invalid_all(path, finalizer, bad)
        if not bad and "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            why = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(invalid_value(path, finalizer, why))
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        why = "finalizer orphan and foregroundDeletion cannot be both set"
        errors.append(invalid_value(path, finalizers, why))
    return errors


_FIXED = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def validate_metadata_update(meta: Obj, old: Obj, path: str = "metadata") -> list[Cause]:
    """What an update may not change, and the rest of metadata as at creation."""
    errors: list[Cause] = []
    if old.get("deletionTimestamp"):
        kept = set(old.get("finalizers") or ())
        added = [finalizer for finalizer in meta.get("finalizers") or () if finalizer not in kept]
        if added:
            shown = "[]string{" + ", ".join(f'"{finalizer}"' for finalizer in added) + "}"
            why = f"no new finalizers can be added if the object is being deleted, found new finalizers {shown}"
            errors.append(field_forbidden(f"{path}.finalizers", why))
    errors += [
        invalid_value(f"{path}.{key}", meta[key], "field is immutable")
        for key in _FIXED
        if meta.get(key) and meta[key] != old.get(key)
    ]
    if (meta.get("generation") or 0) < (old.get("generation") or 0):
        errors.append(invalid_value(f"{path}.generation", meta.get("generation") or 0, "must not be decremented"))
    unchanged = (
        meta.get("labels") == old.get("labels")
        and meta.get("annotations") == old.get("annotations")
        and meta.get("ownerReferences") == old.get("ownerReferences")
        and meta.get("finalizers") == old.get("finalizers")
    )
    return errors if unchanged else errors + _validate_common(meta, path)
