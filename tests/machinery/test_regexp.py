"""Regular expressions: RE2's syntax and its promise, Go's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.machinery.regexp import RegexpError, check_regexp, compile_regexp, matches


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
    for refuse in (check_regexp, compile_regexp):
        with pytest.raises(RegexpError) as refused:
            refuse(pattern)
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


@given(
    st.text("ab\n.", max_size=8), st.sampled_from(["^a", "b$", "a.b", "(a|b)*a$", "[^a]b", r"\bab\b", "a{2,3}", "^$"])
)
def test_both_engines_agree(text: str, pattern: str) -> None:
    assert matches(pattern, text) == (compile_regexp(pattern).search(text) is not None)
