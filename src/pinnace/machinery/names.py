"""The rules for names, labels, annotations, ports and other short strings, with the messages that breaking them earns.

Each `is_…` function returns what is wrong with a value as a list of messages, empty for a good one, as Kubernetes' own
validation does. The rules are specified at https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ and
https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping

from pinnace.machinery.errors import Cause, invalid_value, too_long

LABEL_LENGTH = 63
SUBDOMAIN_LENGTH = 253
ANNOTATIONS_SIZE = 256 * 1024  # bytes of all keys and values together

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_DNS_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_QUALIFIED})?"
_WILDCARD = rf"\*\.{_SUBDOMAIN}"
_ENV_VAR = "[-._a-zA-Z][-._a-zA-Z0-9]*"
_RELAXED_ENV_VAR = "[ -<>-~]+"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_HTTP_HEADER = "[-A-Za-z0-9]+"
_PERCENT = "[0-9]+%"

Rule = Callable[[str], list[str]]


def _matcher(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern, re.ASCII).fullmatch


def _regex_message(message: str, pattern: str, *examples: str) -> str:
    if not examples:
        return f"{message} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{message} (e.g. {shown}regex used for validation is '{pattern}')"


def max_length(limit: int) -> str:
    return f"must be no more than {limit} bytes"


def in_range(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


_label = _matcher(_LABEL)
_LABEL_MESSAGE = _regex_message(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character",
    _LABEL,
    "my-name",
    "123-abc",
)


def is_dns_label(value: str) -> list[str]:
    """RFC 1123 label: most names of what becomes one part of a host name (namespaces, services' ports)."""
    problems = _long(value, LABEL_LENGTH)
    if not _label(value):
        problems.append("must not contain dots" if _subdomain(value) else _LABEL_MESSAGE)
    return problems


_subdomain = _matcher(_SUBDOMAIN)
_SUBDOMAIN_MESSAGE = _regex_message(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character",
    _SUBDOMAIN,
    "example.com",
)


def is_dns_subdomain(value: str) -> list[str]:
    """RFC 1123 subdomain: the names of most objects."""
    return _long(value, SUBDOMAIN_LENGTH) + ([] if _subdomain(value) else [_SUBDOMAIN_MESSAGE])


_dns_1035 = _matcher(_DNS_1035)
_DNS_1035_MESSAGE = _regex_message(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
    "start with an alphabetic character, and end with an alphanumeric character",
    _DNS_1035,
    "my-name",
    "abc-123",
)


def is_dns_1035_label(value: str) -> list[str]:
    """RFC 1035 label: the names of services before they may start with a digit."""
    return _long(value, LABEL_LENGTH) + ([] if _dns_1035(value) else [_DNS_1035_MESSAGE])


_wildcard = _matcher(_WILDCARD)
_WILDCARD_MESSAGE = _regex_message(
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, "
    "which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
    _WILDCARD,
    "*.example.com",
)


def is_wildcard_subdomain(value: str) -> list[str]:
    """`*.example.com`: hosts of ingress rules."""
    return _long(value, SUBDOMAIN_LENGTH) + ([] if _wildcard(value) else [_WILDCARD_MESSAGE])


def is_fully_qualified_domain(value: str) -> list[str]:
    """A domain of at least two labels, a final dot allowed; finalizers' and signers' domains."""
    if not value:
        return ["must be non-empty"]
    value = value.removesuffix(".")
    problems = is_dns_subdomain(value)
    if problems:
        return problems
    if "." not in value:
        return ["should be a domain with at least two segments separated by dots"]
    return [problem for label in value.split(".") for problem in is_dns_label(label)]


_qualified = _matcher(_QUALIFIED)
_QUALIFIED_MESSAGE = _regex_message(
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    _QUALIFIED,
    "MyName",
    "my.name",
    "123-abc",
)


def is_qualified_name(value: str) -> list[str]:
    """`name` or `example.com/name`: keys of labels and annotations, resource names, condition types."""
    prefix, slash, name = value.rpartition("/")
    if value.count("/") > 1:
        optional = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return [f"a qualified name {_QUALIFIED_MESSAGE}{optional}"]
    problems = []
    if slash and not prefix:
        problems.append("prefix part must be non-empty")
    elif slash:
        problems += [f"prefix part {problem}" for problem in is_dns_subdomain(prefix)]
    if not name:
        problems.append("name part must be non-empty")
    else:
        problems += [f"name part {problem}" for problem in _long(name, LABEL_LENGTH)]
    if not _qualified(name):
        problems.append(f"name part {_QUALIFIED_MESSAGE}")
    return problems


_label_value = _matcher(_LABEL_VALUE)
_LABEL_VALUE_MESSAGE = _regex_message(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character",
    _LABEL_VALUE,
    "MyValue",
    "my_value",
    "12345",
)


def is_label_value(value: str) -> list[str]:
    """The value of a label."""
    return _long(value, LABEL_LENGTH) + ([] if _label_value(value) else [_LABEL_VALUE_MESSAGE])


def is_path_segment(value: str) -> list[str]:
    """A name that is only a part of a URL path: RBAC roles and bindings."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in value]


def is_port_name(value: str) -> list[str]:
    """IANA service name: names of container and target ports."""
    problems = _long(value, 15)
    if not re.fullmatch("[-a-z0-9]+", value, re.ASCII):
        problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value, re.ASCII):
        problems.append("must contain at least one letter (a-z)")
    if "--" in value:
        problems.append("must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        problems.append("must not begin or end with a hyphen")
    return problems


def is_port_number(value: int) -> list[str]:
    """A TCP, UDP or SCTP port."""
    return [] if 1 <= value <= 65535 else [in_range(1, 65535)]


def is_ip(value: str) -> list[str]:
    """An IPv4 or IPv6 address."""
    try:
        # Python refuses leading zeros, and so do we; a zone has no meaning in a cluster.
        ipaddress.ip_address(value)
    except ValueError:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"] if "%" in value else []


def is_cidr(value: str) -> list[str]:
    """An IPv4 or IPv6 prefix with its length; bits beyond the length are tolerated."""
    address, slash, length = value.partition("/")
    good = slash and not is_ip(address) and length.isascii() and length.isdigit()
    if good and str(int(length)) == length and int(length) <= (128 if ":" in address else 32):
        return []
    return ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]


_env_var = _matcher(_ENV_VAR)
_ENV_VAR_MESSAGE = _regex_message(
    "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', "
    "and must not start with a digit",
    _ENV_VAR,
    "my.env-name",
    "MY_ENV.NAME",
    "MyEnvName1",
)


def is_env_var_name(value: str) -> list[str]:
    """A name of an environment variable, as kinds demand it that predate the relaxed rule."""
    return ([] if _env_var(value) else [_ENV_VAR_MESSAGE]) + _changes_folder(value)


_relaxed_env_var = _matcher(_RELAXED_ENV_VAR)
_RELAXED_ENV_VAR_MESSAGE = _regex_message(
    "a valid environment variable name must consist only of printable ASCII characters other than '='",
    _RELAXED_ENV_VAR,
)


def is_relaxed_env_var_name(value: str) -> list[str]:
    """A name of a container's environment variable since 1.32: anything printable but `=`."""
    if not value:
        return ["environment variable name must be non-empty"]
    return [] if _relaxed_env_var(value) else [_RELAXED_ENV_VAR_MESSAGE]


_config_key = _matcher(_CONFIG_KEY)
_CONFIG_KEY_MESSAGE = _regex_message(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _CONFIG_KEY,
    "key.name",
    "KEY_NAME",
    "key-name",
)


def is_config_key(value: str) -> list[str]:
    """A key of a ConfigMap's or Secret's data: also a file name."""
    problems = _long(value, SUBDOMAIN_LENGTH)
    return problems + ([] if _config_key(value) else [_CONFIG_KEY_MESSAGE]) + _changes_folder(value)


_c_identifier = _matcher(_C_IDENTIFIER)
_C_IDENTIFIER_MESSAGE = _regex_message(
    "a valid C identifier must start with alphabetic character or '_', "
    "followed by a string of alphanumeric characters or '_'",
    _C_IDENTIFIER,
    "my_name",
    "MY_NAME",
    "MyName",
)


def is_c_identifier(value: str) -> list[str]:
    return [] if _c_identifier(value) else [_C_IDENTIFIER_MESSAGE]


_http_header = _matcher(_HTTP_HEADER)
_HTTP_HEADER_MESSAGE = _regex_message(
    "a valid HTTP header must consist of alphanumeric characters or '-'", _HTTP_HEADER, "X-Header-Name"
)


def is_http_header_name(value: str) -> list[str]:
    return [] if _http_header(value) else [_HTTP_HEADER_MESSAGE]


_percent = _matcher(_PERCENT)
_PERCENT_MESSAGE = _regex_message(
    "a valid percent string must be a numeric string followed by an ending '%'", _PERCENT, "1%", "93%"
)


def is_percent(value: str) -> list[str]:
    return [] if _percent(value) else [_PERCENT_MESSAGE]


def _long(value: str, limit: int) -> list[str]:
    # Characters are counted only where a multi-byte one could matter.
    return [max_length(limit)] if len(value if value.isascii() else value.encode()) > limit else []


def _changes_folder(value: str) -> list[str]:
    """A key becomes a file name, and must not climb out of its folder."""
    if value in (".", ".."):
        return [f"must not be '{value}'"]
    return ["must not start with '..'"] if value.startswith("..") else []


def label_errors(labels: Mapping[str, str], field: str) -> list[Cause]:
    """What is wrong with a map of labels at `field` (`metadata.labels`)."""
    causes = []
    for key, value in labels.items():
        causes += [invalid_value(field, key, problem) for problem in is_qualified_name(key)]
        causes += [invalid_value(field, value, problem) for problem in is_label_value(value)]
    return causes


def annotation_errors(annotations: Mapping[str, str], field: str) -> list[Cause]:
    """What is wrong with a map of annotations at `field` (`metadata.annotations`)."""
    causes = []
    size = 0
    for key, value in annotations.items():
        causes += [invalid_value(field, key, problem) for problem in is_qualified_name(key.lower())]
        size += len(key.encode()) + len(value.encode())
    if size > ANNOTATIONS_SIZE:
        causes.append(too_long(field, ANNOTATIONS_SIZE))
    return causes
