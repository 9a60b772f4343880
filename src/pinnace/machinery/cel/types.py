"""Types of CEL: scalars, lists, maps, objects with known fields, Kubernetes' opaque types, and type parameters.

A type may say more than CEL asks: how long its values can be (for estimates of cost) and whether a list is a set or a
map in Kubernetes' sense (which changes what `==` and `+` mean). Names in messages are those cel-go prints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Type:
    """One type. Two are the same when their `str` is; objects are told apart by name."""

    kind: str  # int, list, map, object, opaque, optional, param, type, ...
    name: str = ""  # of an object, an opaque type or a parameter
    params: tuple[Type, ...] = ()
    fields: Callable[[], Mapping[str, Field]] | None = None  # of an object
    max_size: int | None = None  # the most elements, entries or characters a value can have
    list_type: str = ""  # set, map, or empty for an atomic list
    list_keys: tuple[str, ...] = ()  # of a list of type map

    def __str__(self) -> str:
        if self.kind in ("list", "map"):
            return f"{self.kind}({', '.join(map(str, self.params))})"
        if self.kind == "optional":
            return f"optional_type({self.params[0]})"
        if self.kind == "type":
            return f"type({self.params[0]})" if self.params else "type"
        return self.name or self.kind

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Type) and (self is other or str(self) == str(other))

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def element(self) -> Type:
        """Of a list its elements', of a map its values', of an optional its value's type."""
        return self.params[-1] if self.params else DYN


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an object; `key` is its name in the data, where the expression's name is escaped."""

    type: Type
    key: str


BOOL = Type("bool")
BYTES = Type("bytes")
DOUBLE = Type("double")
DURATION = Type("duration")
DYN = Type("dyn")
ERROR = Type("!error!")
INT = Type("int")
NULL = Type("null")
STRING = Type("string")
TIMESTAMP = Type("timestamp")
UINT = Type("uint")
TYPE = Type("type")

_SCALARS = {one.kind: one for one in (BOOL, BYTES, DOUBLE, DURATION, DYN, INT, NULL, STRING, TIMESTAMP, UINT, TYPE)}


def list_of(element: Type, max_size: int | None = None) -> Type:
    return Type("list", params=(element,), max_size=max_size)


def map_of(key: Type, value: Type, max_size: int | None = None) -> Type:
    return Type("map", params=(key, value), max_size=max_size)


def optional_of(value: Type) -> Type:
    return Type("optional", params=(value,))


def object_type(name: str, fields: Callable[[], Mapping[str, Field]]) -> Type:
    return Type("object", name, fields=fields)


def opaque(name: str) -> Type:
    return Type("opaque", name)


def read_type(text: str) -> Type:
    """The type a signature names: `list(int)`, `map(K, V)`, `optional(T)`, `net.IP`; one capital is a parameter."""
    head, _, rest = text.strip().partition("(")
    if rest:
        params = tuple(map(read_type, split_list(rest[:-1])))
        return Type(head, params=params)
    if len(head) == 1 and head.isupper():
        return Type("param", head)
    return _SCALARS.get(head) or opaque(head)


def split_list(text: str) -> list[str]:
    """The parts between the commas that no bracket encloses."""
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            parts.append(text[start:at].strip())
            start = at + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


class Bindings:
    """What type parameters stand for while one expression is checked."""

    def __init__(self) -> None:
        self._bound: dict[str, Type] = {}
        self._fresh = 0

    def fresh(self, signature: Sequence[Type]) -> list[Type]:
        """The types of a signature with parameters nobody else has."""
        self._fresh += 1
        mark = f"#{self._fresh}"
        return [_renamed(one, mark) for one in signature]

    def new(self) -> Type:
        """A parameter of its own: the element of an empty list."""
        self._fresh += 1
        return Type("param", f"_#{self._fresh}")

    def resolve(self, one: Type) -> Type:
        """The type with everything known put in; parameters nothing is known of stay."""
        while one.kind == "param" and one.name in self._bound:
            one = self._bound[one.name]
        if not one.params:
            return one
        params = tuple(map(self.resolve, one.params))
        if all(new is old for new, old in zip(params, one.params, strict=True)):
            return one
        return Type(one.kind, one.name, params, one.fields, one.max_size, one.list_type, one.list_keys)

    def final(self, one: Type) -> Type:
        """The type with what is not known become dyn."""
        one = self.resolve(one)
        if one.kind == "param":
            return DYN
        if not one.params:
            return one
        params = tuple(map(self.final, one.params))
        return Type(one.kind, one.name, params, one.fields, one.max_size, one.list_type, one.list_keys)

    def accepts(self, wanted: Sequence[Type], given: Sequence[Type]) -> bool:
        """Whether values of the given types may stand where the wanted ones are; binds parameters if so."""
        before = dict(self._bound)
        if len(wanted) == len(given) and all(map(self._accepts, wanted, given)):
            return True
        self._bound = before
        return False

    def _accepts(self, wanted: Type, given: Type) -> bool:
        wanted, given = self.resolve(wanted), self.resolve(given)
        if wanted.kind == "param":
            return self._bind(wanted, given)
        if given.kind == "param":
            return self._bind(given, wanted)
        if "dyn" in (wanted.kind, given.kind) or "!error!" in (wanted.kind, given.kind):
            return True
        if given.kind == "null":
            return wanted.kind in _NULLABLE
        if wanted.kind == "null":
            return given.kind in _NULLABLE
        if wanted.kind != given.kind or (wanted.kind in ("object", "opaque") and wanted.name != given.name):
            return False
        if wanted.kind == "type":
            return True
        return all(map(self._accepts, wanted.params, given.params))

    def _bind(self, param: Type, value: Type) -> bool:
        if value.kind == "param" and value.name == param.name:
            return True
        if _mentions(value, param.name):
            return False
        self._bound[param.name] = value
        return True

    def join(self, first: Type, second: Type) -> Type | None:
        """The more general of two types; None when neither takes the other."""
        if self.accepts([first], [second]):
            resolved = self.resolve(first)
            return self.resolve(second) if resolved.kind == "null" else resolved
        return None


_NULLABLE = ("null", "object", "opaque", "timestamp", "duration", "optional")


def _renamed(one: Type, mark: str) -> Type:
    if one.kind == "param":
        return Type("param", one.name + mark)
    if not one.params:
        return one
    return Type(one.kind, one.name, tuple(_renamed(each, mark) for each in one.params))


def _mentions(one: Type, name: str) -> bool:
    return (one.kind == "param" and one.name == name) or any(_mentions(each, name) for each in one.params)
