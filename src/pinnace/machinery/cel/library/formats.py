"""Kubernetes' named formats: `format.dns1123Label().validate(name)` gives what is wrong, if anything is.

https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-format-library.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from pinnace.machinery import names
from pinnace.machinery.cel.functions import Functions
from pinnace.machinery.cel.library.urls import read_url
from pinnace.machinery.cel.types import Type, opaque
from pinnace.machinery.cel.values import NONE, CelError, Maybe, Opaque, read_date, read_timestamp

function = Functions(since=31)
Check = Callable[[str], list[str]]


@dataclass(frozen=True)
class NamedFormat(Opaque):
    name: str
    check: Check
    cel_type: ClassVar[Type] = opaque("kubernetes.NamedFormat")


def _fails(read: Callable[[str], object], problem: str) -> Check:
    def check(text: str) -> list[str]:
        try:
            read(text)
        except (ValueError, CelError):
            return [problem]
        return []

    return check


def _uuid(text: str) -> object:
    if not re.fullmatch(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}", text):
        raise ValueError("no UUID")
    return uuid.UUID(text)


def _byte(text: str) -> object:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _day(text: str) -> object:
    if "T" in text:
        raise ValueError("a moment")
    return read_date(text)


def _prefix(check: Check) -> Check:
    """A name's beginning may end where a name may not."""
    return lambda text: check(text[:-1] + "a" if text.endswith("-") else text)


_FORMATS: dict[str, Check] = {
    "dns1123Label": names.is_dns_label,
    "dns1123LabelPrefix": _prefix(names.is_dns_label),
    "dns1123Subdomain": names.is_dns_subdomain,
    "dns1123SubdomainPrefix": _prefix(names.is_dns_subdomain),
    "dns1035Label": names.is_dns_1035_label,
    "dns1035LabelPrefix": _prefix(names.is_dns_1035_label),
    "qualifiedName": names.is_qualified_name,
    "labelValue": names.is_label_value,
    "uri": _fails(read_url, "invalid URI"),
    "uuid": _fails(_uuid, "does not match the UUID format"),
    "byte": _fails(_byte, "invalid base64"),
    "date": _fails(_day, "invalid date"),
    "datetime": _fails(read_timestamp, "invalid datetime"),
}
_BY_NAME = {name: NamedFormat(name, check) for name, check in _FORMATS.items()}


def _constant(name: str) -> Callable[[], NamedFormat]:
    return lambda: _BY_NAME[name]


for _name in _BY_NAME:
    function(f"format.{_name}(): kubernetes.NamedFormat")(_constant(_name))


@function("format.named(string): optional(kubernetes.NamedFormat)")
def _named(name: str) -> Maybe:
    return Maybe(True, _BY_NAME[name]) if name in _BY_NAME else NONE


@function("(kubernetes.NamedFormat).validate(string): optional(list(string))")
def _validate(one: NamedFormat, text: str) -> Maybe:
    problems = one.check(text)
    return Maybe(True, problems) if problems else NONE
