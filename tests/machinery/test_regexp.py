"""Regular expressions: RE2's syntax and its promise, Go's words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.machinery.regexp import RegexpError, find_all, matches


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "missing closing ): `(`"),
        ("a)", "unexpected ): `a)`"),
        ("[a", "missing closing ]: `[a`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a++", "invalid nested repetition operator: `++`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a(?=b)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?>a)", "invalid or unsupported Perl syntax: `(?>`"),
        (r"(a)\1", r"invalid escape sequence: `\1`"),
        ("(?P<n", "invalid named capture: `(?P<n`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("a\\", "trailing backslash at end of expression: ``"),
    ],
)
def test_what_is_no_pattern_is_refused_in_the_words_of_go(pattern: str, why: str) -> None:
    for refuse in (matches, find_all):
        with pytest.raises(RegexpError) as refused:
            refuse(pattern, "abc")
        assert str(refused.value) == f"error parsing regexp: {why}"


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("^a$", "a\n", False),
        ("(?m)^a$", "a\nb", True),
        ("^[[:alpha:]_]+$", "ab_", True),
        (r"\Qa.b\E", "a.b", True),
        (r"\Qa.b\E", "axb", False),
        (r"^\p{Greek}+$", "αβγ", True),
        (r"^\w+$", "é", False),
        ("b", "abc", True),
        ("", "", True),
    ],
)
def test_patterns_mean_what_they_mean_to_go(pattern: str, text: str, found: bool) -> None:
    assert matches(pattern, text) is found


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|aa)+$", "^(a|a?)+$", "^(.*a){20}$"])
def test_no_pattern_backtracks_without_end(pattern: str) -> None:
    """Python's engine would be at work for years."""
    assert not matches(pattern, "a" * 5000 + "b")


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("[a-z]+", "abc 12 de", ["abc", "de"]),
        ("(a)(b)", "abab", ["ab", "ab"]),
        ("a|ab", "ab", ["a"]),
        ("a*", "baaac", ["", "aaa", ""]),
        ("", "é\u0301", ["", "", ""]),
        ("é+", "héé é", ["éé", "é"]),
        ("$", "x\ny", [""]),
        ("(?i)B.", "abcb\n", ["bc"]),
        (r"(?<word>\w+)\z", "a bc", ["bc"]),
        ("x", "abc", []),
        (r"\x00.", "a\0b\0c", ["\0b", "\0c"]),
        ("a\0", "a\0b", ["a\0"]),
        ("\ue000", "\ue000\ue001", ["\ue000"]),
    ],
)
def test_what_is_found_is_what_go_finds(pattern: str, text: str, found: list[str]) -> None:
    assert find_all(pattern, text) == found
    assert matches(pattern, text) is bool(found)


@pytest.mark.parametrize("text", ["a\0b", "\0"])
def test_a_text_does_not_end_at_a_zero(text: str) -> None:
    assert matches("b$", text) is text.endswith("b")
    assert matches("\0", text)


@given(
    st.text("ab\n.\0", max_size=8),
    st.sampled_from(["^a", "b$", "a.b", "(a|b)*a$", "[^a]b", r"\bab\b", "a{2,3}", "^$", "(a|ab)(b?)"]),
)
def test_what_is_found_agrees_with_pythons_engine(text: str, pattern: str) -> None:
    found = [match[0] for match in re.finditer(pattern.replace("$", r"\Z"), text)]

    assert find_all(pattern, text) == found
    assert matches(pattern, text) is bool(found)
