"""The tree of an expression, read from the ParsedExpr message in which cel-cpp hands it over.

The message is https://github.com/google/cel-spec/blob/master/proto/cel/expr/syntax.proto; the few fields needed
are read here from the wire, which spares the server the protobuf runtime. Macros are expanded
already, but for those with two variables, which `macros` expands.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pinnace.machinery.cel.types import DYN, Type


@dataclass(slots=True)
class Node:
    """One node; `at` is its place in the text, in characters, and `type` what the checker found."""

    at: int
    type: Type = field(default=DYN, init=False)


@dataclass(slots=True)
class Const(Node):
    value: Any  # None, bool, int, UInt, float, str or bytes


@dataclass(slots=True)
class Ident(Node):
    name: str


@dataclass(slots=True)
class Select(Node):
    operand: Node
    field: str
    test: bool = False  # `has(operand.field)`
    key: str = ""  # the name in the data, set by the checker
    constant: Type | None = None  # where the whole path names a type
    variable: str = ""  # where the whole path names a variable: authorizer.requestResource


@dataclass(slots=True)
class Call(Node):
    function: str
    target: Node | None
    args: list[Node]
    overloads: list[Any] = field(default_factory=list)  # those that may apply, set by the checker


@dataclass(slots=True)
class ListNode(Node):
    elements: list[Node]
    optional: frozenset[int] = frozenset()


@dataclass(slots=True)
class Entry:
    key: Node
    value: Node
    optional: bool = False


@dataclass(slots=True)
class MapNode(Node):
    entries: list[Entry]


@dataclass(slots=True)
class StructNode(Node):
    name: str
    entries: list[tuple[str, Node, bool]]  # field, value, whether optional
    keys: dict[str, str] = field(default_factory=dict)  # field -> name in the data, set by the checker


@dataclass(slots=True)
class Comprehension(Node):
    iter_var: str
    iter_range: Node
    accu_var: str
    accu_init: Node
    condition: Node
    step: Node
    result: Node
    iter_var2: str = ""


def children(node: Node) -> list[Node]:
    """The nodes directly below, in the order they are evaluated."""
    match node:
        case Select():
            return [node.operand]
        case Call():
            return [*([node.target] if node.target is not None else []), *node.args]
        case ListNode():
            return list(node.elements)
        case MapNode():
            return [each for entry in node.entries for each in (entry.key, entry.value)]
        case StructNode():
            return [value for _, value, _ in node.entries]
        case Comprehension():
            return [node.iter_range, node.accu_init, node.condition, node.step, node.result]
    return []


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    stack = [node]
    while stack:
        one = stack.pop()
        yield one
        stack += children(one)


class UInt(int):
    """An unsigned integer: equal to an int of the same value, but of its own type."""

    __slots__ = ()


# From the wire.

_Fields = dict[int, list[Any]]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> _Fields:
    """A message's fields by number: ints of varints and fixed numbers, bytes of everything else."""
    found: _Fields = {}
    at = 0
    value: Any
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            size = 8 if wire == 1 else 4
            value, at = data[at : at + size], at + size
        found.setdefault(tag >> 3, []).append(value)
    return found


def _text(message: _Fields, number: int) -> str:
    return str(message[number][-1], "utf-8") if number in message else ""


def read(serialized: bytes) -> Node:
    """The tree of what `Expression.serialize()` gave: an Any that holds a ParsedExpr."""
    parsed = _fields(_fields(serialized)[2][-1])
    positions: dict[int, int] = {}
    for raw in _fields(parsed[3][-1]).get(4, ()) if 3 in parsed else ():
        entry = _fields(raw)
        positions[entry.get(1, [0])[-1]] = entry.get(2, [0])[-1]
    return _Reader(positions).expression(parsed[2][-1])


class _Reader:
    def __init__(self, positions: dict[int, int]) -> None:
        self._positions = positions

    def expression(self, data: bytes) -> Node:
        message = _fields(data)
        at = self._positions.get(message.get(2, [0])[-1], 0)
        for number, make in _MAKERS.items():
            if number in message:
                node: Node = make(self, at, _fields(message[number][-1]))
                return node
        raise ValueError("an expression without content")

    def const(self, at: int, message: _Fields) -> Node:
        for number, value in message.items():
            return Const(at, _constant(number, value[-1]))
        return Const(at, None)

    def ident(self, at: int, message: _Fields) -> Node:
        return Ident(at, _text(message, 1))

    def select(self, at: int, message: _Fields) -> Node:
        name = _text(message, 2)
        return Select(at, self.expression(message[1][-1]), name, bool(message.get(3)), name)

    def call(self, at: int, message: _Fields) -> Node:
        target = self.expression(message[1][-1]) if 1 in message else None
        return Call(at, _text(message, 2), target, [self.expression(each) for each in message.get(3, ())])

    def create_list(self, at: int, message: _Fields) -> Node:
        elements = [self.expression(each) for each in message.get(1, ())]
        optional: list[int] = []
        for packed in message.get(2, ()):
            if isinstance(packed, int):
                optional.append(packed)
                continue
            place = 0
            while place < len(packed):
                index, place = _varint(packed, place)
                optional.append(index)
        return ListNode(at, elements, frozenset(optional))

    def create_struct(self, at: int, message: _Fields) -> Node:
        name = _text(message, 1)
        entries = [_fields(each) for each in message.get(2, ())]
        if name:
            return StructNode(
                at,
                name,
                [(_text(each, 2), self.expression(each[4][-1]), bool(each.get(5))) for each in entries],
            )
        return MapNode(
            at,
            [Entry(self.expression(each[3][-1]), self.expression(each[4][-1]), bool(each.get(5))) for each in entries],
        )

    def comprehension(self, at: int, message: _Fields) -> Node:
        init, condition, step, result = (self.expression(message[number][-1]) for number in (4, 5, 6, 7))
        source = self.expression(message[2][-1])
        return Comprehension(at, _text(message, 1), source, _text(message, 3), init, condition, step, result)


_MAKERS = {
    3: _Reader.const,
    4: _Reader.ident,
    5: _Reader.select,
    6: _Reader.call,
    7: _Reader.create_list,
    8: _Reader.create_struct,
    9: _Reader.comprehension,
}


def _constant(number: int, raw: Any) -> Any:
    match number:
        case 2:
            return bool(raw)
        case 3:
            return raw - (1 << 64) if raw >= 1 << 63 else raw
        case 4:
            return UInt(raw)
        case 5:
            return struct.unpack("<d", raw)[0]
        case 6:
            return str(raw, "utf-8")
        case 7:
            return bytes(raw)
    return None
