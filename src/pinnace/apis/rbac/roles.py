"""Roles and their bindings: who may do what.

Specified in https://kubernetes.io/docs/reference/access-authn-authz/rbac/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import every
from pinnace.apis.fields import AGE, NAME, age, column, name, wide
from pinnace.apis.kind import Rules
from pinnace.apis.metadata import name_is_path_segment
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj
from pinnace.machinery.selectors import label_selector_errors

GROUP = "rbac.authorization.k8s.io"


def _validate_role(role: Obj) -> list[Cause]:
    return _rules(role, namespaced=True)


def _validate_cluster_role(role: Obj) -> list[Cause]:
    errors = _rules(role, namespaced=False)
    aggregation = role.get("aggregationRule")
    if aggregation is not None:
        selectors = aggregation.get("clusterRoleSelectors") or []
        if not selectors:
            errors.append(
                required(
                    "aggregationRule.clusterRoleSelectors",
                    "at least one clusterRoleSelector required if aggregationRule is non-nil",
                )
            )
        for index, selector in enumerate(selectors):
            errors += label_selector_errors(selector, f"aggregationRule.clusterRoleSelectors[{index}]")
    return errors


def _rules(role: Obj, namespaced: bool) -> list[Cause]:
    errors: list[Cause] = []
    for index, rule in enumerate(role.get("rules") or ()):
        path = f"rules[{index}]"
        if not rule.get("verbs"):
            errors.append(required(f"{path}.verbs", "verbs must contain at least one value"))
        urls = rule.get("nonResourceURLs") or []
        if urls:
            if namespaced:
                why = "namespaced rules cannot apply to non-resource URLs"
                errors.append(invalid_value(f"{path}.nonResourceURLs", urls, why))
            if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                why = "rules cannot apply to both regular resources and non-resource URLs"
                errors.append(invalid_value(f"{path}.nonResourceURLs", urls, why))
            continue
        if not rule.get("apiGroups"):
            errors.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
        if not rule.get("resources"):
            errors.append(required(f"{path}.resources", "resource rules must supply at least one resource"))
    return errors


def _default_binding(binding: Obj) -> None:
    reference = binding.get("roleRef")
    if reference is not None and not reference.get("apiGroup"):
        reference["apiGroup"] = GROUP
    for subject in binding.get("subjects") or ():
        if not subject.get("apiGroup") and subject.get("kind") in ("Group", "User"):
            subject["apiGroup"] = GROUP


def _validate_role_binding(binding: Obj) -> list[Cause]:
    return _binding(binding, ("ClusterRole", "Role"), namespaced=True)


def _validate_cluster_role_binding(binding: Obj) -> list[Cause]:
    return _binding(binding, ("ClusterRole",), namespaced=False)


def _binding(binding: Obj, kinds: tuple[str, ...], namespaced: bool) -> list[Cause]:
    errors: list[Cause] = []
    reference = binding.get("roleRef") or {}
    if reference.get("apiGroup") != GROUP:
        errors.append(not_supported("roleRef.apiGroup", reference.get("apiGroup") or "", (GROUP,)))
    if reference.get("kind") not in kinds:
        errors.append(not_supported("roleRef.kind", reference.get("kind") or "", kinds))
    if not reference.get("name"):
        errors.append(required("roleRef.name"))
    else:
        errors += every("roleRef.name", reference["name"], names.is_path_segment(reference["name"]))
    for index, subject in enumerate(binding.get("subjects") or ()):
        errors += _subject(subject, namespaced, f"subjects[{index}]")
    return errors


def _subject(subject: Obj, namespaced: bool, path: str) -> list[Cause]:
    errors: list[Cause] = []
    kind, group, subject_name = subject.get("kind"), subject.get("apiGroup") or "", subject.get("name") or ""
    if not subject_name:
        errors.append(required(f"{path}.name"))
    if kind == "ServiceAccount":
        if subject_name:
            errors += every(f"{path}.name", subject_name, names.is_dns_subdomain(subject_name))
        if group:
            errors.append(not_supported(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            errors.append(required(f"{path}.namespace"))
    elif kind in ("Group", "User"):
        if group != GROUP:
            errors.append(not_supported(f"{path}.apiGroup", group, (GROUP,)))
    else:
        errors.append(not_supported(f"{path}.kind", kind or "", ("Group", "ServiceAccount", "User")))
    return errors


def _validate_binding_update(new: Obj, old: Obj) -> list[Cause]:
    if new.get("roleRef") == old.get("roleRef"):
        return []
    return [invalid_value("roleRef", new.get("roleRef"), "cannot change roleRef")]


def _row_role(role: Obj, _now: datetime) -> list[Any]:
    return [name(role), role["metadata"].get("creationTimestamp") or ""]


def _row_binding(binding: Obj, now: datetime) -> list[Any]:
    reference = binding.get("roleRef") or {}
    subjects: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in binding.get("subjects") or ():
        text = subject.get("name") or ""
        if subject.get("kind") == "ServiceAccount":
            text = f"{subject.get('namespace') or ''}/{text}"
        subjects.setdefault(subject.get("kind") or "", []).append(text)
    shown = [", ".join(subjects[kind]) for kind in ("User", "Group", "ServiceAccount")]
    return [name(binding), f"{reference.get('kind')}/{reference.get('name')}", age(binding, now), *shown]


_ROLE_COLUMNS = (NAME, column("Created At"))
_BINDING_COLUMNS = (NAME, column("Role"), AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts"))

ROLE = Rules(name=name_is_path_segment, columns=_ROLE_COLUMNS, row=_row_role, validate=_validate_role)
CLUSTER_ROLE = Rules(name=name_is_path_segment, columns=_ROLE_COLUMNS, row=_row_role, validate=_validate_cluster_role)
ROLE_BINDING = Rules(
    name=name_is_path_segment,
    columns=_BINDING_COLUMNS,
    row=_row_binding,
    default=_default_binding,
    validate=_validate_role_binding,
    validate_update=_validate_binding_update,
)
CLUSTER_ROLE_BINDING = Rules(
    name=name_is_path_segment,
    columns=_BINDING_COLUMNS,
    row=_row_binding,
    default=_default_binding,
    validate=_validate_cluster_role_binding,
    validate_update=_validate_binding_update,
)
