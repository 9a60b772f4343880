"""The formats of names, label keys and label values, and what the API says of one that breaks its format.

Every function gives a list of messages, empty for a good value. The formats are specified in
https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ and
https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Any

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_QUALIFIED})?"
_C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_WILDCARD = rf"\*\.{_SUBDOMAIN}"
_PERCENT = "[0-9]+%"

_is_label = re.compile(_LABEL).fullmatch
_is_subdomain = re.compile(_SUBDOMAIN).fullmatch
_is_label_1035 = re.compile(_LABEL_1035).fullmatch
_is_qualified = re.compile(_QUALIFIED).fullmatch
_is_label_value = re.compile(_LABEL_VALUE).fullmatch
_is_c_identifier = re.compile(_C_IDENTIFIER).fullmatch
_is_env_name = re.compile(r"[ -<>-~]+").fullmatch
_is_config_key = re.compile(_CONFIG_KEY).fullmatch
_is_wildcard = re.compile(_WILDCARD).fullmatch
_is_percent = re.compile(_PERCENT).fullmatch


def _no_match(what: str, pattern: str, *examples: str) -> str:
    if not examples:
        return f"{what} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{what} (e.g. {shown}regex used for validation is '{pattern}')"


_LABEL_MESSAGE = _no_match(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character",
    _LABEL,
    "my-name",
    "123-abc",
)
_SUBDOMAIN_MESSAGE = _no_match(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character",
    _SUBDOMAIN,
    "example.com",
)
_LABEL_1035_MESSAGE = _no_match(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
    "start with an alphabetic character, and end with an alphanumeric character",
    _LABEL_1035,
    "my-name",
    "abc-123",
)
_QUALIFIED_MESSAGE = _no_match(
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    _QUALIFIED,
    "MyName",
    "my.name",
    "123-abc",
)
_LABEL_VALUE_MESSAGE = _no_match(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character",
    _LABEL_VALUE,
    "MyValue",
    "my_value",
    "12345",
)
_WILDCARD_MESSAGE = _no_match(
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
    _WILDCARD,
    "*.example.com",
)
_CONFIG_KEY_MESSAGE = _no_match(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _CONFIG_KEY,
    "key.name",
    "KEY_NAME",
    "key-name",
)
_C_IDENTIFIER_MESSAGE = _no_match(
    "a valid C identifier must start with alphabetic character or '_', "
    "followed by a string of alphanumeric characters or '_'",
    _C_IDENTIFIER,
    "my_name",
    "MY_NAME",
    "MyName",
)


def longer_than(limit: int) -> str:
    return f"must be no more than {limit} characters"


def not_between(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


EMPTY = "must be non-empty"
NOT_NEGATIVE = "must be greater than or equal to 0"
NOT_POSITIVE = "must be greater than zero"


def dns_label(text: str) -> list[str]:
    """RFC 1123 label: 63 of a-z, 0-9 and inner dashes."""
    if _is_label(text) and len(text) <= 63:
        return []
    return _reasons(text, 63, bool(_is_label(text)), _LABEL_MESSAGE)


def dns_label_1035(text: str) -> list[str]:
    """RFC 1035 label: as `dns_label`, but it starts with a letter."""
    return _reasons(text, 63, bool(_is_label_1035(text)), _LABEL_1035_MESSAGE)


def dns_subdomain(text: str) -> list[str]:
    """RFC 1123 subdomain: labels joined by dots, 253 in all."""
    if _is_subdomain(text) and len(text) <= 253:
        return []
    return _reasons(text, 253, bool(_is_subdomain(text)), _SUBDOMAIN_MESSAGE)


def wildcard_subdomain(text: str) -> list[str]:
    """A subdomain after `*.`."""
    return _reasons(text, 253, bool(_is_wildcard(text)), _WILDCARD_MESSAGE)


def fully_qualified_domain(text: str) -> list[str]:
    """A subdomain of two labels at least."""
    if not text:
        return [EMPTY]
    bad = dns_subdomain(text)
    if not bad and "." not in text:
        bad = ["should be a domain with at least two segments separated by dots"]
    return bad


def _reasons(text: str, limit: int, matches: bool, message: str) -> list[str]:
    reasons = [longer_than(limit)] if len(text) > limit else []
    if not matches:
        reasons.append(message)
    return reasons


@lru_cache(maxsize=4096)
def _qualified_reasons(text: str) -> tuple[str, ...]:
    prefix, slash, name = text.rpartition("/")
    reasons: list[str] = []
    if "/" in prefix:
        optional_prefix = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return (f"a qualified name {_QUALIFIED_MESSAGE} {optional_prefix}",)
    if slash:
        if not prefix:
            reasons.append(f"prefix part {EMPTY}")
        else:
            reasons += [f"prefix part {reason}" for reason in dns_subdomain(prefix)]
    if not name:
        reasons.append(f"name part {EMPTY}")
    elif len(name) > 63:
        reasons.append(f"name part {longer_than(63)}")
    if not _is_qualified(name):
        reasons.append(f"name part {_QUALIFIED_MESSAGE}")
    return tuple(reasons)


def qualified_name(text: str) -> list[str]:
    """A label or annotation key: `name`, or `subdomain/name`."""
    return list(_qualified_reasons(text))


def label_value(text: str) -> list[str]:
    """What a label may hold: 63 characters at most, or none."""
    if len(text) <= 63 and _is_label_value(text):
        return []
    return _reasons(text, 63, bool(_is_label_value(text)), _LABEL_VALUE_MESSAGE)


def config_key(text: str) -> list[str]:
    """A key of a ConfigMap or Secret."""
    if len(text) <= 253 and _is_config_key(text) and not text.startswith("."):
        return []
    reasons = _reasons(text, 253, bool(_is_config_key(text)), _CONFIG_KEY_MESSAGE)
    return reasons + _like_a_directory(text)


def _like_a_directory(text: str) -> list[str]:
    if text == ".":
        return ["must not be '.'"]
    if text == "..":
        return ["must not be '..'"]
    if text.startswith(".."):
        return ["must not start with '..'"]
    return []


def env_name(text: str) -> list[str]:
    """The name of an environment variable: printable ASCII but `=`."""
    if _is_env_name(text):
        return []
    return [
        "a valid environment variable name must consist only of printable ASCII characters other than '='",
    ]


def c_identifier(text: str) -> list[str]:
    return [] if _is_c_identifier(text) else [_C_IDENTIFIER_MESSAGE]


def port_number(port: Any) -> list[str]:
    if isinstance(port, int) and 1 <= port <= 65535:
        return []
    return [not_between(1, 65535)]


def port_name(text: str) -> list[str]:
    """IANA service name: 15 of a-z, 0-9 and single inner dashes, with a letter among them."""
    reasons = []
    if len(text) > 15:
        reasons.append(longer_than(15))
    if not re.fullmatch("[-a-z0-9]+", text):
        reasons.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", text):
        reasons.append("must contain at least one letter (a-z)")
    if "--" in text:
        reasons.append("must not contain consecutive hyphens")
    if text and (text[0] == "-" or text[-1] == "-"):
        reasons.append("must not begin or end with a hyphen")
    return reasons


def path_segment(text: str) -> list[str]:
    """A name that may be anything that is one segment of a URL path."""
    if text == ".":
        return ["may not be '.'"]
    if text == "..":
        return ["may not be '..'"]
    return [f"may not contain '{illegal}'" for illegal in ("/", "%") if illegal in text]


def percent(text: str) -> list[str]:
    if _is_percent(text):
        return []
    return [
        _no_match("a valid percent string must be a numeric string followed by an ending '%'", _PERCENT, "1%", "93%")
    ]


def ip_address(text: str) -> list[str]:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    return []


def cidr(text: str) -> list[str]:
    try:
        if "/" not in text:
            raise ValueError(text)
        ipaddress.ip_interface(text)
    except ValueError:
        return ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    return []


def _masked(text: str, prefix: bool) -> str:
    """A prefix may end in a dash, since more will follow it."""
    return text[:-2] + "a" if prefix and len(text) > 1 and text.endswith("-") else text


def name_is_subdomain(text: str, prefix: bool) -> list[str]:
    return dns_subdomain(_masked(text, prefix))


def name_is_label(text: str, prefix: bool) -> list[str]:
    return dns_label(_masked(text, prefix))


def name_is_label_1035(text: str, prefix: bool) -> list[str]:
    return dns_label_1035(_masked(text, prefix))


def name_is_path_segment(text: str, prefix: bool) -> list[str]:  # noqa: ARG001 (a NameRule's shape)
    return path_segment(text)
