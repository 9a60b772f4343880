"""JSONPath as Kubernetes writes it, for columns of custom resources: `.status.conditions[?(@.type=="Ready")].status`.

Fields, indices, slices, unions, wildcards, recursive descent and filters that compare one path with a literal or ask
whether it is there. Specified in https://kubernetes.io/docs/reference/kubectl/jsonpath/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

Step = Callable[[Any], Iterator[Any]]

_FIELD = re.compile(r"(?:\\.|[^.\[\]\\'\"\s])+")
_FILTER = re.compile(r"\?\(\s*@(?P<path>[^=!<>~]*?)\s*(?:(?P<op>==|!=|<=|>=|<|>)\s*(?P<literal>.+?))?\s*\)$", re.DOTALL)
_SLICE = re.compile(r"(-?\d*):(-?\d*)(?::(-?\d*))?$")


class JsonPathError(ValueError):
    """The text is no JSONPath."""


@lru_cache(maxsize=1024)
def compile_path(text: str) -> Callable[[Any], list[Any]]:
    """A function that finds every value at a path, which may be given with or without braces. Raises JsonPathError."""
    steps = tuple(_steps(text.strip().removeprefix("{").removesuffix("}").strip().removeprefix("$")))

    def find(document: Any) -> list[Any]:
        found = [document]
        for step in steps:
            found = [inner for value in found for inner in step(value)]
        return found

    return find


def _steps(text: str) -> Iterator[Step]:
    position = 0
    while position < len(text):
        if text.startswith("..", position):
            position += 2
            match = _FIELD.match(text, position)
            yield _descend(_unescaped(match[0]) if match else "*")
            position = match.end() if match else position
        elif text[position] == "[":
            end = _closing(text, position)
            yield _bracket(text[position + 1 : end].strip())
            position = end + 1
        else:
            position += text[position] == "."
            if position == len(text):
                return
            match = _FIELD.match(text, position)
            if match is None:
                if text[position] == "[":
                    continue
                raise JsonPathError(f"unrecognized character in action: {text[position]!r}")
            yield _wildcard if match[0] == "*" else _field(_unescaped(match[0]))
            position = match.end()


def _unescaped(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name)


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` closes; brackets in quotes do not count."""
    depth, quote = 0, ""
    for place in range(start, len(text)):
        char = text[place]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
            if not depth:
                return place
    raise JsonPathError("unterminated array")


def _field(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _wildcard(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _descend(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if name == "*":
            yield from _wildcard(value)
        elif isinstance(value, dict) and name in value:
            yield value[name]
        for inner in _wildcard(value):
            yield from step(inner)

    return step


def _bracket(inside: str) -> Step:
    if inside == "*":
        return _wildcard
    if inside.startswith("?("):
        return _filter(inside)
    if inside[:1] in ("'", '"') and inside.count(inside[0]) == 2:
        return _field(inside[1:-1])
    if match := _SLICE.match(inside):
        return _slice(*(int(part) if part else None for part in match.groups()))
    if "," in inside:
        parts = [_bracket(part.strip()) for part in inside.split(",")]
        return lambda value: (found for part in parts for found in part(value))
    try:
        return _index(int(inside))
    except ValueError:
        raise JsonPathError(f"invalid array index {inside}") from None


def _index(place: int) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= place < len(value):
            yield value[place]

    return step


def _slice(start: int | None, stop: int | None, stride: int | None) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from value[start : stop : stride or 1]

    return step


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def _filter(inside: str) -> Step:
    match = _FILTER.match(inside)
    if match is None:
        raise JsonPathError(f"unrecognized filter {inside}")
    path = compile_path(match["path"])
    compare = _COMPARE.get(match["op"] or "")
    wanted = _literal(match["literal"]) if compare else None

    def keep(item: Any) -> bool:
        found = path(item)
        if not found or compare is None:
            return bool(found)
        try:
            return compare(found[0], wanted)
        except TypeError:
            return False

    return lambda value: (item for item in _wildcard(value) if keep(item))


def _literal(text: str) -> Any:
    if text[:1] in ("'", '"'):
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise JsonPathError(f"unrecognized literal {text}") from None
