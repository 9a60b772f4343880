"""Regular expressions as Go writes them: RE2's syntax, and RE2's promise to need time linear in the text.

All of it is RE2's own work, which comes with cel-cpp: patterns and texts are clients', and Python's engine can be made
to backtrack without end. cel-cpp says whether a text matches, and puts something in the place of what was found; so
what was found is known by marks around it. The syntax is https://github.com/google/re2/wiki/Syntax.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from itertools import islice
from typing import Any

_PRIVATE = range(0xE000, 0xF900)  # characters that nobody has given a meaning


class RegexpError(ValueError):
    """The text is no regular expression; the message is Go's."""


def matches(pattern: str, text: str) -> bool:
    """Whether the pattern is found anywhere in the text. Raises RegexpError for what is no pattern."""
    if "\0" in text or "\0" in pattern:
        found = _encoded("_text.matches(_pattern)").eval(data={"text": _base64(text), "pattern": _base64(pattern)})
    else:
        found = _matching().eval(data={"text": text, "pattern": pattern})
    value = found.value()
    if isinstance(value, bool):
        return value
    raise _error(value)


@lru_cache(maxsize=1024)
def check_regexp(pattern: str) -> None:
    """Raises RegexpError for what is no pattern."""
    matches(pattern, "")


def find_all(pattern: str, text: str) -> list[str]:
    """What the pattern finds in the text, from the left, nothing twice. Raises RegexpError for what is no pattern."""
    check_regexp(pattern)
    begin, end = islice((chr(code) for code in _PRIVATE if chr(code) not in text), 2)
    data = {"text": text, "pattern": pattern, "mark": f"{begin}\\0{end}"}
    if "\0" in text or "\0" in pattern:
        program = _encoded("base64.encode(bytes(regex.replace(_text, _pattern, _mark)))")
        found = program.eval(data={name: _base64(value) for name, value in data.items()}).value()
        marked = base64.b64decode(found).decode()
    else:
        marked = _marking().eval(data=data).value()
    return [piece.partition(end)[0] for piece in marked.split(begin)[1:]]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _error(found: object) -> RegexpError:
    why = str(found).partition("invalid regular expression: ")[2] or str(found)
    words, _, what = why.partition(": ")
    return RegexpError(f"error parsing regexp: {_GO_WORDS.get(words, words)}: `{what}`")


# RE2's entrances in cel-cpp's binding. Each costs some hundredths of a second the first time.


def _compiled(expression: str, *extensions: str) -> Any:
    from cel_expr_python import cel

    named = "".join(f"\n- name: {name}" for name in extensions)
    config = cel.NewEnvConfigFromYaml(f"name: regexp\nextensions:{named}\n") if extensions else None
    variables = dict.fromkeys(("text", "pattern", "mark"), cel.Type.STRING)
    return cel.NewEnv(config=config, variables=variables).compile(expression)


@lru_cache(maxsize=1)
def _matching() -> Any:
    return _compiled("text.matches(pattern)")


@lru_cache(maxsize=1)
def _marking() -> Any:
    return _compiled("regex.replace(text, pattern, mark)", "optional", "regex")


@lru_cache(maxsize=2)
def _encoded(expression: str) -> Any:
    """The binding ends texts at a zero: where there is one, they are handed over as base64."""
    for name in ("text", "pattern", "mark"):
        expression = expression.replace(f"_{name}", f"string(base64.decode({name}))")
    return _compiled(expression, "optional", "regex", "encoders")


_GO_WORDS = {  # by RE2's
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid repetition size": "invalid repeat count",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
    "trailing \\": "trailing backslash at end of expression",
}
