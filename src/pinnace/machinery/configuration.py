"""Configuration files of servers: read strictly, so that a word written wrongly is an error and not a default.

A file is YAML or JSON with `apiVersion` and `kind`. A shape tells what it may hold: a dict of fields, a list of one
shape, or the type of a value. https://kubernetes.io/docs/reference/config-api/.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinnace.machinery.errors import Cause
from pinnace.machinery.meta import Obj

Shape = Any
"""`{"rules": [{"level": str}]}`; `dict` is a map of texts."""

_WORDS: dict[Any, tuple[type, str]] = {
    str: (str, "string"),
    bool: (bool, "bool"),
    int: (int, "int32"),
    dict: (dict, "map[string]string"),
}


class ConfigurationError(ValueError):
    """A file that a server cannot start with; the message is for its administrator."""


def parse_configuration(text: str, kinds: Mapping[tuple[str, str], Shape]) -> Obj:
    """The document in `text`, of one of `kinds`. Raises ConfigurationError, "failed decoding: …"."""
    from pinnace.machinery import yaml

    try:
        document = yaml.load(text, strict=True)
    except yaml.YamlError as error:
        why = f"couldn't get version/kind; json parse error: {error}"
        raise ConfigurationError(f"failed decoding: {why}") from None
    if not isinstance(document, dict):
        raise ConfigurationError("failed decoding: Object 'Kind' is missing in the file")
    for field, label in (("kind", "Kind"), ("apiVersion", "apiVersion")):
        if not document.get(field) or not isinstance(document[field], str):
            raise ConfigurationError(f"failed decoding: Object '{label}' is missing in '{text.strip()[:200]}'")
    shape = kinds.get((document["apiVersion"], document["kind"]))
    if shape is None:
        what = f'no kind "{document["kind"]}" is registered for version "{document["apiVersion"]}"'
        raise ConfigurationError(f"failed decoding: {what} in scheme")
    try:
        check_shape(document, {"apiVersion": str, "kind": str, "metadata": Any, **shape})
    except ConfigurationError as error:
        raise ConfigurationError(f"failed decoding: {error}") from None
    return document


def check_shape(document: Obj, shape: Shape) -> None:
    """Raises ConfigurationError for fields that the shape does not have, and for values of another type."""
    unknown: list[str] = []
    _check(document, shape, "", unknown)
    if unknown:
        raise ConfigurationError("strict decoding error: " + ", ".join(unknown))


def _check(value: Any, shape: Shape, path: str, unknown: list[str]) -> None:
    """Note fields that the shape does not have. Raises ConfigurationError for a value of another type."""
    if value is None or shape is Any:
        return
    if isinstance(shape, list):
        _need(isinstance(value, list), value, "array", path)
        for index, item in enumerate(value):
            _check(item, shape[0], f"{path}[{index}]", unknown)
    elif isinstance(shape, dict):
        _need(isinstance(value, dict), value, "object", path)
        for name, field in value.items():
            where = f"{path}.{name}" if path else str(name)
            if name in shape:
                _check(field, shape[name], where, unknown)
            else:
                unknown.append(f'unknown field "{where}"')
    else:
        wanted, word = _WORDS[shape]
        _need(isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)), value, word, path)


def _need(fits: bool, value: Any, wanted: str, path: str) -> None:
    if not fits:
        kinds = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
        raise ConfigurationError(
            f"json: cannot unmarshal {kinds.get(type(value), 'value')} into Go struct field {path} of type {wanted}"
        )


def refuse(causes: list[Cause]) -> None:
    """Raise ConfigurationError for what is wrong with a document, if anything is; several make a list."""
    texts = list(dict.fromkeys(f"{cause.field}: {cause.message}" for cause in causes))
    if texts:
        raise ConfigurationError(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
