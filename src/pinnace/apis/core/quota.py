"""Limit ranges and resource quotas: what a namespace's pods may ask for, each and together.

Specified in https://kubernetes.io/docs/concepts/policy/limit-range/ and
https://kubernetes.io/docs/concepts/policy/resource-quotas/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import IMMUTABLE, amount, every, quantity_not_negative
from pinnace.apis.core.pod_resources import Amounts, amounts
from pinnace.apis.fields import AGE, NAME, age, column, name, spec_of, status_of
from pinnace.apis.kind import Rules
from pinnace.apis.workload import forget_status
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, duplicate, field_forbidden, invalid_value, required
from pinnace.machinery.meta import Obj


def default_limit_range(limit_range: Obj) -> None:
    """A container that says nothing gets the maximum, and requests what it is limited to, or the minimum."""
    for item in spec_of(limit_range).get("limits") or ():
        if item.get("type") != "Container":
            continue
        limits = item.setdefault("default", {})
        requests = item.setdefault("defaultRequest", {})
        for source, target in (("max", limits), ("default", requests), ("min", requests)):
            for key, value in (item.get(source) or {}).items():
                target.setdefault(key, value)
        for key in ("default", "defaultRequest"):
            if not item[key]:
                del item[key]


_TYPES = ("Container", "PersistentVolumeClaim", "Pod")
_PARTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


def validate_limit_range(limit_range: Obj) -> list[Cause]:
    errors: list[Cause] = []
    seen = set()
    for index, item in enumerate(spec_of(limit_range).get("limits") or ()):
        path = f"spec.limits[{index}]"
        kind = item.get("type") or ""
        errors += every(f"{path}.type", kind, names.is_qualified_name(kind))
        if "/" not in kind and kind not in _TYPES:
            errors.append(invalid_value(f"{path}.type", kind, "must be a standard limit type or fully qualified"))
        if kind in seen:
            errors.append(duplicate(f"{path}.type", kind))
        seen.add(kind)
        errors += _limited_names(item, path)
        errors += _ordered(item, path)
    return errors


def _limited_names(item: Obj, path: str) -> list[Cause]:
    """The resources of each part: of containers' own kinds where it is about containers or pods."""
    errors: list[Cause] = []
    kind = item.get("type")
    for part in _PARTS:
        if kind == "Pod" and part in ("default", "defaultRequest"):
            if item.get(part):
                errors.append(field_forbidden(f"{path}.{part}", "may not be specified when `type` is 'Pod'"))
            continue
        for key in item.get(part) or ():
            at = f"{path}.{part}[{key}]"
            errors += every(at, key, names.is_qualified_name(key))
            if kind in ("Container", "Pod") and "/" not in key and not _is_of_containers(key):
                errors.append(invalid_value(at, key, "must be a standard resource for containers"))
    if kind == "PersistentVolumeClaim" and not any("storage" in (item.get(part) or {}) for part in ("min", "max")):
        why = "either minimum or maximum storage value is required, but neither was provided"
        errors.append(required(f"{path}.limits", why))
    return errors


def _is_of_containers(name: str) -> bool:
    return name in ("cpu", "memory", "ephemeral-storage") or name.startswith("hugepages-")


# Of two parts the lesser and the greater, where the error stands, whose value it shows, and what it calls them.
_ORDER = (
    ("min", "max", "min", "min", "min value", "max value"),
    ("min", "defaultRequest", "defaultRequest", "defaultRequest", "min value", "default request value"),
    ("defaultRequest", "max", "defaultRequest", "defaultRequest", "default request value", "max value"),
    ("defaultRequest", "default", "defaultRequest", "defaultRequest", "default request value", "default limit value"),
    ("min", "default", "default", "min", "min value", "default value"),
    ("default", "max", "default", "max", "default value", "max value"),
)


def _ordered(item: Obj, path: str) -> list[Cause]:
    """min <= default request <= default <= max, and a ratio that these leave room for, for each resource."""
    parts = {part: amounts(item.get(part)) for part in _PARTS}
    errors: list[Cause] = []
    for key in sorted({key for listed in parts.values() for key in listed}):
        for low, high, place, shown, low_word, high_word in _ORDER:
            small, great = parts[low].get(key), parts[high].get(key)
            if small is not None and great is not None and small > great:
                why = f"{low_word} {small} is greater than {high_word} {great}"
                errors.append(invalid_value(f"{path}.{place}[{key}]", str(parts[shown][key]), why))
        errors += _ratio(key, parts, f"{path}.maxLimitRequestRatio[{key}]")
        default, request = parts["default"].get(key), parts["defaultRequest"].get(key)
        if not _may_overcommit(key) and default is not None and request is not None and default != request:
            why = f"default value {default} must equal to defaultRequest value {request} in {item.get('type')}"
            errors.append(invalid_value(f"{path}.defaultRequest[{key}]", str(request), why))
    return errors


def _ratio(key: str, parts: dict[str, Amounts], at: str) -> list[Cause]:
    ratio = parts["maxLimitRequestRatio"].get(key)
    if ratio is None:
        return []
    if ratio.amount < 1:
        return [invalid_value(at, str(ratio), f"ratio {ratio} is less than 1")]
    low, high = parts["min"].get(key), parts["max"].get(key)
    if low and high is not None and ratio.amount > high.amount / low.amount:
        most = float(high.amount / low.amount)
        return [invalid_value(at, str(ratio), f"ratio {ratio} is greater than max/min = {most:f}")]
    return []


def _may_overcommit(name: str) -> bool:
    return not name.startswith("hugepages-") and ("/" not in name or "kubernetes.io/" in name)


def row_limit_range(limit_range: Obj, now: datetime) -> list[Any]:  # noqa: ARG001 (shows the moment itself)
    return [name(limit_range), limit_range["metadata"].get("creationTimestamp") or ""]


LIMIT_RANGE = Rules(
    columns=(NAME, column("Created At")),
    row=row_limit_range,
    default=default_limit_range,
    validate=validate_limit_range,
)


_COUNTS = (
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
)
_COMPUTE = ("cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory")
_STANDARD = frozenset(
    (
        *_COUNTS,
        *_COMPUTE,
        "ephemeral-storage",
        "limits.ephemeral-storage",
        "requests.ephemeral-storage",
        "requests.storage",
    )
)
_POD_SCOPES = (
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
)
_SCOPES = (*_POD_SCOPES, "VolumeAttributesClass")
_OF_CLAIMS = ("persistentvolumeclaims", "requests.storage")
_JUST_EXISTS = (
    "must be 'Exist' only operator when scope is any of ResourceQuotaScopeTerminating, "
    "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or "
    "ResourceQuotaScopeCrossNamespacePodAffinity"
)


def validate_quota(quota: Obj) -> list[Cause]:
    spec = spec_of(quota)
    errors: list[Cause] = []
    for key, value in (spec.get("hard") or {}).items():
        path = f"spec.hard[{key}]"
        errors += every(path, key, names.is_qualified_name(key))
        if "/" not in key and key not in _STANDARD and not key.startswith(_HUGE):
            errors.append(invalid_value(path, key, "must be a standard resource for quotas"))
        errors += quantity_not_negative(path, value)
        quantity = amount(value)
        if key in _COUNTS and quantity is not None and quantity.milli_value() % 1000:
            errors.append(invalid_value(path, str(quantity), "must be an integer"))
    return errors + _scopes(spec) + _scope_selector(spec)


_HUGE = ("hugepages-", "requests.hugepages-")


def _fits(scope: str, name: str) -> bool:
    """Whether objects that count under the quota's name can be of the scope."""
    if name not in _STANDARD:
        return True
    if scope == "BestEffort":
        return name == "pods"
    if scope == "VolumeAttributesClass":
        return name in _OF_CLAIMS
    return scope not in _POD_SCOPES or name == "pods" or name in _COMPUTE


def _scopes(spec: Obj) -> list[Cause]:
    scopes = spec.get("scopes") or []
    path = "spec.scopes"
    errors: list[Cause] = []
    for scope in scopes:
        if scope not in _SCOPES:
            errors.append(invalid_value(path, scopes, "unsupported scope"))
        errors += _misfits(scope, spec, path, scopes)
    conflicts = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
    return errors + [
        invalid_value(path, scopes, "conflicting scopes") for pair in conflicts if set(pair) <= set(scopes)
    ]


def _misfits(scope: str, spec: Obj, path: str, shown: Any) -> list[Cause]:
    why = "unsupported scope applied to resource"
    return [invalid_value(path, shown, why) for key in sorted(spec.get("hard") or ()) if not _fits(scope, key)]


def _scope_selector(spec: Obj) -> list[Cause]:
    selector = spec.get("scopeSelector")
    path = "spec.scopeSelector.matchExpressions"
    errors: list[Cause] = []
    for one in (selector or {}).get("matchExpressions") or ():
        scope, operator, values = one.get("scopeName") or "", one.get("operator") or "", one.get("values") or []
        if scope not in _SCOPES:
            errors.append(invalid_value(f"{path}.scopeName", scope, "unsupported scope"))
        errors += _misfits(scope, spec, path, selector)
        if scope in _POD_SCOPES and scope != "PriorityClass" and operator != "Exists":
            errors.append(invalid_value(f"{path}.operator", operator, _JUST_EXISTS))
        if operator in ("In", "NotIn"):
            if not values:
                why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                errors.append(required(f"{path}.values", why))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                errors.append(invalid_value(f"{path}.values", values, why))
        else:
            errors.append(invalid_value(f"{path}.operator", operator, "not a valid selector operator"))
    return errors


def validate_quota_update(new: Obj, old: Obj) -> list[Cause]:
    scopes, before = spec_of(new).get("scopes") or [], spec_of(old).get("scopes") or []
    return [] if set(scopes) == set(before) else [invalid_value("spec.scopes", scopes, IMMUTABLE)]


def row_quota(quota: Obj, now: datetime) -> list[Any]:
    status = status_of(quota)
    hard, used = status.get("hard") or {}, status.get("used") or {}
    shown = {key: f"{key}: {used.get(key, '0')}/{hard[key]}" for key in sorted(hard)}
    limits = [text for key, text in shown.items() if key.startswith("limits")]
    requests = [text for key, text in shown.items() if not key.startswith("limits")]
    return [name(quota), ", ".join(requests), ", ".join(limits), age(quota, now)]


RESOURCE_QUOTA = Rules(
    columns=(NAME, column("Request"), column("Limit"), AGE),
    row=row_quota,
    validate=validate_quota,
    validate_update=validate_quota_update,
    prepare=forget_status,
)
