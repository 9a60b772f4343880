"""Node selectors, taints and tolerations: whether a pod's words about nodes fit a node's labels, fields and taints.

Specified by https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/ and
https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pinnace.machinery.meta import Obj


def _integer(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def requirement_matches(requirement: Obj, values: Mapping[str, str]) -> bool:
    """One `matchExpressions` or `matchFields` entry of a node selector term."""
    value = values.get(requirement["key"])
    wanted = requirement.get("values") or ()
    match requirement["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value is None or value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            number, bound = _integer(value), _integer(wanted[0] if wanted else None)
            if number is None or bound is None:
                return False
            return number > bound if operator == "Gt" else number < bound
    return False


def term_matches(term: Obj, name: str, labels: Mapping[str, str]) -> bool:
    """One node selector term; a term without any requirement matches no node."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(requirement_matches(requirement, labels) for requirement in expressions) and all(
        requirement_matches(requirement, {"metadata.name": name}) for requirement in fields
    )


def node_selector_matches(
    node_selector: Mapping[str, str], required: Sequence[Obj] | None, name: str, labels: Mapping[str, str]
) -> bool:
    """`spec.nodeSelector` and the terms of `requiredDuringScheduling…` (None: there are no such terms)."""
    for key, value in node_selector.items():
        if labels.get(key) != value:
            return False
    return required is None or any(term_matches(term, name, labels) for term in required)


def tolerates(toleration: Obj, taint: Obj) -> bool:
    """Whether one toleration covers one taint."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


def untolerated(taints: Iterable[Obj], tolerations: Sequence[Obj], effects: Sequence[str]) -> Obj | None:
    """The first taint with one of the effects that no toleration covers."""
    for taint in taints:
        if taint.get("effect") in effects and not any(tolerates(toleration, taint) for toleration in tolerations):
            return taint
    return None
