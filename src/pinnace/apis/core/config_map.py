"""Config maps: text and bytes by key, a megabyte at most.

Specified in https://kubernetes.io/docs/concepts/configuration/configmap/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import every
from pinnace.apis.fields import AGE, NAME, age, column, name
from pinnace.apis.kind import Rules
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value, too_long
from pinnace.machinery.meta import Obj

SIZE_LIMIT = 1 << 20  # bytes of all values
_FROZEN = "field is immutable when `immutable` is set"


def validate(config_map: Obj) -> list[Cause]:
    errors: list[Cause] = []
    data, binary = config_map.get("data") or {}, config_map.get("binaryData") or {}
    size = 0
    for key, value in data.items():
        errors += every(f"data[{key}]", key, names.is_config_key(key))
        if key in binary:
            errors.append(invalid_value(f"data[{key}]", key, "duplicate of key present in binaryData"))
        size += len(value) if value.isascii() else len(value.encode())
    for key, value in binary.items():
        errors += every(f"binaryData[{key}]", key, names.is_config_key(key))
        size += decoded_size(value)
    if size > SIZE_LIMIT:
        errors.append(too_long("[]", SIZE_LIMIT))
    return errors


def decoded_size(base64: str) -> int:
    """How many bytes a base64 text stands for."""
    return len(base64) // 4 * 3 - base64.count("=", -2) if base64 else 0


def validate_frozen(new: Obj, old: Obj, *keys: str) -> list[Cause]:
    """Once `immutable` is true it stays, and so does what it protects."""
    if not old.get("immutable"):
        return []
    errors = [] if new.get("immutable") else [field_forbidden("immutable", _FROZEN)]
    return errors + [field_forbidden(key, _FROZEN) for key in keys if (new.get(key) or {}) != (old.get(key) or {})]


def validate_update(new: Obj, old: Obj) -> list[Cause]:
    return validate_frozen(new, old, "data", "binaryData")


def row(config_map: Obj, now: datetime) -> list[Any]:
    count = len(config_map.get("data") or {}) + len(config_map.get("binaryData") or {})
    return [name(config_map), count, age(config_map, now)]


CONFIG_MAP = Rules(
    columns=(NAME, column("Data"), AGE),
    row=row,
    validate=validate,
    validate_update=validate_update,
)
