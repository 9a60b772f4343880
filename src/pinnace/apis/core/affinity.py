"""Where a pod may run: the rules for affinity, tolerations and topology spread.

Specified in https://kubernetes.io/docs/concepts/scheduling-eviction/.
"""

from __future__ import annotations

from typing import Any

from pinnace.apis.checks import every, one_of, optional_one_of
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, duplicate, field_forbidden, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj
from pinnace.machinery.selectors import label_selector_errors

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def validate_affinity(affinity: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    if node := affinity.get("nodeAffinity"):
        errors += _node_affinity(node, f"{path}.nodeAffinity")
    for kind in ("podAffinity", "podAntiAffinity"):
        if pods := affinity.get(kind):
            errors += _pod_affinity(pods, f"{path}.{kind}")
    return errors


def _node_affinity(affinity: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    if affinity.get(_REQUIRED) is not None:
        errors += validate_node_selector(affinity[_REQUIRED], f"{path}.{_REQUIRED}")
    for index, preferred in enumerate(affinity.get(_PREFERRED) or ()):
        at = f"{path}.{_PREFERRED}[{index}]"
        errors += _weight(preferred, at)
        errors += _node_term(preferred.get("preference") or {}, f"{at}.preference")
    return errors


def _weight(preferred: Obj, path: str) -> list[Cause]:
    weight = preferred.get("weight") or 0
    return [] if 1 <= weight <= 100 else [invalid_value(f"{path}.weight", weight, "must be in the range 1-100")]


def validate_node_selector(selector: Obj, path: str) -> list[Cause]:
    """A `NodeSelector`: of a pod's affinity, or of a persistent volume's."""
    terms = selector.get("nodeSelectorTerms")
    if not terms:
        return [required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")]
    return [
        error for index, term in enumerate(terms) for error in _node_term(term, f"{path}.nodeSelectorTerms[{index}]")
    ]


def _node_term(term: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    for index, expression in enumerate(term.get("matchExpressions") or ()):
        errors += _node_requirement(expression, f"{path}.matchExpressions[{index}]")
    for index, expression in enumerate(term.get("matchFields") or ()):
        errors += _node_field(expression, f"{path}.matchFields[{index}]")
    return errors


def _node_requirement(expression: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    operator, values = expression.get("operator") or "", expression.get("values") or []
    if operator in ("In", "NotIn"):
        if not values:
            errors.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(field_forbidden(f"{path}.values", why))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            why = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required(f"{path}.values", why))
    else:
        errors.append(invalid_value(f"{path}.operator", operator, "not a valid selector operator"))
    key = expression.get("key") or ""
    return errors + every(f"{path}.key", key, names.is_qualified_name(key))


def _node_field(expression: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    operator, values = expression.get("operator") or "", expression.get("values") or []
    if operator not in ("In", "NotIn"):
        errors.append(invalid_value(f"{path}.operator", operator, "not a valid selector operator"))
    elif len(values) != 1:
        why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        errors.append(required(f"{path}.values", why))
    key = expression.get("key") or ""
    if key != "metadata.name":
        return [*errors, invalid_value(f"{path}.key", key, "not a valid field selector key")]
    for index, value in enumerate(values):
        errors += every(f"{path}.values[{index}]", value, names.is_dns_subdomain(value))
    return errors


def _pod_affinity(affinity: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    for index, term in enumerate(affinity.get(_REQUIRED) or ()):
        errors += _pod_term(term, f"{path}.{_REQUIRED}[{index}]")
    for index, preferred in enumerate(affinity.get(_PREFERRED) or ()):
        at = f"{path}.{_PREFERRED}[{index}]"
        errors += _weight(preferred, at)
        errors += _pod_term(preferred.get("podAffinityTerm") or {}, f"{at}.podAffinityTerm")
    return errors


def _pod_term(term: Obj, path: str) -> list[Cause]:
    errors = label_selector_errors(term.get("labelSelector"), f"{path}.labelSelector")
    errors += label_selector_errors(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    for name in term.get("namespaces") or ():
        errors += every(f"{path}.namespace", name, names.is_dns_label(name))
    return errors + _topology_key(term, path)


def _topology_key(term: Obj, path: str) -> list[Cause]:
    key = term.get("topologyKey")
    if not key:
        return [required(f"{path}.topologyKey", "can not be empty")]
    return every(f"{path}.topologyKey", key, names.is_qualified_name(key))


def validate_tolerations(tolerations: list[Obj], path: str) -> list[Cause]:
    errors: list[Cause] = []
    for index, toleration in enumerate(tolerations):
        errors += _toleration(toleration, f"{path}[{index}]")
    return errors


def _toleration(toleration: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    get = toleration.get
    key, operator, value = get("key") or "", get("operator") or "", get("value") or ""
    effect = get("effect") or ""
    if key:
        errors += every(f"{path}.key", key, names.is_qualified_name(key))
    elif operator != "Exists":
        why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        errors.append(invalid_value(f"{path}.operator", operator, why))
    if get("tolerationSeconds") is not None and effect != "NoExecute":
        why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        errors.append(invalid_value(f"{path}.effect", effect, why))
    if operator in ("", "Equal"):
        errors += every(f"{path}.operator", value, names.is_label_value(value)[:1])
    elif operator == "Exists":
        if value:
            why = "value must be empty when `operator` is 'Exists'"
            errors.append(invalid_value(f"{path}.operator", toleration, why))
    else:
        errors.append(not_supported(f"{path}.operator", operator, ("Equal", "Exists")))
    return errors + (optional_one_of(f"{path}.effect", effect, EFFECTS) if effect else [])


def validate_spread(constraints: list[Obj], path: str) -> list[Cause]:
    """`topologySpreadConstraints`."""
    errors: list[Cause] = []
    seen: set[tuple[Any, Any]] = set()
    for index, constraint in enumerate(constraints):
        at = f"{path}[{index}]"
        skew = constraint.get("maxSkew") or 0
        if skew <= 0:
            errors.append(invalid_value(f"{at}.maxSkew", skew, "must be greater than zero"))
        errors += _topology_key(constraint, at)
        when = constraint.get("whenUnsatisfiable")
        errors += one_of(f"{at}.whenUnsatisfiable", when, ("DoNotSchedule", "ScheduleAnyway"))
        pair = (constraint.get("topologyKey"), when)
        if pair in seen:
            shown = f"{{{pair[0]}, {pair[1]}}}"
            errors.append(duplicate(f"{at}.{{topologyKey, whenUnsatisfiable}}", shown))
        seen.add(pair)
        errors += _min_domains(constraint, when, at)
        for policy in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            errors += optional_one_of(f"{at}.{policy}", constraint.get(policy), ("Ignore", "Honor"))
        if constraint.get("matchLabelKeys"):
            errors += _match_keys(constraint, at)
        errors += label_selector_errors(constraint.get("labelSelector"), f"{at}.labelSelector")
    return errors


def _match_keys(constraint: Obj, path: str) -> list[Cause]:
    """Labels of the pod itself that are added to the selector, which must not have them already."""
    keys, selector = constraint["matchLabelKeys"], constraint.get("labelSelector")
    if selector is None:
        return [field_forbidden(f"{path}.matchLabelKeys", "must not be specified when labelSelector is not set")]
    selected = {expression.get("key") for expression in selector.get("matchExpressions") or ()}
    selected |= set(selector.get("matchLabels") or ())
    errors: list[Cause] = []
    for index, key in enumerate(keys):
        at = f"{path}.matchLabelKeys[{index}]"
        if key in selected:
            errors.append(invalid_value(at, key, "exists in both matchLabelKeys and labelSelector"))
        errors += every(at, key, names.is_qualified_name(key))
    return errors


def _min_domains(constraint: Obj, when: Any, path: str) -> list[Cause]:
    domains = constraint.get("minDomains")
    if domains is None:
        return []
    errors = []
    if domains <= 0:
        errors.append(invalid_value(f"{path}.minDomains", domains, "must be greater than zero"))
    if when != "DoNotSchedule":
        why = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}"
        errors.append(invalid_value(f"{path}.minDomains", domains, why))
    return errors
