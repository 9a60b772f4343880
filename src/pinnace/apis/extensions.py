"""Custom resource definitions and API services: how the API grows.

Specified in https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import every, one_of, unchanged
from pinnace.apis.fields import AGE, NAME, age, column, name, spec_of, status_of
from pinnace.apis.kind import Rules
from pinnace.apis.metadata import name_is_path_segment
from pinnace.apis.workload import forget_status
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, duplicate, invalid_value, required
from pinnace.machinery.meta import Obj


def default_definition(definition: Obj) -> None:
    spec = definition.setdefault("spec", {})
    given = spec.setdefault("names", {})
    if given.get("kind"):
        given.setdefault("singular", given["kind"].lower())
        given.setdefault("listKind", f"{given['kind']}List")
    conversion = spec.setdefault("conversion", {})
    if not conversion.get("strategy"):
        conversion["strategy"] = "None"
    service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service is not None and service.get("port") is None:
        service["port"] = 443


def prepare_definition(definition: Obj, old: Obj | None) -> None:
    """Every version that was ever stored is remembered, until someone says it is gone."""
    stored = [one.get("name") for one in spec_of(definition).get("versions") or () if one.get("storage")]
    if old is None:
        definition["status"] = {
            "conditions": [],
            "acceptedNames": {"plural": "", "kind": ""},
            "storedVersions": stored[:1],
        }
        return
    status = dict(definition.get("status") or old.get("status") or {})
    known = list(status.get("storedVersions") or [])
    status["storedVersions"] = known + [version for version in stored[:1] if version not in known]
    definition["status"] = status


def validate_definition(definition: Obj) -> list[Cause]:
    spec = spec_of(definition)
    given, group = spec.get("names") or {}, spec.get("group") or ""
    errors: list[Cause] = []
    if definition["metadata"].get("name") != f"{given.get('plural')}.{group}":
        why = 'must be spec.names.plural+"."+spec.group'
        errors.append(invalid_value("metadata.name", definition["metadata"].get("name"), why))
    if not group:
        errors.append(required("spec.group"))
    elif bad := every("spec.group", group, names.is_dns_subdomain(group)):
        errors += bad
    elif "." not in group:
        errors.append(invalid_value("spec.group", group, "should be a domain with at least one dot"))
    errors += one_of("spec.scope", spec.get("scope"), ("Cluster", "Namespaced"))
    errors += _versions(spec.get("versions") or [])
    errors += _names(given)
    errors += one_of("spec.conversion.strategy", (spec.get("conversion") or {}).get("strategy"), ("None", "Webhook"))
    return errors


def _versions(versions: list[Obj]) -> list[Cause]:
    errors: list[Cause] = []
    seen = set()
    for index, version in enumerate(versions):
        path, version_name = f"spec.versions[{index}]", version.get("name") or ""
        errors += every(f"{path}.name", version_name, names.is_dns_1035_label(version_name))
        if version_name in seen:
            errors.append(duplicate(f"{path}.name", version_name))
        seen.add(version_name)
        if not (version.get("schema") or {}).get("openAPIV3Schema"):
            errors.append(required(f"{path}.schema.openAPIV3Schema", "schemas are required"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        why = "must have exactly one version marked as storage version"
        errors.append(invalid_value("spec.versions", versions, why))
    return errors


def _names(given: Obj) -> list[Cause]:
    errors: list[Cause] = []
    for key in ("plural", "singular", "kind", "listKind"):
        value = given.get(key)
        if not value:
            errors.append(required(f"spec.names.{key}"))
        else:
            errors += every(f"spec.names.{key}", value, names.is_dns_1035_label(value.lower()))
    for key in ("shortNames", "categories"):
        for index, value in enumerate(given.get(key) or ()):
            errors += every(f"spec.names.{key}[{index}]", value, names.is_dns_1035_label(value))
    if given.get("kind") and given.get("kind") == given.get("listKind"):
        why = "kind and listKind may not be the same"
        errors.append(invalid_value("spec.names.listKind", given["listKind"], why))
    return errors


def validate_definition_update(new: Obj, old: Obj) -> list[Cause]:
    spec, before = spec_of(new), spec_of(old)
    errors = unchanged("spec.group", spec.get("group"), before.get("group"))
    established = any(
        one.get("type") == "Established" and one.get("status") == "True"
        for one in status_of(old).get("conditions") or ()
    )
    if established:
        errors += unchanged("spec.scope", spec.get("scope"), before.get("scope"))
        for key in ("kind", "plural"):
            errors += unchanged(
                f"spec.names.{key}", (spec.get("names") or {}).get(key), (before.get("names") or {}).get(key)
            )
    return errors


def row_definition(definition: Obj, _now: datetime) -> list[Any]:
    return [name(definition), definition["metadata"].get("creationTimestamp") or ""]


CUSTOM_RESOURCE_DEFINITION = Rules(
    columns=(NAME, column("Created At", "date")),
    row=row_definition,
    default=default_definition,
    validate=validate_definition,
    validate_update=validate_definition_update,
    prepare=prepare_definition,
)


def default_service(api_service: Obj) -> None:
    service = spec_of(api_service).get("service")
    if service is not None and service.get("port") is None:
        service["port"] = 443


def validate_service(api_service: Obj) -> list[Cause]:
    spec = spec_of(api_service)
    errors: list[Cause] = []
    expected = f"{spec.get('version')}.{spec.get('group') or ''}"
    given = api_service["metadata"].get("name") or ""
    if given != expected:
        why = f'must be `spec.version+"."+spec.group`: "{expected}"'
        errors.append(invalid_value("metadata.name", given, why))
    least = spec.get("groupPriorityMinimum") or 0
    if not 0 < least <= 20000:
        why = "must be positive and less than 20000"
        errors.append(invalid_value("spec.groupPriorityMinimum", least, why))
    version = spec.get("versionPriority") or 0
    if not 0 < version <= 1000:
        errors.append(invalid_value("spec.versionPriority", version, "must be positive and less than 1000"))
    service = spec.get("service")
    if service is None:
        if spec.get("caBundle"):
            errors.append(
                invalid_value(
                    "spec.caBundle", f"{len(spec['caBundle'])} bytes", "local APIServices may not have a caBundle"
                )
            )
        if spec.get("insecureSkipTLSVerify"):
            why = "local APIServices may not have insecureSkipTLSVerify"
            errors.append(invalid_value("spec.insecureSkipTLSVerify", True, why))
        return errors
    errors += [required(f"spec.service.{key}") for key in ("namespace", "name") if not service.get(key)]
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        why = "may not be true if caBundle is present"
        errors.append(invalid_value("spec.insecureSkipTLSVerify", True, why))
    return errors


def row_service(api_service: Obj, now: datetime) -> list[Any]:
    service = spec_of(api_service).get("service")
    available = next(
        (one for one in status_of(api_service).get("conditions") or () if one.get("type") == "Available"), None
    )
    word = "Unknown" if available is None else str(available.get("status"))
    if available is not None and word != "True":
        word = f"{word} ({available.get('reason')})"
    where = f"{service.get('namespace')}/{service.get('name')}" if service else "Local"
    return [name(api_service), where, word, age(api_service, now)]


API_SERVICE = Rules(
    name=name_is_path_segment,
    columns=(NAME, column("Service"), column("Available"), AGE),
    row=row_service,
    default=default_service,
    validate=validate_service,
    prepare=forget_status,
)
