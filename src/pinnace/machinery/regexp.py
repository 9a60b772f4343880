"""Regular expressions as Go writes them: RE2's syntax, and RE2's promise to need time linear in the text.

Whether a pattern is one, and whether a text matches, is for RE2 itself to say, which comes with cel-cpp: patterns and
texts are clients', and Python's engine can be made to backtrack without end. Where it must be known what was found,
patterns that RE2 has accepted are translated for Python's engine: `$` and `\\z` mean the very end of the text, classes
may have POSIX names, `\\Q…\\E` quotes, and `\\p{…}` names Unicode classes.
The syntax is https://github.com/google/re2/wiki/Syntax.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": r"0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_PERL_IN_CLASS = {"d": "0-9", "w": r"0-9A-Za-z_", "s": r"\t\n\f\r "}
_PERL = {
    "d": "[0-9]",
    "D": "[^0-9]",
    "w": "[0-9A-Za-z_]",
    "W": "[^0-9A-Za-z_]",
    "s": r"[\t\n\f\r ]",
    "S": r"[^\t\n\f\r ]",
}
# The general categories that turn up in schemas, in what Python's engine can say.
_UNICODE = {"L": r"[^\W\d_]", "N": r"\d", "Nd": r"\d", "Lu": "[A-ZÀ-ÖØ-Þ]", "Ll": "[a-zß-öø-ÿ]"}
_TOKEN = re.compile(r"\\p\{(\^?)(\w+)\}|\\p(\w)|\\Q(.*?)(?:\\E|$)|\\(.)|\(\?P<|\[(\^?)|\$|\(\?<(\w+)>", re.DOTALL)


class RegexpError(ValueError):
    """The text is no regular expression; the message is Go's."""


@lru_cache(maxsize=1)
def _re2() -> Any:
    """RE2's one entrance in cel-cpp's binding; a hundredth of a second goes by before it is there."""
    from cel_expr_python import cel

    text = cel.Type.STRING
    return cel.NewEnv(variables={"text": text, "pattern": text}).compile("text.matches(pattern)")


def matches(pattern: str, text: str) -> bool:
    """Whether the pattern is found anywhere in the text. Raises RegexpError for what is no pattern."""
    found = _re2().eval(data={"text": text, "pattern": pattern}).value()
    if isinstance(found, bool):
        return found
    why = str(found).partition("invalid regular expression: ")[2] or str(found)
    words, _, what = why.partition(": ")
    raise RegexpError(f"error parsing regexp: {_GO_WORDS.get(words, words)}: `{what}`")


@lru_cache(maxsize=1024)
def check_regexp(pattern: str) -> None:
    """Raises RegexpError for what is no pattern."""
    matches(pattern, "")


@lru_cache(maxsize=1024)
def compile_regexp(pattern: str) -> re.Pattern[str]:
    """The expression, to be used with `search` where it must be known what was found. Raises RegexpError."""
    check_regexp(pattern)
    try:
        return re.compile(_translate(pattern), 0)
    except re.error as problem:
        raise RegexpError(f"error parsing regexp: {problem.msg}: `{pattern}`") from None


def _translate(pattern: str) -> str:
    out: list[str] = []
    position = 0
    while position < len(pattern):
        match = _TOKEN.match(pattern, position)
        if match is None:
            out.append(pattern[position])
            position += 1
            continue
        position = match.end()
        text = match[0]
        if match[2] or match[3]:
            out.append(_unicode(match[2] or match[3], bool(match[1])))
        elif text.startswith("\\Q"):
            out.append(re.escape(match[4]))
        elif match[5]:
            out.append(_escape(match[5]))
        elif text.startswith("["):
            rest, position = _class(pattern, position)
            out.append(f"[{match[6]}{rest}]")
        elif text == "$":
            out.append("$" if "(?m" in pattern else r"\Z")
        elif match[7]:
            out.append(f"(?P<{match[7]}>")
        else:
            out.append(text)
    return "".join(out)


def _escape(char: str) -> str:
    if char in _PERL:
        return _PERL[char]
    if char == "z":
        return r"\Z"
    return f"\\{char}"


def _unicode(name: str, negated: bool) -> str:
    found = _UNICODE.get(name)
    if found is None:
        raise RegexpError(f"error parsing regexp: invalid character class range: `\\p{{{name}}}`")
    return f"(?!{found})." if negated else found


def _class(pattern: str, start: int) -> tuple[str, int]:
    """The inside of a character class that begins at `start`, and where the pattern goes on."""
    out: list[str] = []
    position = start
    while position < len(pattern):
        char = pattern[position]
        if char == "]" and position > start:
            return "".join(out), position + 1
        if char == "[":
            named = re.match(r"\[:(\^?)(\w+):\]", pattern[position:])
            if named and named[2] in _POSIX and not named[1]:
                out.append(_POSIX[named[2]])
                position += named.end()
                continue
            out.append(r"\[")
        elif char == "\\" and position + 1 < len(pattern):
            position += 1
            out.append(_PERL_IN_CLASS.get(pattern[position], f"\\{pattern[position]}"))
        else:
            out.append(f"\\{char}" if char in "]&~|" else char)
        position += 1
    raise RegexpError(f"error parsing regexp: missing closing ]: `{pattern[start - 1 :]}`")


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
