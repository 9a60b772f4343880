"""Resource quantities: exact numbers with the suffixes of `resource.Quantity`, in canonical form.

A quantity keeps its family of suffixes (decimal `m k M`, binary `Ki Mi`, exponent `e3`) through arithmetic, as
Kubernetes' own type does. The grammar and the canonical form are specified at
https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/.
"""

from __future__ import annotations

import re
from decimal import MAX_EMAX, MIN_EMIN, ROUND_UP, Context, Decimal
from functools import lru_cache, total_ordering
from typing import Literal

Family = Literal["decimal", "binary", "exponent"]

_NUMBER = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(.*)", re.ASCII | re.DOTALL)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_NAMES = {power: name for name, power in _DECIMAL.items()}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_BINARY_NAMES = {0: "", **{power: name for name, power in _BINARY.items()}}
_EXPONENT = re.compile(r"[eE][+-]?\d+", re.ASCII)
_WORD = re.compile(r"[+-]?[0-9.]+[eEinumkKMGTP]*[-+]?[0-9]*", re.ASCII)
_EXACT = Context(prec=400, Emin=MIN_EMIN, Emax=MAX_EMAX)
_NANO = Decimal("1e-9")
_MAX = Decimal(2**63 - 1)

_KEPT_LENGTH = 40  # longer texts are rare, and not worth the memory of being remembered

_BAD_FORMAT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_BAD_SUFFIX = "unable to parse quantity's suffix"


class QuantityError(ValueError):
    """The text is not a quantity; the message is Kubernetes' own."""


@total_ordering
class Quantity:
    """An exact amount. Immutable; equal to another when the amounts are, whatever the suffix."""

    __slots__ = ("_text", "amount", "family")

    def __init__(self, amount: Decimal | int, family: Family = "decimal") -> None:
        self.amount = Decimal(amount)
        self.family = family
        self._text = ""

    @classmethod
    def parse(cls, text: str | int | float) -> Quantity:
        """Read `100m`, `1.5Gi`, `2e3` or a JSON number; raises QuantityError."""
        if not isinstance(text, str):
            text = str(text)
        return _parse_kept(text) if len(text) <= _KEPT_LENGTH else _parse(text)

    def __str__(self) -> str:
        if not self._text:
            self._text = _canonical(self.amount, self.family)
        return self._text

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.amount == other.amount

    def __lt__(self, other: Quantity) -> bool:
        return self.amount < other.amount

    def __hash__(self) -> int:
        return hash(self.amount)

    def __bool__(self) -> bool:
        return self.amount != 0

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(_EXACT.add(self.amount, other.amount), self._family_with(other))

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(_EXACT.subtract(self.amount, other.amount), self._family_with(other))

    def __neg__(self) -> Quantity:
        return Quantity(self.amount.copy_negate(), self.family)

    def __mul__(self, times: int) -> Quantity:
        return Quantity(_EXACT.multiply(self.amount, Decimal(times)), self.family)

    def _family_with(self, other: Quantity) -> Family:
        # A zero has no opinion: adding to an empty sum takes the family of what is added.
        return self.family if self.amount else other.family

    def value(self) -> int:
        """The amount in units, rounded up (away from zero)."""
        return int(self.amount.to_integral_value(ROUND_UP, context=_EXACT))

    def milli_value(self) -> int:
        """The amount in thousandths, rounded up (away from zero)."""
        return int(_EXACT.scaleb(self.amount, 3).to_integral_value(ROUND_UP, context=_EXACT))


ZERO = Quantity(0)


def _parse(text: str) -> Quantity:
    if not text:
        raise QuantityError(_BAD_FORMAT)
    match = _NUMBER.match(text)
    assert match is not None  # every part of the pattern may be empty
    sign, whole, fraction, suffix = match.groups()
    if not whole and not fraction:
        raise QuantityError(_BAD_FORMAT)
    if not _WORD.fullmatch(text):
        raise QuantityError(_BAD_FORMAT)
    number = Decimal(f"{sign}{whole or '0'}.{fraction or '0'}")
    family: Family
    if suffix in _DECIMAL:
        family, amount = "decimal", _EXACT.scaleb(number, _DECIMAL[suffix])
    elif suffix in _BINARY:
        family, amount = "binary", _EXACT.multiply(number, Decimal(2 ** _BINARY[suffix]))
    elif _EXPONENT.fullmatch(suffix):
        # Beyond a hundred lies no amount that is kept, and what is dear to write out.
        power = int(suffix[1:]) if len(suffix) < 9 else -100 if suffix[1] == "-" else 100
        power = max(-100, min(100, power))
        family, amount = "exponent", _EXACT.scaleb(number, power)
    else:
        raise QuantityError(_BAD_SUFFIX)
    return Quantity(_bounded(amount), family)


def _bounded(amount: Decimal) -> Decimal:
    """What is finer than a billionth rounds up, what is beyond 2^63-1 becomes that, as in Kubernetes."""
    if amount.copy_abs() > _MAX:
        return _MAX.copy_sign(amount)
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -9:
        return amount.quantize(_NANO, ROUND_UP, context=_EXACT)
    return amount


def _canonical(amount: Decimal, family: Family) -> str:
    if not amount:
        return "0"
    if family == "binary":
        if abs(amount) < 1024 or amount != amount.to_integral_value(context=_EXACT):
            family = "decimal"  # there is no binary suffix for fractions, nor need of one for small numbers
        else:
            return _canonical_binary(int(amount))
    mantissa, power = _thousands(amount)
    if family == "exponent":
        return f"{mantissa}e{power}" if power else str(mantissa)
    return f"{mantissa}{_DECIMAL_NAMES[power]}"


def _canonical_binary(amount: int) -> str:
    power = 0
    while power < 60 and amount % 1024 == 0:
        amount //= 1024
        power += 10
    return f"{amount}{_BINARY_NAMES[power]}"


def _thousands(amount: Decimal) -> tuple[int, int]:
    """The amount as an integer times the greatest power of a thousand that leaves no fraction."""
    nano = int(_EXACT.scaleb(amount.quantize(_NANO, ROUND_UP, context=_EXACT), 9))
    power = -9
    while power < 18 and nano % 1000 == 0:
        nano //= 1000
        power += 3
    return nano, power


_parse_kept = lru_cache(maxsize=4096)(_parse)


def canonical(text: str) -> str:
    """`1000m` → `1`, `1024Mi` → `1Gi`: how the API shows a quantity; raises QuantityError."""
    return str(Quantity.parse(text))
