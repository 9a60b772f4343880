"""Secrets: bytes by key, of a type that says which keys there must be.

Specified in https://kubernetes.io/docs/concepts/configuration/secret/.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

from pinnace.apis.checks import every, needed, unchanged
from pinnace.apis.core.config_map import SIZE_LIMIT, decoded_size, validate_frozen
from pinnace.apis.fields import AGE, NAME, age, column, name, selectable
from pinnace.apis.kind import Rules
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, invalid_value, required, too_long
from pinnace.machinery.meta import Obj, annotations_of

_NEEDED = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_ACCOUNT = "kubernetes.io/service-account.name"


def default(secret: Obj) -> None:
    """`stringData` is only ever written: it goes into `data`, over what is there."""
    if not secret.get("type"):
        secret["type"] = "Opaque"
    texts = secret.pop("stringData", None)
    if texts:
        data = secret.get("data")
        if data is None:
            data = secret["data"] = {}
        for key, text in texts.items():
            data[key] = base64.b64encode(text.encode()).decode()


def validate(secret: Obj) -> list[Cause]:
    errors: list[Cause] = []
    data = secret.get("data") or {}
    size = 0
    for key, value in data.items():
        errors += every(f"data[{key}]", key, names.is_config_key(key))
        size += decoded_size(value)
    if size > SIZE_LIMIT:
        errors.append(too_long("data", SIZE_LIMIT))
    return errors + _by_type(secret, data)


def _by_type(secret: Obj, data: Obj) -> list[Cause]:
    kind = secret.get("type")
    if kind == "kubernetes.io/service-account-token":
        return needed(f"metadata.annotations[{_ACCOUNT}]", annotations_of(secret).get(_ACCOUNT))
    if kind == "kubernetes.io/basic-auth":
        if "username" in data or "password" in data:
            return []
        return [required("data[username]"), required("data[password]")]
    errors = [required(f"data[{key}]") for key in _NEEDED.get(str(kind), ()) if key not in data]
    if not errors and kind in ("kubernetes.io/dockercfg", "kubernetes.io/dockerconfigjson"):
        key = _NEEDED[str(kind)][0]
        errors += _is_json(f"data[{key}]", data[key])
    return errors


def _is_json(path: str, encoded: str) -> list[Cause]:
    try:
        json.loads(base64.b64decode(encoded))
    except ValueError as wrong:
        return [invalid_value(path, "<secret contents redacted>", str(wrong))]
    return []


def prepare(secret: Obj, old: Obj | None) -> None:
    """The type of an old secret is kept where an update leaves it out."""
    if old is not None and not secret.get("type"):
        secret["type"] = old.get("type")


def validate_update(new: Obj, old: Obj) -> list[Cause]:
    return unchanged("type", new.get("type"), old.get("type")) + validate_frozen(new, old, "data")


def row(secret: Obj, now: datetime) -> list[Any]:
    return [name(secret), secret.get("type") or "", len(secret.get("data") or {}), age(secret, now)]


SECRET = Rules(
    columns=(NAME, column("Type"), column("Data"), AGE),
    row=row,
    default=default,
    validate=validate,
    validate_update=validate_update,
    prepare=prepare,
    selectable_fields=selectable("type"),
)
