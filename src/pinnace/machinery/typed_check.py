"""What is wrong with an applied configuration, as server-side apply finds it before anything else: fields that its kind
does not have, values of other types, list items that cannot be told apart.

The wording is that of sigs.k8s.io/structured-merge-diff.
"""

from __future__ import annotations

from typing import Any

from pinnace.machinery import fieldset
from pinnace.machinery.schema import Schema
from pinnace.machinery.typed import ItemError, Node, item_element


def problems(node: Node, value: Any) -> list[str]:
    """Every complaint, `.spec.foo: field not declared in schema`."""
    found: list[str] = []
    _check(node, value, "", found)
    return found


def worded(found: list[str]) -> str:
    """Complaints as one text."""
    return found[0] if len(found) == 1 else "\n".join(["errors:", *(f"  {each}" for each in found)])


def _check(node: Node, value: Any, path: str, found: list[str]) -> None:
    if value is None or node.shape == "deduced":
        return
    schema = node.schema
    assert schema is not None
    match schema.type:
        case "object" | "map":
            if type(value) is dict:
                _check_map(node, value, path, found)
            else:
                found.append(_at(path, f"expected map, got {_boxed(value)}"))
        case "list":
            if type(value) is list:
                _check_list(node, value, path, found)
            else:
                found.append(_at(path, f"expected list, got {_boxed(value)}"))
        case _:
            why = _scalar_problem(schema, value)
            if why:
                found.append(_at(path, why))


def _at(path: str, why: str) -> str:
    return f"{path}: {why}" if path else why


def _check_map(node: Node, value: dict[str, Any], path: str, found: list[str]) -> None:
    for name, item in value.items():
        child = _child(node, name)
        if child is None:
            found.append(f"{path}.{name}: field not declared in schema")
        else:
            _check(child, item, f"{path}.{name}", found)


def _child(node: Node, name: str) -> Node | None:
    """As `Node.field`, also within what is owned whole."""
    if node.shape != "atomic":
        return node.field(name)
    from pinnace.machinery.typed import node_of

    child = node.schema.child(name) if node.schema is not None else None
    return node_of(child) if child is not None else None


def _check_list(node: Node, value: list[Any], path: str, found: list[str]) -> None:
    from pinnace.machinery.typed import node_of

    assert node.schema is not None
    child = node_of(node.schema.items)
    seen: set[str] = set()
    for index, item in enumerate(value):
        if node.shape == "atomic":
            _check(child, item, f"{path}[{index}]", found)
            continue
        try:
            element = item_element(node, item)
        except ItemError as why:
            found.append(_at(path, f"element {index}: {why}"))
            continue
        text = fieldset.element_text(element)
        if element in seen:
            found.append(_at(path, f"duplicate entries for key {text}"))
        seen.add(element)
        _check(child, item, path + text, found)


def _scalar_problem(schema: Schema, value: Any) -> str:
    match schema.type:
        case "string" | "byte" | "time" | "micro-time":
            if type(value) is not str:
                return f"expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}"
        case "boolean":
            if type(value) is not bool:
                return f"expected boolean, got {_boxed(value)}"
        case "integer" | "number":
            if type(value) not in (int, float):
                return f"expected numeric (int or float), got {_go_type(value)}"
        case "quantity" | "int-or-string":
            if isinstance(value, dict | list):
                return f"expected any scalar, got {_boxed(value)}"
    return ""


# Values as Go prints them.


def _boxed(value: Any) -> str:
    return f"&{{{_go_text(value)}}}"


def _go_text(value: Any) -> str:
    if isinstance(value, dict):
        return "map[" + " ".join(f"{name}:{_go_text(value[name])}" for name in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(_go_text, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)


def _go_syntax(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{_go_syntax(name)}:{_go_syntax(value[name])}" for name in sorted(value))
        return f"map[string]interface {{}}{{{inner}}}"
    if isinstance(value, list):
        return f"[]interface {{}}{{{', '.join(map(_go_syntax, value))}}}"
    if isinstance(value, str):
        return fieldset.element_text(fieldset.value(value))[2:-1]
    return "interface {}(nil)" if value is None else _go_text(value)


def _go_type(value: Any) -> str:
    if isinstance(value, dict):
        return "map[string]interface {}"
    return {str: "string", bool: "bool", list: "[]interface {}"}.get(type(value), "float64")
