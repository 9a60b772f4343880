"""Quantities: the grammar, the canonical form and the laws of their arithmetic."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.machinery.quantity import ZERO, Quantity, QuantityError, canonical

numbers = st.decimals(min_value=-(10**9), max_value=10**9, places=3).map(lambda number: f"{number:f}")
suffixes = st.sampled_from(["m", "", "k", "M", "Ki", "Mi", "e3", "E-3"])
quantities = st.builds(lambda number, suffix: Quantity.parse(number + suffix), numbers, suffixes)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0", "0"),
        ("0Gi", "0"),
        ("-0", "0"),
        ("100m", "100m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("0.1", "100m"),
        (".5", "500m"),
        ("5.", "5"),
        ("+1", "1"),
        ("1.5Gi", "1536Mi"),
        ("1.25Ki", "1280"),
        ("512Ki", "512Ki"),
        ("1024Ki", "1Mi"),
        ("1000Ki", "1000Ki"),
        ("0.5Ki", "512"),
        ("1.5m", "1500u"),
        ("0.0000000001", "1n"),
        ("12e6", "12e6"),
        ("1E3", "1e3"),
        ("100e-3", "100e-3"),
        ("1E", "1E"),
        ("1000000", "1M"),
        ("123456", "123456"),
        ("-1500m", "-1500m"),
        ("99999999999999999999E", "9223372036854775807"),
    ],
)
def test_canonical_form(text: str, shown: str) -> None:
    assert canonical(text) == shown


@pytest.mark.parametrize("text", ["", "m", "1 ", " 1", "1Zi", "1.2.3", "--1", "1,5", "0x10", "1_0", "Inf", "\u0661"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(QuantityError):
        Quantity.parse(text)


def test_a_wrong_suffix_has_its_own_message() -> None:
    with pytest.raises(QuantityError, match="unable to parse quantity's suffix"):
        Quantity.parse("1Kii")


@pytest.mark.parametrize(
    ("text", "value", "milli"),
    [("100m", 1, 100), ("1", 1, 1000), ("1.0001", 2, 1001), ("-1.5", -2, -1500), ("1Ki", 1024, 1024000)],
)
def test_values_round_away_from_zero(text: str, value: int, milli: int) -> None:
    quantity = Quantity.parse(text)

    assert (quantity.value(), quantity.milli_value()) == (value, milli)


def test_a_sum_keeps_the_family_of_what_was_there_first() -> None:
    assert str(Quantity.parse("1Gi") + Quantity.parse("1024")) == "1048577Ki"
    assert str(ZERO + Quantity.parse("2Gi")) == "2Gi"
    assert str(Quantity.parse("1") - Quantity.parse("250m")) == "750m"


def test_different_writings_of_one_amount_are_equal() -> None:
    assert Quantity.parse("1") == Quantity.parse("1000m")
    assert hash(Quantity.parse("1")) == hash(Quantity.parse("1000m"))
    assert Quantity.parse("1Ki") > Quantity.parse("1k")


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1e999999999", Decimal(2**63 - 1)),
        ("1e" + "9" * 5000, Decimal(2**63 - 1)),
        ("1e-999999999", Decimal("1e-9")),
        ("1" * 3_000_000, Decimal(2**63 - 1)),
        ("-" + "1" * 100_000, Decimal(1 - 2**63)),
        ("0." + "0" * 100_000 + "1", Decimal("1e-9")),
        ("0" * 100_000 + "1", Decimal(1)),
    ],
)
def test_what_is_too_large_or_too_fine_is_bounded(text: str, amount: Decimal) -> None:
    assert Quantity.parse(text).amount == amount


@given(quantities)
def test_the_canonical_form_reads_back_to_the_same_amount(quantity: Quantity) -> None:
    again = Quantity.parse(str(quantity))

    assert again == quantity
    assert str(again) == str(quantity)


@given(quantities, quantities, quantities)
def test_addition_is_exact(a: Quantity, b: Quantity, c: Quantity) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert (a + b) - b == a
    assert a + ZERO == a
    assert a + -a == ZERO


@given(quantities, quantities)
def test_order_agrees_with_subtraction(a: Quantity, b: Quantity) -> None:
    assert (a < b) == ((a - b).amount < 0)


@given(st.text(max_size=8))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        shown = str(Quantity.parse(text))
    except QuantityError:
        return
    assert str(Quantity.parse(shown)) == shown
