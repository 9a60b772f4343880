"""Text to tree: cel-cpp's parser, and the two-variable macros it does not know.

Imported late and only where an expression is compiled: the library's shared object is 14 MB. Syntax errors are ANTLR's,
which cel-go prints in the same words.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pinnace.machinery.cel import ast
from pinnace.machinery.cel.macros import expand


class CompileError(ValueError):
    """An expression that does not parse or check; `str` is the text after `compilation failed: `."""


def render(text: str, problems: list[tuple[int, str]]) -> str:
    """Problems `(offset, message)` as cel-go shows them, each with its line and a caret below."""
    shown = []
    for at, message in sorted(set(problems)):
        before = text[:at]
        line = before.count("\n")
        column = at - (before.rfind("\n") + 1)
        source = text.split("\n")[line]
        shown.append(f"ERROR: <input>:{line + 1}:{column + 1}: {message}\n | {source}\n | {'.' * column}^")
    return "\n".join(shown)


@lru_cache(maxsize=1)
def _parser() -> Any:
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_bindings, ext_math, ext_optional

    extensions = [ext_bindings.ExtBindings(), ext_math.ExtMath(), ext_optional.ExtOptional()]
    return cel.NewEnv(extensions=extensions)


def parse(text: str) -> ast.Node:
    """The tree, macros expanded. Raises CompileError."""
    try:
        compiled = _parser().compile(text, disable_check=True)
    except RuntimeError as error:
        raise CompileError(_told(str(error))) from None
    except ImportError as error:  # no wheel for this machine: musl, or another architecture
        raise CompileError(f"this server cannot read CEL: {error}") from None
    return expand(ast.read(compiled.serialize()), text)


def _told(message: str) -> str:
    """The errors alone, without the status code that cel-cpp puts around them."""
    code, found, rest = message.partition(": ")
    if found and code.isupper():
        message = rest.removesuffix(f" [{code}]")
    return message
