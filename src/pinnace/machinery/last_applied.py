"""The annotation in which `kubectl apply` keeps what it applied last, where client-side and server-side apply meet.

An object that was applied by the client is taken over by `kubectl apply --server-side` without conflicts over what the
annotation shows to be kubectl's own; as long as the annotation is there, it is kept up to date, so that the way back
stays open.
https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply.
"""

from __future__ import annotations

import orjson

from pinnace.machinery import fieldset, typed_check
from pinnace.machinery.fieldset import Fields
from pinnace.machinery.managed_fields import ApplyConflict, Identity
from pinnace.machinery.meta import Obj, annotations_of, get_in, replace_in
from pinnace.machinery.names import annotation_errors
from pinnace.machinery.typed import Node, field_set
from pinnace.machinery.typed_compare import compare

ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
MANAGER = "kubectl"  # the one field manager that both ways of applying share

_ESCAPES = ((b"<", rb"\u003c"), (b">", rb"\u003e"), (b"&", rb"\u0026"))  # as Go writes JSON


def settles(node: Node, live: Obj, conflict: ApplyConflict) -> bool:
    """Whether every field in conflict is one that the annotation of `live` shows to be kubectl's."""
    return not _left(node, live, conflict)


def remaining(node: Node, live: Obj, conflict: ApplyConflict) -> ApplyConflict:
    """The conflict without the fields that are kubectl's."""
    return ApplyConflict(_left(node, live, conflict))


def _left(node: Node, live: Obj, conflict: ApplyConflict) -> list[tuple[Identity, fieldset.Path]]:
    allowed = owned(node, live)
    return [(who, path) for who, path in conflict.found if not fieldset.has(allowed, path)]


def owned(node: Node, live: Obj) -> Fields:
    """The fields that the annotation says kubectl applied and that still have the values it gave them."""
    text = annotations_of(live).get(ANNOTATION)
    try:
        applied = orjson.loads(text) if text else None
    except ValueError:
        return fieldset.EMPTY
    if not isinstance(applied, dict) or applied.get("apiVersion") != live.get("apiVersion"):
        return fieldset.EMPTY
    if typed_check.problems(node, applied):
        return fieldset.EMPTY
    found = field_set(node, applied)
    comparison = compare(node, applied, live)
    for changed in comparison:
        found = fieldset.difference(found, changed)
    return found


def updated(obj: Obj, config: Obj) -> Obj:
    """`obj` with its annotation showing `config`, if it has one; without it where it would be too long."""
    annotations = annotations_of(obj)
    if not annotations.get(ANNOTATION):
        return obj
    others = {name: text for name, text in annotations.items() if name != ANNOTATION}
    changed = {**others, ANNOTATION: text_of(config)}
    too_long = any(cause.reason == "FieldValueTooLong" for cause in annotation_errors(changed, ""))
    return replace_in(obj, others if too_long else changed, "metadata", "annotations")


def text_of(config: Obj) -> str:
    """The annotation for a configuration: JSON with sorted keys and a line break, without the annotation itself."""
    annotations = get_in(config, "metadata", "annotations", default={})
    if ANNOTATION in annotations:
        others = {name: text for name, text in annotations.items() if name != ANNOTATION}
        config = replace_in(config, others, "metadata", "annotations")
    text = orjson.dumps(config, option=orjson.OPT_SORT_KEYS)
    for plain, escaped in _ESCAPES:
        text = text.replace(plain, escaped)
    return text.decode() + "\n"
