"""Literals that can only fail: patterns, moments and durations written out are checked when they are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pinnace.machinery.cel.ast import Call, Const, Node, walk
from pinnace.machinery.cel.library.regex import matches
from pinnace.machinery.cel.values import CelError, read_duration, read_timestamp

_CHECKED: dict[str, Callable[[str], Any]] = {
    "duration": read_duration,
    "matches": lambda pattern: matches("", pattern),
    "timestamp": read_timestamp,
}


def literal_problems(tree: Node) -> list[tuple[int, str]]:
    """Where and what, for `syntax.render`."""
    problems = []
    for node in walk(tree):
        if not isinstance(node, Call) or node.function not in _CHECKED or not node.args:
            continue
        last = node.args[-1]
        if isinstance(last, Const) and isinstance(last.value, str):
            try:
                _CHECKED[node.function](last.value)
            except CelError:
                problems.append((last.at, f"invalid {node.function} argument"))
    return problems
