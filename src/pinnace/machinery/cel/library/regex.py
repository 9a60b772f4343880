"""Regular expressions: `matches`, and Kubernetes' `find` and `findAll`.

Whether a pattern is one, and whether a string matches, is for RE2 to say, which is in cel-cpp and needs time linear in
the string. What `find` finds needs Python's `re`, to which patterns are handed that RE2 has accepted: a pattern with
nested repetitions can take long there, and only those who may write policies and definitions write patterns.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pinnace.machinery import regexp
from pinnace.machinery.cel.functions import Functions
from pinnace.machinery.cel.values import CelError
from pinnace.machinery.regexp import RegexpError, compile_regexp

function = Functions()


def matches(text: str, pattern: str) -> bool:
    """Whether `pattern` is found anywhere in `text`. Raises CelError for what is no pattern."""
    try:
        return regexp.matches(pattern, text)
    except RegexpError as error:
        raise CelError(str(error)) from None


@lru_cache(maxsize=1000)
def _pattern(pattern: str) -> re.Pattern[str]:
    try:
        return compile_regexp(pattern)
    except RegexpError as error:
        raise CelError(str(error)) from None


@function("(string).find(string): string")
def _find(text: str, pattern: str) -> str:
    found = _pattern(pattern).search(text)
    return found[0] if found else ""


@function("(string).findAll(string): list(string)")
def _find_all(text: str, pattern: str) -> list[str]:
    return [found[0] for found in _pattern(pattern).finditer(text)]


@function("(string).findAll(string, int): list(string)")
def _find_some(text: str, pattern: str, limit: int) -> list[str]:
    found = _find_all(text, pattern)
    return found if limit < 0 else found[:limit]
