"""The formats of strings that schemas of custom resources may ask for; every other format is not looked at.

Specified in https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation.
"""

from __future__ import annotations

import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import date, datetime
from urllib.parse import urlsplit

from pinnace.machinery import names

_UUID = re.compile(r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?([0-9a-f])[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$")
_MAC = re.compile(
    r"(?i)^(?:[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}(?:[0-9a-f]{2}\1){0,2}[0-9a-f]{2}|(?:[0-9a-f]{4}\.){2,3}[0-9a-f]{4})$"
)
_EMAIL = re.compile(r"^[^\s@<>]+@[^\s@<>]+$")
_HEX_COLOR = re.compile(r"(?i)^#?(?:[0-9a-f]{3}|[0-9a-f]{6})$")
_BYTE = r"(?:[1-9]?\d|1\d\d|2[0-4]\d|25[0-5])"
_RGB_COLOR = re.compile(rf"^rgb\(\s*{_BYTE}\s*,\s*{_BYTE}\s*,\s*{_BYTE}\s*\)$")
_SSN = re.compile(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$")
_OBJECT_ID = re.compile(r"(?i)^[0-9a-f]{24}$")
_DATE_TIME = re.compile(r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)$")
_DURATION = re.compile(
    r"^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h)(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))*$"
)
_LONG_DURATION = re.compile(
    r"^(?:\d+\s*(?:ns|nano|us|µs|micro|ms|milli|s|sec|second|m|min|minute|h|hr|hour|d|day|w|wk|week)s?\s*)+$"
)


def has_format(name: str, text: str) -> bool:
    """Whether the text is of the format; True for a format that nobody checks."""
    check = _CHECKS.get(name.replace("-", "").lower())
    return check is None or check(text)


def _uuid(version: str = "") -> Callable[[str], bool]:
    def check(text: str) -> bool:
        match = _UUID.match(text)
        return match is not None and match[1] == (version or match[1])

    return check


def _address(make: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            make(text)
        except ValueError:
            return False
        return True

    return check


def _cidr(text: str) -> bool:
    return "/" in text and _address(lambda given: ipaddress.ip_network(given, strict=False))(text)


def _uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme and (parts.netloc or parts.path)) or text.startswith("/")


def _hostname(text: str) -> bool:
    return 0 < len(text) <= 255 and all(not names.is_dns_label(part.lower()) for part in text.rstrip(".").split("."))


def _base64(text: str) -> bool:
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _date_time(text: str) -> bool:
    if not _DATE_TIME.match(text):
        return False
    return _address(lambda given: datetime.fromisoformat(given.upper().replace("Z", "+00:00")))(
        re.sub(r"(\.\d{6})\d+", r"\1", text)
    )


def _digits(text: str) -> list[int]:
    return [10 if char in "xX" else int(char) for char in text if char.isdigit() or char in "xX"]


def _isbn10(text: str) -> bool:
    digits = _digits(text)
    return len(digits) == 10 and 10 not in digits[:9] and not sum((10 - i) * d for i, d in enumerate(digits)) % 11


def _isbn13(text: str) -> bool:
    digits = _digits(text)
    return (
        len(digits) == 13 and 10 not in digits and not sum(d * (3 if i % 2 else 1) for i, d in enumerate(digits)) % 10
    )


def _credit_card(text: str) -> bool:
    if not re.fullmatch(r"[\d -]{12,25}", text):
        return False
    doubled = [digit * 2 if place % 2 else digit for place, digit in enumerate(reversed(_digits(text)))]
    return not sum(digit - 9 if digit > 9 else digit for digit in doubled) % 10


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.match(text) is not None


_CHECKS: dict[str, Callable[[str], bool]] = {
    "bsonobjectid": _matches(_OBJECT_ID),
    "byte": _base64,
    "cidr": _cidr,
    "creditcard": _credit_card,
    "date": _address(date.fromisoformat),
    "datetime": _date_time,
    "duration": lambda text: bool(_DURATION.match(text) or _LONG_DURATION.match(text)) or text == "0",
    "email": _matches(_EMAIL),
    "hexcolor": _matches(_HEX_COLOR),
    "hostname": _hostname,
    "ipv4": _address(ipaddress.IPv4Address),
    "ipv6": _address(ipaddress.IPv6Address),
    "isbn": lambda text: _isbn10(text) or _isbn13(text),
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "mac": _matches(_MAC),
    "rgbcolor": _matches(_RGB_COLOR),
    "ssn": _matches(_SSN),
    "uri": _uri,
    "uuid": _uuid(),
    "uuid3": _uuid("3"),
    "uuid4": _uuid("4"),
    "uuid5": _uuid("5"),
}
