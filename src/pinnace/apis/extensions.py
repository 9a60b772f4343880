"""API services: how another server takes part in the API.

Specified in https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/apiserver-aggregation/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.fields import AGE, NAME, age, column, name, spec_of, status_of
from pinnace.apis.kind import METADATA, Rules
from pinnace.apis.metadata import name_is_path_segment
from pinnace.apis.workload import forget_status
from pinnace.machinery.errors import Cause, invalid_value, required
from pinnace.machinery.meta import Obj


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
    status_leaves=METADATA,
    name=name_is_path_segment,
    columns=(NAME, column("Service"), column("Available"), AGE),
    row=row_service,
    default=default_service,
    validate=validate_service,
    prepare=forget_status,
)
