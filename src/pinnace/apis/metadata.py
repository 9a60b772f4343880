"""What every object's metadata must be, at its creation and at an update, in the words of the API.

Specified by https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/.
"""

from __future__ import annotations

from pinnace.apis.checks import NOT_NEGATIVE, every
from pinnace.apis.kind import NameRule
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value, required
from pinnace.machinery.meta import Obj

_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")


def validate_metadata(meta: Obj, namespaced: bool, rule: NameRule, path: str = "metadata") -> list[Cause]:
    """Name, namespace, labels, annotations, owners and finalizers of a new object."""
    errors: list[Cause] = []
    generate_name = meta.get("generateName")
    if generate_name:
        errors += every(f"{path}.generateName", generate_name, rule(generate_name, True))
    name = meta.get("name")
    if not name:
        errors.append(required(f"{path}.name", "name or generateName is required"))
    else:
        errors += every(f"{path}.name", name, rule(name, False))
    namespace = meta.get("namespace")
    if namespaced:
        if not namespace:
            errors.append(required(f"{path}.namespace"))
        else:
            errors += every(f"{path}.namespace", namespace, names.is_dns_label(namespace))
    elif namespace:
        errors.append(field_forbidden(f"{path}.namespace", "not allowed on this type"))
    return errors + _validate_common(meta, path)


def _validate_common(meta: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    if (meta.get("generation") or 0) < 0:
        errors.append(invalid_value(f"{path}.generation", meta["generation"], NOT_NEGATIVE))
    if labels := meta.get("labels"):
        errors += names.label_errors(labels, f"{path}.labels")
    if annotations := meta.get("annotations"):
        errors += names.annotation_errors(annotations, f"{path}.annotations")
    if owners := meta.get("ownerReferences"):
        errors += _validate_owners(owners, f"{path}.ownerReferences")
    if finalizers := meta.get("finalizers"):
        errors += _validate_finalizers(finalizers, f"{path}.finalizers")
    return errors


def name_is_subdomain(name: str, prefix: bool) -> list[str]:
    return names.is_dns_subdomain(_masked(name, prefix))


def name_is_label(name: str, prefix: bool) -> list[str]:
    return names.is_dns_label(_masked(name, prefix))


def name_is_label_1035(name: str, prefix: bool) -> list[str]:
    return names.is_dns_1035_label(_masked(name, prefix))


def name_is_path_segment(name: str, prefix: bool) -> list[str]:
    """Any one segment of a URL path; a prefix may be `.`, since more will follow it."""
    return [] if prefix and name in (".", "..") else names.is_path_segment(name)


def name_is_anything(name: str, prefix: bool) -> list[str]:  # noqa: ARG001 (a NameRule's shape)
    """Names that only the kind's own rules judge."""
    return []


def _masked(name: str, prefix: bool) -> str:
    """A prefix may end in a dash, since more will follow it."""
    return name[:-2] + "a" if prefix and len(name) > 1 and name.endswith("-") else name


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
        bad = names.is_qualified_name(finalizer)
        errors += every(path, finalizer, bad)
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
