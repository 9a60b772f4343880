"""YAML as Kubernetes reads it: YAML 1.1 with the habits of go-yaml, turned into JSON values.

PyYAML's C parser does the work; where go-yaml resolves plain words otherwise, its way is taken: `0755` and `0o755` are
octal, `1e3` is a number, `y` and `on` are booleans, dates and `12:30:45` stay text, keys become text. Anchors and merge
keys work, within a bound on how much they may repeat.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _Base
except ImportError:  # PyYAML built without libyaml
    from yaml import SafeLoader as _Base  # type: ignore[assignment]

_MAX_DEPTH = 250  # what JSON can be written of
_FAR_IN = re.compile(r"[ \t\-?:]{120}")  # every second level of a block, at least, stands one column further in
_MAX_NODES = 1_000_000  # after aliases are followed: more than any manifest, less than a billion laughs


class YamlError(ValueError):
    """The text is not YAML, or holds what JSON cannot."""


class _Loader(_Base):
    """Resolves plain words as go-yaml does."""

    strict = False

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if self.strict:
            _refuse_duplicates(node)
        self.flatten_mapping(node)
        return {_key(self.construct_object(key, deep=True)): self.construct_object(value, deep=deep)
                for key, value in node.value}  # fmt: skip


class _StrictLoader(_Loader):
    strict = True


def load_all(text: str | bytes, *, strict: bool = False) -> list[Any]:
    """Every document of a stream that is not empty; raises YamlError. `strict` refuses a key given twice."""
    try:
        return [document for document in _documents(text, strict) if document is not None]
    except yaml.YAMLError as problem:
        raise YamlError(f"error converting YAML to JSON: yaml: {_message(problem)}") from None
    except (ValueError, RecursionError) as problem:
        raise YamlError(f"error converting YAML to JSON: yaml: {problem}") from None


def load(text: str | bytes, *, strict: bool = False) -> Any:
    """The first document, or None where there is none; raises YamlError."""
    documents = load_all(text, strict=strict)
    return documents[0] if documents else None


def dump(value: Any) -> str:
    """YAML text for people, keys in the order of the dicts, that `load` reads back to the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=10**6)


def dump_all(values: list[Any]) -> str:
    """Several documents, divided by `---`."""
    return "---\n".join(dump(value) for value in values)


def _documents(data: str | bytes, strict: bool) -> Iterator[Any]:
    text = _text(data)
    _refuse_depth(text)
    loader = (_StrictLoader if strict else _Loader)(text)
    try:
        while loader.check_data():  # type: ignore[no-untyped-call]  # of libyaml's parser
            document = loader.get_data()
            _count(document, [_MAX_NODES])
            yield document
    finally:
        loader.dispose()


def _text(data: str | bytes) -> str:
    """The characters of a stream: UTF-8, or UTF-16 where a byte order mark says so."""
    if isinstance(data, bytes):
        data = data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8")
    return data.removeprefix("\ufeff")


def _refuse_depth(text: str) -> None:
    """Raise ValueError for what is nested too deep: libyaml's composer would follow it until the stack is gone."""
    if text.count("[") + text.count("{") < _MAX_DEPTH and not _FAR_IN.search(text):
        return  # too few brackets, and no line starts far enough to the right
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                raise ValueError("exceeded max depth")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _count(value: Any, left: list[int]) -> None:
    left[0] -= 1
    if left[0] < 0:
        raise ValueError("document contains excessive aliasing")
    if isinstance(value, dict):
        for item in value.values():
            _count(item, left)
    elif isinstance(value, list):
        for item in value:
            _count(item, left)


def _message(problem: yaml.YAMLError) -> str:
    mark = getattr(problem, "problem_mark", None)
    what = getattr(problem, "problem", None) or str(problem).splitlines()[0]
    return f"line {mark.line + 1}: {what}" if mark else what


def _refuse_duplicates(node: yaml.MappingNode) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in seen:
                line = key.start_mark.line + 1
                raise ValueError(f'unmarshal errors:\n  line {line}: key "{key.value}" already set in map')
            seen[key.value] = key.start_mark.line


def _key(key: Any) -> str:
    """A key as sigs.k8s.io/yaml makes it text."""
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int | float):
        return str(key)
    if key is None:
        return "null"
    raise ValueError(f"unsupported map key of type: {type(key).__name__}")


# Plain words.

_BOOL = re.compile("y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF")
_INT = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]*|[1-9][0-9_]*|0x[0-9a-fA-F_]+)")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_NULL = re.compile("~|null|Null|NULL|")
_MERGE = re.compile("<<")


def _construct_bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return str(loader.construct_scalar(node)).lower() in ("y", "yes", "true", "on")


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "").lower()
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    if digits.startswith(("0x", "0b", "0o")):
        return sign * int(digits, 0)
    return sign * int(digits or "0", 8 if digits.startswith("0") and len(digits) > 1 else 10)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float | int:
    text = str(loader.construct_scalar(node)).replace("_", "").lower()
    if text.endswith(("inf", "nan")):
        raise ValueError(f"json: unsupported value: {text.lstrip('+').replace('.', '').replace('inf', 'Inf')}")
    number = float(text)
    # JSON has one kind of number: what is whole is an integer again after kubectl's way through JSON.
    return int(number) if number.is_integer() and abs(number) < 1e21 else number


def _construct_binary(loader: _Loader, node: yaml.ScalarNode) -> str:
    try:
        return base64.b64decode(str(loader.construct_scalar(node))).decode(errors="replace")
    except ValueError:
        raise ValueError("!!binary value contains invalid base64 data") from None


def _construct_text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_RESOLVERS: tuple[tuple[str, re.Pattern[str], list[str | None]], ...] = (
    ("bool", _BOOL, list("yYnNtTfFoO")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+0123456789.")),
    ("merge", _MERGE, ["<"]),
    ("null", _NULL, ["~", "n", "N", None, ""]),
)
_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _firsts in _RESOLVERS:
    # PyYAML matches from the start only, so the end is part of the pattern.
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern.pattern})$"), _firsts)
_Loader.add_constructor("tag:yaml.org,2002:bool", _construct_bool)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)
_Loader.add_constructor("tag:yaml.org,2002:binary", _construct_binary)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _construct_text)
_StrictLoader.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
_StrictLoader.yaml_constructors = _Loader.yaml_constructors


_UNPRINTABLE = re.compile(r"[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


class _Dumper(yaml.SafeDumper):
    """Writes text plainly only where `_Loader` reads text back."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # PyYAML names it
        return True


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = (
        "|"
        if "\n" in value and not re.search(r"[ \t]+\n|\A\s|[^\n\t\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]", value)
        else None
    )
    special = _BOOL.fullmatch(value) or _INT.fullmatch(value) or _FLOAT.fullmatch(value) or _NULL.fullmatch(value)
    if special or _UNPRINTABLE.search(value):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _represent_text)
