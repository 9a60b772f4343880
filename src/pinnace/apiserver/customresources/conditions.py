"""What the status of a CustomResourceDefinition says: which names it gets, whether it is served, what is wrong with it.

Pure: from a definition, its neighbours and a moment to the status it should have. Specified in
https://kubernetes.io/docs/reference/kubernetes-api/extend-resources/custom-resource-definition-v1/.
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.apis.definitions import approval, condition_is, is_protected, set_condition
from pinnace.apis.kind import Kind
from pinnace.machinery.errors import Cause
from pinnace.machinery.meta import Obj, deep_copy

_APPROVALS = {
    "Approved": ("True", "ApprovedAnnotation"),
    "Bypassed": ("False", "UnapprovedAnnotation"),
    "Invalid": ("False", "InvalidAnnotation"),
    "Missing": ("False", "MissingAnnotation"),
}


def status_for(
    definition: Obj, others: Iterable[Obj], builtin: Iterable[Kind], violations: list[Cause], now: str
) -> Obj:
    """The status the definition should have among the `others`; `now` is the moment of what changes.

    `violations` are where its schemas are not structural: `definition_schemas.structural_causes`.
    """
    spec = definition["spec"]
    status: Obj = deep_copy(definition.get("status") or {})
    accepted, reason, message = _names(definition, others, builtin)
    status["acceptedNames"] = accepted
    good = reason == "NoConflicts"
    set_condition(status, "NamesAccepted", "True" if good else "False", reason, message, now)
    if not condition_is(definition, "Established"):
        if good:
            set_condition(status, "Established", "True", "InitialNamesAccepted", _ACCEPTED, now)
        else:
            set_condition(status, "Established", "False", "NotAccepted", "not all names are accepted", now)
    _non_structural(status, violations, now)
    if is_protected(spec.get("group") or ""):
        state, why = approval(definition)
        value, approved = _APPROVALS[state]
        set_condition(status, "KubernetesAPIApprovalPolicyConformant", value, approved, why, now)
    return status


_ACCEPTED = "the initial names have been accepted"


def _names(definition: Obj, others: Iterable[Obj], builtin: Iterable[Kind]) -> tuple[Obj, str, str]:
    """The names it gets, and why not all of those it asked for."""
    group = definition["spec"].get("group")
    asked: Obj = definition["spec"].get("names") or {}
    had: Obj = (definition.get("status") or {}).get("acceptedNames") or {}
    resources, kinds = _taken(group, others, builtin)
    accepted = dict(had)
    reason, message = "NoConflicts", "no conflicts found"
    for key, used, why in (
        ("plural", resources, "PluralConflict"),
        ("singular", resources, "SingularConflict"),
        ("shortNames", resources, "ShortNamesConflict"),
        ("kind", kinds, "KindConflict"),
        ("listKind", kinds, "ListKindConflict"),
    ):
        wanted = asked.get(key) or ([] if key == "shortNames" else "")
        own = had.get(key) or []
        each = wanted if isinstance(wanted, list) else [wanted]
        bad = [
            f'"{one}" is already in use'
            for one in each
            if one in used and one not in ([own] if isinstance(own, str) else own)
        ]
        if bad:
            reason, message = why, bad[0] if len(bad) == 1 else f"[{', '.join(bad)}]"
        elif wanted:
            accepted[key] = wanted
        else:
            accepted.pop(key, None)
    accepted.pop("categories", None)
    if asked.get("categories"):
        accepted["categories"] = asked["categories"]
    return accepted, reason, message


def _taken(group: str | None, others: Iterable[Obj], builtin: Iterable[Kind]) -> tuple[set[str], set[str]]:
    """Names of resources and of kinds that are in use in the group."""
    resources: set[str] = set()
    kinds: set[str] = set()
    for other in others:
        if other["spec"].get("group") != group:
            continue
        names: Obj = (other.get("status") or {}).get("acceptedNames") or {}
        resources |= {names.get("plural") or "", names.get("singular") or "", *(names.get("shortNames") or ())}
        kinds |= {names.get("kind") or "", names.get("listKind") or ""}
    for kind in builtin:
        if kind.group == group:
            resources |= {kind.plural, kind.singular, *kind.short_names}
            kinds |= {kind.kind, kind.list_kind}
    return resources - {""}, kinds - {""}


def _non_structural(status: Obj, causes: list[Cause], now: str) -> None:
    if causes:
        worded = [f"{cause.field}: {cause.message}" for cause in causes]
        message = worded[0] if len(worded) == 1 else f"[{', '.join(worded)}]"
        set_condition(status, "NonStructuralSchema", "True", "Violations", message, now)
    elif any(one.get("type") == "NonStructuralSchema" for one in status.get("conditions") or ()):
        status["conditions"] = [one for one in status["conditions"] if one.get("type") != "NonStructuralSchema"]
