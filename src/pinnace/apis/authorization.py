"""Access reviews: what they must say, and the selectors in them as a request would have them. They are not stored.

https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pinnace.apis.checks import every
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value, required
from pinnace.machinery.meta import Obj
from pinnace.machinery.names import is_label_value, is_qualified_name
from pinnace.machinery.selectors import FieldRequirement


def validate_access_review(kind: str, review: Obj) -> list[Cause]:
    """For a SubjectAccessReview, a SelfSubjectAccessReview or a LocalSubjectAccessReview."""
    spec, is_local = review.get("spec") or {}, kind == "LocalSubjectAccessReview"
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    causes: list[Cause] = []
    if resource is not None and other is not None:
        why = "cannot be specified in combination with resourceAttributes"
        causes.append(invalid_value("spec.nonResourceAttributes", other, why))
    if resource is None and other is None:
        why = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        causes.append(invalid_value("spec.resourceAttributes", "null", why))
    if kind != "SelfSubjectAccessReview" and not spec.get("user") and not spec.get("groups"):
        causes.append(invalid_value("spec.user", "", "at least one of user or group must be specified"))
    for name in ("fieldSelector", "labelSelector"):
        causes += _validate_selector((resource or {}).get(name), name, f"spec.resourceAttributes.{name}")
    metadata = {key: value for key, value in (review.get("metadata") or {}).items() if value and key != "managedFields"}
    namespace = metadata.pop("namespace", "") if is_local else ""
    if metadata:
        why = "must be empty except for namespace" if is_local else "must be empty"
        causes.append(invalid_value("metadata", metadata, why))
    if is_local and resource is not None and (resource.get("namespace") or "") != namespace:
        given = resource.get("namespace") or ""
        causes.append(invalid_value("spec.resourceAttributes.namespace", given, "must match metadata.namespace"))
    if is_local and other is not None:
        causes.append(invalid_value("spec.nonResourceAttributes", other, "disallowed on this kind of request"))
    return causes


def _validate_selector(selector: Obj | None, name: str, path: str) -> list[Cause]:
    if selector is None:
        return []
    causes: list[Cause] = []
    raw, requirements = selector.get("rawSelector"), selector.get("requirements") or ()
    if raw and requirements:
        why = "may not specified at the same time as requirements"
        causes.append(invalid_value(f"{path}.rawSelector", raw, why))
    if not raw and not requirements:
        why = f"when {path} is specified, requirements or rawSelector is required"
        causes.append(required(f"{path}.requirements", why))
    for index, requirement in enumerate(requirements):
        causes += _validate_requirement(requirement, name == "labelSelector", f"{path}.requirements[{index}]")
    return causes


def _validate_requirement(requirement: Obj, is_of_labels: bool, path: str) -> list[Cause]:
    """Operators that are not known are let by: newer clients may ask for more than is understood here."""
    key, operator = requirement.get("key") or "", requirement.get("operator") or ""
    values: Sequence[str] = requirement.get("values") or ()
    causes: list[Cause] = []
    if not is_of_labels and not key:
        causes.append(required(f"{path}.key", "must be specified"))
    if operator in ("In", "NotIn") and not values:
        causes.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    if operator in ("Exists", "DoesNotExist") and values:
        why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        causes.append(field_forbidden(f"{path}.values", why))
    if is_of_labels:
        causes += every(f"{path}.key", key, is_qualified_name(key))
        for index, value in enumerate(values):
            causes += every(f"{path}.values[{index}]", value, is_label_value(value))
    return causes


def selectors_of(resource: Obj) -> tuple[str, str]:
    """The field and the label selector that a review asks about, as they would stand in a request."""
    fields, labels = resource.get("fieldSelector") or {}, resource.get("labelSelector") or {}
    return _text(fields, _field_term), _text(labels, _label_term)


def _text(selector: Obj, term: Callable[[Obj], str]) -> str:
    """What cannot be said is left out: requirements only narrow what is asked for."""
    raw = selector.get("rawSelector")
    return str(raw) if raw else ",".join(filter(None, map(term, selector.get("requirements") or ())))


def _field_term(requirement: Obj) -> str:
    """`key=value`: field selectors know one value, and no existence."""
    operator = requirement.get("operator")
    values: Sequence[str] = requirement.get("values") or ()
    if operator not in ("In", "NotIn") or len(values) != 1:
        return ""
    return str(FieldRequirement(requirement.get("key", ""), "!=" if operator == "NotIn" else "=", values[0]))


def _label_term(requirement: Obj) -> str:
    """`key in (a,b)` or `!key`."""
    key, operator = requirement.get("key", ""), requirement.get("operator")
    if operator in ("Exists", "DoesNotExist"):
        return f"{'!' * (operator == 'DoesNotExist')}{key}"
    if operator not in ("In", "NotIn"):
        return ""
    return f"{key} {'notin' if operator == 'NotIn' else 'in'} ({','.join(requirement.get('values') or ())})"
