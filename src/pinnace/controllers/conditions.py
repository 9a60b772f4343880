"""Conditions of a status: reading one, and setting one without losing when it last changed.

Objects are read-only, so these return new lists. The rules are those of the API conventions
(https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md).
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.machinery.meta import Obj


def condition(obj: Obj, type: str) -> Obj | None:  # noqa: A002 - the API's own word
    """The condition of that type in `obj.status.conditions`."""
    return find(((obj.get("status") or {}).get("conditions")) or (), type)


def find(conditions: Iterable[Obj], type: str) -> Obj | None:  # noqa: A002
    for found in conditions:
        if found.get("type") == type:
            return found
    return None


def is_true(obj: Obj, type: str) -> bool:  # noqa: A002
    found = condition(obj, type)
    return found is not None and found.get("status") == "True"


def without(conditions: Iterable[Obj], type: str) -> list[Obj]:  # noqa: A002
    return [found for found in conditions if found.get("type") != type]


def with_condition(conditions: Iterable[Obj], new: Obj) -> list[Obj]:
    """The conditions with `new` in place of the one of its type.

    Nothing changes where status and reason are as before; where the status is, its transition time is kept.
    """
    conditions = list(conditions)
    old = find(conditions, new["type"])
    if old is not None:
        if old.get("status") == new["status"] and old.get("reason") == new.get("reason"):
            return conditions
        if old.get("status") == new["status"]:
            new = {**new, "lastTransitionTime": old.get("lastTransitionTime")}
    return [*without(conditions, new["type"]), new]


def put_condition(conditions: Iterable[Obj], new: Obj) -> list[Obj]:
    """The conditions with `new` at the place of the one of its type, always as new says; its transition time is kept
    where the status is as before. So conditions go that have an `observedGeneration`."""
    conditions = list(conditions)
    old = find(conditions, new["type"])
    if old is None:
        return [*conditions, new]
    if old.get("status") == new["status"]:
        new = {**new, "lastTransitionTime": old.get("lastTransitionTime")}
    return [new if one is old else one for one in conditions]
