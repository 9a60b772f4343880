"""Functions by signature: how the library declares them, and how one is found for a call.

`@function("(string).find(string): string")` declares a method, `@function("quantity(string): kubernetes.Quantity")` a
function. What an implementation is given has the types it declared, checked when the call was compiled or, where an
argument is dyn, when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pinnace.machinery.cel.types import Type, read_type, split_list


@dataclass(frozen=True, slots=True)
class Overload:
    """One signature of a function; the receiver of a method is its first parameter."""

    name: str
    member: bool
    params: tuple[Type, ...]
    result: Type
    impl: Callable[..., Any]
    since: int = 0  # the minor that brought it


Library = dict[tuple[str, bool], list[Overload]]  # by name and whether it is a method
_F = TypeVar("_F", bound=Callable[..., Any])


class Functions:
    """The functions of one part of the library."""

    def __init__(self, since: int = 0) -> None:
        self.library: Library = {}
        self._since = since

    def __call__(self, *signatures: str, since: int = 0) -> Callable[[_F], _F]:
        """Declare a Python function under signatures that it serves all."""

        def declare(impl: _F) -> _F:
            for text in signatures:
                self._add(text, impl, since or self._since)
            return impl

        return declare

    def _add(self, text: str, impl: Callable[..., Any], since: int) -> None:
        receiver, name, params, result = parse_signature(text)
        found = [read_type(each) for each in split_list(params)]
        if receiver:
            found.insert(0, read_type(receiver))
        overload = Overload(name, bool(receiver), tuple(found), read_type(result), impl, since)
        self.library.setdefault((name, bool(receiver)), []).append(overload)


def parse_signature(text: str) -> tuple[str, str, str, str]:
    """Receiver (may be empty), name, parameters and result of a signature."""
    receiver = ""
    if text.startswith("("):
        depth = 0
        for at, letter in enumerate(text):
            depth += (letter == "(") - (letter == ")")
            if not depth:
                receiver, text = text[1:at], text[at + 2 :]
                break
    head, _, result = text.rpartition(": ")
    name, _, params = head.partition("(")
    return receiver, name, params.removesuffix(")"), result


def merged(libraries: list[Library], minor: int) -> Library:
    """All functions that a minor has."""
    whole: Library = {}
    for library in libraries:
        for key, overloads in library.items():
            known = [one for one in overloads if one.since <= minor]
            if known:
                whole.setdefault(key, []).extend(known)
    return whole
