"""Names, labels and other short strings."""

from __future__ import annotations

import pytest

from pinnace.machinery import names
from pinnace.machinery.names import Rule

LONG = "must be no more than 63 bytes"

GOOD: list[tuple[Rule, list[str]]] = [
    (names.is_dns_label, ["a", "a-b", "0", "a" * 63]),
    (names.is_dns_subdomain, ["a", "a.b-c.d", "0.1", "a" * 253]),
    (names.is_dns_1035_label, ["a", "a-1"]),
    (names.is_wildcard_subdomain, ["*.a.b"]),
    (names.is_fully_qualified_domain, ["a.b", "a.b."]),
    (names.is_qualified_name, ["a", "A_b.c-d", "example.com/Name", "1"]),
    (names.is_label_value, ["", "a", "A_b.c-d"]),
    (names.is_path_segment, ["system:node", "a b", "..."]),
    (names.is_port_name, ["http", "a-1"]),
    (names.is_ip, ["10.0.0.1", "::1", "2001:db8::1"]),
    (names.is_cidr, ["10.0.0.0/8", "::/0", "10.0.0.1/32"]),
    (names.is_env_var_name, ["A_B", ".a", "-"]),
    (names.is_relaxed_env_var_name, ["a b", "1", "-"]),
    (names.is_config_key, ["a.txt", ".a", "A_B-c"]),
    (names.is_c_identifier, ["_a", "A1"]),
    (names.is_http_header_name, ["X-Header"]),
    (names.is_percent, ["0%", "150%"]),
]

BAD: list[tuple[Rule, list[str]]] = [
    (names.is_dns_label, ["", "A", "-a", "a-", "a.b", "a\n", "é", "a" * 64]),
    (names.is_dns_subdomain, ["", "a..b", ".a", "a_b", "a" * 254]),
    (names.is_dns_1035_label, ["0a", ""]),
    (names.is_wildcard_subdomain, ["*", "a.b", "*.", "*.*.a"]),
    (names.is_fully_qualified_domain, ["", "a", "a..b"]),
    (names.is_qualified_name, ["", "/a", "a/", "a/b/c", "-a", "A.com/x", "é"]),
    (names.is_label_value, ["-", "a b", "a" * 64, "a\n"]),
    (names.is_path_segment, [".", "..", "a/b", "a%b"]),
    (names.is_port_name, ["", "1", "a--b", "-a", "a-", "A", "a" * 16]),
    (names.is_ip, ["", "1.2.3", "1.2.3.04", "fe80::1%eth0"]),
    (names.is_cidr, ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/08", "::/129", "/8", "10.0.0.0/-1"]),
    (names.is_env_var_name, ["", "1a", "a=b", "..", "a b"]),
    (names.is_relaxed_env_var_name, ["", "a=b", "é"]),
    (names.is_config_key, ["", ".", "..", "..a", "a/b", "a" * 254]),
    (names.is_c_identifier, ["1", "a-b"]),
    (names.is_http_header_name, ["", "a:b"]),
    (names.is_percent, ["", "%", "-1%", "1"]),
]


@pytest.mark.parametrize(("rule", "value"), [(rule, value) for rule, values in GOOD for value in values])
def test_good_values_have_no_problems(rule: Rule, value: str) -> None:
    assert rule(value) == []


@pytest.mark.parametrize(("rule", "value"), [(rule, value) for rule, values in BAD for value in values])
def test_bad_values_have_problems(rule: Rule, value: str) -> None:
    assert rule(value)


@pytest.mark.parametrize(
    ("rule", "value", "messages"),
    [
        (
            names.is_dns_label,
            "A",
            [
                (
                    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
                    "and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', "
                    "regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
                )
            ],
        ),
        (
            names.is_dns_subdomain,
            "A",
            [
                (
                    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
                    "and must start and end with an alphanumeric character (e.g. 'example.com', "
                    r"regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                )
            ],
        ),
        (names.is_dns_label, "a" * 64, [LONG]),
        (names.is_label_value, "a" * 64, [LONG]),
        (names.is_qualified_name, "example.com/" + "a" * 64, [f"name part {LONG}"]),
        (names.is_path_segment, "a/%", ["may not contain '/'", "may not contain '%'"]),
        (names.is_path_segment, "..", ["may not be '..'"]),
        (
            names.is_port_name,
            "-1--",
            [
                "must contain at least one letter (a-z)",
                "must not contain consecutive hyphens",
                "must not begin or end with a hyphen",
            ],
        ),
        (names.is_config_key, "..a", ["must not start with '..'"]),
        (names.is_ip, "x", ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]),
    ],
)
def test_messages_are_word_for_word(rule: Rule, value: str, messages: list[str]) -> None:
    assert rule(value) == messages


def test_ports_are_in_range() -> None:
    assert names.is_port_number(1) == names.is_port_number(65535) == []
    assert names.is_port_number(0) == ["must be between 1 and 65535, inclusive"]


def test_labels_are_checked_by_key_and_value() -> None:
    found = names.label_errors({"a": "b", "-": "c", "d": "-"}, "metadata.labels")

    assert [cause.field for cause in found] == ["metadata.labels"] * 2
    assert found[0].message.startswith('Invalid value: "-": name part must consist of')
    assert found[1].message.startswith('Invalid value: "-": a valid label must be')


def test_annotations_may_be_large_together_but_not_too_large() -> None:
    assert names.annotation_errors({"Example.com/A": "x" * (256 * 1024 - 13)}, "metadata.annotations") == []

    (cause,) = names.annotation_errors({"a": "x" * 256 * 1024}, "metadata.annotations")
    assert cause.message == "Too long: may not be more than 262144 bytes"
