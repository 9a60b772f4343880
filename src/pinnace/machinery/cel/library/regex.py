"""Regular expressions: `matches`, and Kubernetes' `find` and `findAll`, by RE2 in time linear in the string."""

from __future__ import annotations

from pinnace.machinery import regexp
from pinnace.machinery.cel.functions import Functions
from pinnace.machinery.cel.values import CelError
from pinnace.machinery.regexp import RegexpError

function = Functions()


def matches(text: str, pattern: str) -> bool:
    """Whether `pattern` is found anywhere in `text`. Raises CelError for what is no pattern."""
    try:
        return regexp.matches(pattern, text)
    except RegexpError as error:
        raise CelError(str(error)) from None


@function("(string).find(string): string")
def _find(text: str, pattern: str) -> str:
    found = _find_all(text, pattern)
    return found[0] if found else ""


@function("(string).findAll(string): list(string)")
def _find_all(text: str, pattern: str) -> list[str]:
    try:
        return regexp.find_all(pattern, text)
    except RegexpError as error:
        raise CelError(str(error)) from None


@function("(string).findAll(string, int): list(string)")
def _find_some(text: str, pattern: str, limit: int) -> list[str]:
    found = _find_all(text, pattern)
    return found if limit < 0 else found[:limit]
