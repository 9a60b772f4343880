"""What a rule must be before its expression is compiled: texts that are there, a reason that is known, a field that is.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules.
"""

from __future__ import annotations

import json
import re

from pinnace.machinery.errors import Cause, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj

REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\['((?:[^'\\]|\\.)*)'\]")


def rule_problems(rule: Obj, schema: Obj, path: str) -> list[Cause]:
    """What is wrong with a rule at `path`, the expressions aside."""
    text, message = (rule.get("rule") or "").strip(), rule.get("message") or ""
    causes: list[Cause] = []
    if not text:
        causes.append(required(f"{path}.rule", "rule is not specified"))
    elif message and not message.strip():
        causes.append(invalid_value(f"{path}.message", message, "message must be non-empty if specified"))
    elif "\n" in message.strip():
        causes.append(invalid_value(f"{path}.message", message.strip(), "message must not contain line breaks"))
    elif "\n" in text and not message.strip():
        causes.append(required(f"{path}.message", "message must be specified if rule contains line breaks"))
    expression = rule.get("messageExpression") or ""
    if expression and not expression.strip():
        why = "messageExpression must be non-empty if specified"
        causes.append(required(f"{path}.messageExpression", why))
    reason = rule.get("reason")
    if reason is not None and reason not in REASONS:
        causes.append(not_supported(f"{path}.reason", reason, REASONS))
    return causes + _field_problems(rule.get("fieldPath") or "", schema, f"{path}.fieldPath")


def _field_problems(given: str, schema: Obj, path: str) -> list[Cause]:
    if not given:
        return []
    if not given.strip():
        return [invalid_value(path, given, "fieldPath must be non-empty if specified")]
    if "\n" in given:
        return [invalid_value(path, given, "fieldPath must not contain line breaks")]
    _, problem = field_path(given, schema)
    return [invalid_value(path, given, f"fieldPath must be a valid path: {problem}")] if problem else []


def field_path(given: str, schema: Obj) -> tuple[str, str]:
    """A fieldPath as it continues the path of a cause, and what is wrong with it."""
    if not given:
        return "", ""
    made, at, node = "", 0, schema
    while at < len(given):
        match = _STEP.match(given, at)
        if match is None:
            return made, f"expected [ or . but got: {given[at:]}"
        name = match[1] if match[1] is not None else re.sub(r"\\(.)", r"\1", match[2])
        below = (node.get("properties") or {}).get(name)
        values = node.get("additionalProperties")
        if below is None and isinstance(values, dict):
            made += f"[{name}]"
            below = values
        elif below is not None:
            made += f".{name}"
        else:
            return made, "does not refer to a valid field"
        node, at = below, match.end()
    return made, ""


def show_rule(rule: Obj) -> str:
    """A rule as an error shows it: Go's struct in JSON."""
    shown = {
        "Rule": rule.get("rule") or "",
        "Message": rule.get("message") or "",
        "MessageExpression": rule.get("messageExpression") or "",
        "Reason": rule.get("reason"),
        "FieldPath": rule.get("fieldPath") or "",
        "OptionalOldSelf": rule.get("optionalOldSelf"),
    }
    return json.dumps(shown, separators=(",", ":"), ensure_ascii=False)
