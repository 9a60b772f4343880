"""How a section of kube-apiserver's flags is put together: the options of one subject, given as one decorator.

`--help` shows them in the order in which they are listed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def section(*options: Decorator) -> Decorator:
    """All of `options` at once, in their order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate
