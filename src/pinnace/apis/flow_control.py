"""Flow schemas and priority levels: which requests share which part of the server's capacity.

Specified in https://kubernetes.io/docs/concepts/cluster-administration/flow-control/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import every
from pinnace.apis.fields import AGE, NAME, NONE, age, column, name, spec_of, status_of
from pinnace.apis.kind import METADATA, Rules
from pinnace.apis.workload import forget_status
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj

_EXEMPT = "exempt"
_METHODS = ("ByNamespace", "ByUser")
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_MOST_QUEUES = 10_000_000


def default_flow_schema(schema: Obj) -> None:
    spec = schema.setdefault("spec", {})
    if not spec.get("matchingPrecedence"):
        spec["matchingPrecedence"] = 1000


def validate_flow_schema(schema: Obj) -> list[Cause]:
    spec = spec_of(schema)
    errors: list[Cause] = []
    precedence = spec.get("matchingPrecedence") or 0
    path = "spec.matchingPrecedence"
    if precedence < 1:
        errors.append(invalid_value(path, precedence, "must be a positive value"))
    if precedence > 10000:
        errors.append(invalid_value(path, precedence, "must not be greater than 10000"))
    if precedence == 1 and name(schema) != _EXEMPT:
        errors.append(invalid_value(path, precedence, "only the schema named 'exempt' may have matchingPrecedence 1"))
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in _METHODS:
        errors.append(not_supported("spec.distinguisherMethod.type", method.get("type") or "", _METHODS))
    level = (spec.get("priorityLevelConfiguration") or {}).get("name") or ""
    path = "spec.priorityLevelConfiguration.name"
    missing = [required(path, "must reference a priority level")]
    errors += every(path, level, names.is_dns_subdomain(level)) if level else missing
    for index, rule in enumerate(spec.get("rules") or ()):
        errors += _rule(rule, f"spec.rules[{index}]")
    return errors


def _rule(rule: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    if not rule.get("subjects"):
        errors.append(required(f"{path}.subjects", "subjects must contain at least one value"))
    for index, subject in enumerate(rule.get("subjects") or ()):
        errors += _subject(subject, f"{path}.subjects[{index}]")
    if not rule.get("resourceRules") and not rule.get("nonResourceRules"):
        errors.append(required(path, "at least one of resourceRules and nonResourceRules has to be non-empty"))
    for index, one in enumerate(rule.get("resourceRules") or ()):
        errors += _resource_rule(one, f"{path}.resourceRules[{index}]")
    for index, one in enumerate(rule.get("nonResourceRules") or ()):
        at = f"{path}.nonResourceRules[{index}]"
        errors += _verbs(one, at)
        why = "nonResourceURLs must contain at least one value"
        errors += _alone(one, at, "nonResourceURLs", why, "non-resource URLs")
    return errors


def _subject(subject: Obj, path: str) -> list[Cause]:
    kind, errors = subject.get("kind"), []
    fields = {"User": "user", "Group": "group", "ServiceAccount": "serviceAccount"}
    if kind not in fields:
        return [not_supported(f"{path}.kind", kind or "", fields)]
    for other, field in fields.items():
        at = f"{path}.{field}"
        if other == kind and subject.get(field) is None:
            errors.append(required(at, f"{field} is required when subject kind is '{kind}'"))
        elif other == kind:
            errors += [
                required(f"{at}.{key}")
                for key in (("name", "namespace") if kind == "ServiceAccount" else ("name",))
                if not subject[field].get(key)
            ]
        elif subject.get(field) is not None:
            errors.append(field_forbidden(at, f"{field} is forbidden when subject kind is not '{other}'"))
    return errors


def _resource_rule(rule: Obj, path: str) -> list[Cause]:
    errors = _verbs(rule, path)
    errors += _alone(rule, path, "apiGroups", "resource rules must supply at least one api group", "api groups")
    errors += _alone(rule, path, "resources", "resource rules must supply at least one resource", "resources")
    if rule.get("namespaces") or not rule.get("clusterScope"):
        why = "resource rules that are not cluster scoped must supply at least one namespace"
        errors += _alone(rule, path, "namespaces", why, "namespaces")
    for index, namespace in enumerate(rule.get("namespaces") or ()):
        if namespace != "*":
            errors += every(f"{path}.namespaces[{index}]", namespace, names.is_dns_label(namespace))
    return errors


def _verbs(rule: Obj, path: str) -> list[Cause]:
    errors = _alone(rule, path, "verbs", "verbs must contain at least one value", "verbs")
    verbs = rule.get("verbs") or []
    if not errors and "*" not in verbs and not set(verbs) <= set(_VERBS):
        errors.append(not_supported(f"{path}.verbs", verbs, _VERBS))
    return errors


def _alone(rule: Obj, path: str, key: str, missing: str, word: str) -> list[Cause]:
    """There must be a value, and `*` says everything, so that nothing stands beside it."""
    values = rule.get(key) or []
    if not values:
        return [required(f"{path}.{key}", missing)]
    if "*" in values and len(values) > 1:
        return [invalid_value(f"{path}.{key}", values, f"if '*' is present, must not specify other {word}")]
    return []


def row_flow_schema(schema: Obj, now: datetime) -> list[Any]:
    spec = spec_of(schema)
    dangling = [one for one in status_of(schema).get("conditions") or () if one.get("type") == "Dangling"]
    return [
        name(schema),
        (spec.get("priorityLevelConfiguration") or {}).get("name") or "",
        spec.get("matchingPrecedence") or 0,
        (spec.get("distinguisherMethod") or {}).get("type") or NONE,
        age(schema, now),
        dangling[0].get("status") if dangling else "?",
    ]


FLOW_SCHEMA = Rules(
    status_leaves=METADATA,
    columns=(
        NAME,
        column("PriorityLevel"),
        column("MatchingPrecedence"),
        column("DistinguisherMethod"),
        AGE,
        column("MissingPL"),
    ),
    row=row_flow_schema,
    default=default_flow_schema,
    validate=validate_flow_schema,
    prepare=forget_status,
)


def default_priority_level(level: Obj) -> None:
    spec = level.setdefault("spec", {})
    limited, exempt = spec.get("limited"), spec.get("exempt")
    if spec.get("type") == "Exempt" and exempt is None:
        exempt = spec["exempt"] = {}
    if exempt is not None:
        exempt.setdefault("nominalConcurrencyShares", 0)
        exempt.setdefault("lendablePercent", 0)
    if limited is not None:
        limited.setdefault("nominalConcurrencyShares", 30)
        limited.setdefault("lendablePercent", 0)
        queuing = (limited.get("limitResponse") or {}).get("queuing")
        if queuing is not None:
            for key, value in (("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)):
                if not queuing.get(key):
                    queuing[key] = value


def validate_priority_level(level: Obj) -> list[Cause]:
    spec = spec_of(level)
    kind, limited, exempt = spec.get("type"), spec.get("limited"), spec.get("exempt")
    errors: list[Cause] = []
    if (name(level) == _EXEMPT) != (kind == "Exempt"):
        why = "type must be 'Exempt' if and only if name is 'exempt'"
        errors.append(invalid_value("spec.type", kind or "", why))
    if kind == "Limited":
        if exempt is not None:
            errors.append(field_forbidden("spec.exempt", "must be nil if the type is Limited"))
        if limited is None:
            return [*errors, required("spec.limited", "must not be empty when type is Limited")]
        return errors + _limited(limited, "spec.limited")
    if kind == "Exempt":
        if limited is not None:
            errors.append(field_forbidden("spec.limited", "must be nil if the type is not Limited"))
        return errors + _shares(exempt or {}, "spec.exempt")
    return [*errors, not_supported("spec.type", kind or "", ("Exempt", "Limited"))]


def _shares(settings: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    shares, lendable = settings.get("nominalConcurrencyShares") or 0, settings.get("lendablePercent") or 0
    if shares < 0:
        errors.append(invalid_value(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer"))
    if not 0 <= lendable <= 100:
        errors.append(invalid_value(f"{path}.lendablePercent", lendable, "must be between 0 and 100, inclusive"))
    return errors


def _limited(limited: Obj, path: str) -> list[Cause]:
    errors = _shares(limited, path) + _response(limited.get("limitResponse") or {}, f"{path}.limitResponse")
    borrowing = limited.get("borrowingLimitPercent")
    if borrowing is not None and borrowing < 0:
        why = "if specified, must be a non-negative integer"
        errors.append(invalid_value(f"{path}.borrowingLimitPercent", borrowing, why))
    return errors


def _response(response: Obj, path: str) -> list[Cause]:
    kind, queuing = response.get("type") or "", response.get("queuing")
    if kind == "Reject" and queuing is not None:
        return [field_forbidden(f"{path}.queuing", "must be nil if limited.limitResponse.type is not Limited")]
    if kind == "Queue":
        if queuing is None:
            return [required(f"{path}.queuing", "must not be empty if limited.limitResponse.type is Limited")]
        return _queuing(queuing, f"{path}.queuing")
    return [] if kind == "Reject" else [not_supported(f"{path}.type", kind, ("Queue", "Reject"))]


def _queuing(queuing: Obj, path: str) -> list[Cause]:
    errors = [
        invalid_value(f"{path}.{key}", queuing.get(key) or 0, "must be positive")
        for key in ("queueLengthLimit", "queues", "handSize")
        if (queuing.get(key) or 0) <= 0
    ]
    queues, hand = queuing.get("queues") or 0, queuing.get("handSize") or 0
    if queues > _MOST_QUEUES:
        errors.append(invalid_value(f"{path}.queues", queues, f"must not be greater than {_MOST_QUEUES}"))
    if hand > queues:
        errors.append(invalid_value(f"{path}.handSize", hand, f"should not be greater than queues ({queues})"))
    return errors


def row_priority_level(level: Obj, now: datetime) -> list[Any]:
    spec = spec_of(level)
    settings = spec.get("limited") or spec.get("exempt") or {}
    queuing = ((spec.get("limited") or {}).get("limitResponse") or {}).get("queuing") or {}
    shown = [queuing.get(key, NONE) for key in ("queues", "handSize", "queueLengthLimit")]
    return [
        name(level),
        spec.get("type") or "",
        settings.get("nominalConcurrencyShares", NONE),
        *shown,
        age(level, now),
    ]


PRIORITY_LEVEL_CONFIGURATION = Rules(
    status_leaves=METADATA,
    columns=(
        NAME,
        column("Type"),
        column("NominalConcurrencyShares"),
        column("Queues"),
        column("HandSize"),
        column("QueueLengthLimit"),
        AGE,
    ),
    row=row_priority_level,
    default=default_priority_level,
    validate=validate_priority_level,
    prepare=forget_status,
)
