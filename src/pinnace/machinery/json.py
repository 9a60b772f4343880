"""Reading and writing JSON for the API: `orjson`, with the words of Go's decoder for what is not JSON.

`orjson` decides what is JSON; only a body it refuses is scanned again, byte by byte, to say what Go's scanner says of
it. RFC 8259 is the grammar; the messages are those of Go's `encoding/json`.

    obj = json.loads(body)                    # JsonError: invalid character 'x' looking for beginning of value
    warnings = json.duplicates(body, obj)     # ['duplicate field "spec.replicas"'], nearly free where there are none
"""

from __future__ import annotations

import json as stdlib
import re
from typing import Any

import orjson

from pinnace.machinery.errors import ApiError, bad_request
from pinnace.machinery.meta import Obj

_SAFE_DEPTH = 250  # with fewer opening brackets no document is too deep
_SHOWN = 30  # bytes of a body that an error quotes


class JsonError(ValueError):
    """The bytes are not JSON; the message is that of Go's decoder."""


def loads(body: bytes | str) -> Any:
    """The document, nested no deeper than can be written again (254 levels); raises JsonError."""
    text = body.encode(errors="surrogatepass") if isinstance(body, str) else body
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as problem:
        document = _read_leniently(text, problem)
    if text.count(b"{") + text.count(b"[") > _SAFE_DEPTH:
        try:
            orjson.dumps(document)
        except TypeError:
            raise JsonError("exceeded max depth") from None
    return document


def _read_leniently(text: bytes, refusal: orjson.JSONDecodeError) -> Any:
    """What Go takes though orjson is too strict for it: bad UTF-8 and lone surrogates become U+FFFD."""
    complaint = syntax_error(text)
    if complaint:
        raise JsonError(complaint)
    try:
        return _clean(stdlib.loads(text.decode(errors="replace")))
    except RecursionError:
        raise JsonError("exceeded max depth") from None
    except ValueError:
        raise JsonError(str(refusal)) from None


def _clean(value: Any) -> Any:
    """Replace lone surrogates and numbers beyond 64 bits, which no encoder takes."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value)
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value


def dumps(value: Any) -> bytes:
    """Compact JSON in the order of the dicts."""
    return orjson.dumps(value)


def canonical(value: Any) -> bytes:
    """Compact JSON with sorted keys: equal values give equal bytes."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def load_object(body: bytes, kind: str) -> Obj:
    """The object in a request's body, its `apiVersion` and `kind` being text where present.

    Raises ApiError 400 in the words of the server's decoder; `kind` is what the request should carry.
    """
    try:
        document = loads(body)
    except JsonError as problem:
        raise unrecognized(kind, f"couldn't get version/kind; json parse error: {problem}", body) from None
    if isinstance(document, dict):
        for name in ("apiVersion", "kind"):
            value = document.get(name)
            if value is not None and not isinstance(value, str):
                what = f"json: cannot unmarshal {go_kind(value)} into Go struct field .{name} of type string"
                raise unrecognized(kind, f"couldn't get version/kind; json parse error: {what}", body)
        return document
    shape = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
    what = f"json: cannot unmarshal {go_kind(document)} into Go value of type {shape}"
    raise unrecognized(kind, f"couldn't get version/kind; json parse error: {what}", body)


def unrecognized(kind: str, why: str, body: bytes) -> ApiError:
    """The body is not a document at all, so it cannot be named but by its first bytes."""
    if not body:
        shown = "<empty>"
    else:
        start = body[:_SHOWN]
        shown = start.decode(errors="replace") if body.startswith(b"{") else start.hex()
        shown += " ..." if len(body) > _SHOWN else ""
    return bad_request(f"the object provided is unrecognized (must be of type {kind}): {why} ({shown})")


def go_kind(value: Any) -> str:
    """What Go's decoder calls the type of a JSON value."""
    if isinstance(value, bool):
        return "bool"
    return {str: "string", list: "array", dict: "object", type(None): "null"}.get(type(value), "number")


# Duplicate fields.


def duplicates(body: bytes, document: Any) -> list[str]:
    """`duplicate field "spec.replicas"` for each field that occurs twice in one object of the body.

    `document` is what `loads` made of `body`. Where writing it again gives as many keys as were read, there can be no
    duplicate, and nothing is parsed twice. (A colon that follows its key after white space hides from this test, and
    so at worst hides a warning.)
    """
    if body.count(b'":') == orjson.dumps(document).count(b'":') and b"\\u0022" not in body:
        return []
    found: list[tuple[int, str]] = []  # (id of the object, field)
    kept: list[dict[str, Any]] = []  # so that ids stay unique

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) != len(pairs):
            kept.append(built)
            names = [name for name, _ in pairs]
            found.extend((id(built), name) for name in built if names.count(name) > 1)
        return built

    tree = stdlib.loads(body, object_pairs_hook=build)
    if not found:
        return []
    paths: dict[int, str] = {}
    _locate(tree, "", {number for number, _ in found}, paths)
    placed = [(paths[number], name) for number, name in found if number in paths]
    return [f'duplicate field "{path}.{name}"' if path else f'duplicate field "{name}"' for path, name in placed]


def _locate(value: Any, path: str, wanted: set[int], paths: dict[int, str]) -> None:
    if isinstance(value, dict):
        if id(value) in wanted:
            paths[id(value)] = path
        for name, item in value.items():
            _locate(item, f"{path}.{name}" if path else name, wanted, paths)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _locate(item, f"{path}[{index}]", wanted, paths)


# What Go's scanner says of bytes that are not JSON.

_SPACE = re.compile(rb"[ \t\r\n]*")
_STRING_RUN = re.compile(rb'[^"\\\x00-\x1f]*')
_DIGITS = re.compile(rb"[0-9]*")
_HEX = b"0123456789abcdefABCDEF"
_MAX_DEPTH = 10_000
_END = "unexpected end of JSON input"


class _SyntaxError(Exception):
    pass


def syntax_error(text: bytes) -> str:
    """The message for the first byte that cannot stand where it does; empty for JSON."""
    try:
        _Scanner(text).scan()
    except _SyntaxError as problem:
        return str(problem)
    return ""


class _Scanner:
    """One pass over one text, without recursion."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0

    def scan(self) -> None:
        stack: list[str] = []  # open containers: "{" or "["
        self._value(stack)
        while stack:
            self._after_value(stack)
        self._space()
        if self._at < len(self._text):
            raise self._wrong("after top-level value")

    def _space(self) -> None:
        self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # always matches

    def _peek(self) -> bytes:
        if self._at >= len(self._text):
            raise _SyntaxError(_END)
        return self._text[self._at : self._at + 1]

    def _wrong(self, where: str) -> _SyntaxError:
        return _SyntaxError(f"invalid character {quote(self._peek()[0])} {where}")

    def _value(self, stack: list[str]) -> None:
        """A value; where it opens containers, up to the end of the first value inside."""
        while self._opens(stack):
            pass

    def _opens(self, stack: list[str]) -> bool:
        """Pass a scalar, an empty container, or the opening of another, inside which a value must follow (True)."""
        self._space()
        char = self._peek()
        if char in b"{[":
            return self._open(stack, char)
        if char == b'"':
            self._string()
        elif char in b"-0123456789":
            self._number()
        elif char in b"tfn":
            self._literal({b"t": b"true", b"f": b"false", b"n": b"null"}[char])
        else:
            raise self._wrong("looking for beginning of value")
        return False

    def _open(self, stack: list[str], char: bytes) -> bool:
        if len(stack) >= _MAX_DEPTH:
            raise _SyntaxError("exceeded max depth")
        self._at += 1
        self._space()
        if self._peek() == (b"}" if char == b"{" else b"]"):
            self._at += 1
            return False
        stack.append(char.decode())
        if char == b"{":
            self._key()
        return True

    def _after_value(self, stack: list[str]) -> None:
        """A comma and the next member or item, or the end of the innermost container."""
        self._space()
        char = self._peek()
        inside = stack[-1]
        if char == (b"}" if inside == "{" else b"]"):
            self._at += 1
            stack.pop()
        elif char == b",":
            self._at += 1
            if inside == "{":
                self._space()
                self._key()
            self._value(stack)
        else:
            raise self._wrong("after object key:value pair" if inside == "{" else "after array element")

    def _key(self) -> None:
        if self._peek() != b'"':
            raise self._wrong("looking for beginning of object key string")
        self._string()
        self._space()
        if self._peek() != b":":
            raise self._wrong("after object key")
        self._at += 1

    def _string(self) -> None:
        self._at += 1
        while True:
            self._at = _STRING_RUN.match(self._text, self._at).end()  # type: ignore[union-attr]  # always matches
            char = self._peek()
            if char == b'"':
                self._at += 1
                return
            if char != b"\\":
                raise self._wrong("in string literal")
            self._at += 1
            escape = self._peek()
            if escape == b"u":
                for _ in range(4):
                    self._at += 1
                    if self._peek() not in _HEX:
                        raise self._wrong("in \\u hexadecimal character escape")
            elif escape not in b'bfnrt\\/"':
                raise self._wrong("in string escape code")
            self._at += 1

    def _number(self) -> None:
        if self._peek() == b"-":
            self._at += 1
            if self._peek() not in b"0123456789":
                raise self._wrong("in numeric literal")
        if self._peek() == b"0":
            self._at += 1
        else:
            self._digits()
        if self._text[self._at : self._at + 1] == b".":
            self._at += 1
            if self._peek() not in b"0123456789":
                raise self._wrong("after decimal point in numeric literal")
            self._digits()
        if self._text[self._at : self._at + 1] in (b"e", b"E"):
            self._at += 1
            if self._peek() in b"+-":
                self._at += 1
            if self._peek() not in b"0123456789":
                raise self._wrong("in exponent of numeric literal")
            self._digits()

    def _digits(self) -> None:
        self._at = _DIGITS.match(self._text, self._at).end()  # type: ignore[union-attr]  # always matches

    def _literal(self, word: bytes) -> None:
        for expected in word:
            if self._peek()[0] != expected:
                raise self._wrong(f"in literal {word.decode()} (expecting {quote(expected)})")
            self._at += 1


def quote(byte: int) -> str:
    """A byte as Go's scanner shows it: `'x'`, `'\\''`, `'\\n'`, `'ÿ'`."""
    if byte == 0x27:
        return r"'\''"
    named = {0x07: "a", 0x08: "b", 0x09: "t", 0x0A: "n", 0x0B: "v", 0x0C: "f", 0x0D: "r", 0x5C: "\\"}
    if byte in named:
        return f"'\\{named[byte]}'"
    if byte < 0x20 or byte == 0x7F:
        return f"'\\x{byte:02x}'"
    if 0x80 <= byte < 0xA1 or byte == 0xAD:
        return f"'\\u{byte:04x}'"
    return f"'{chr(byte)}'"
