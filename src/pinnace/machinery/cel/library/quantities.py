"""Kubernetes' quantities: `quantity('1.5Gi').isGreaterThan(quantity('500Mi'))`.

https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-quantity-library.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from pinnace.machinery.cel.functions import Functions
from pinnace.machinery.cel.types import Type, opaque
from pinnace.machinery.cel.values import INT_MAX, INT_MIN, CelError, Opaque
from pinnace.machinery.quantity import Quantity

function = Functions()


@dataclass(frozen=True)
class QuantityValue(Opaque):
    amount: Decimal
    cel_type: ClassVar[Type] = opaque("kubernetes.Quantity")


def _read(text: str) -> QuantityValue:
    return QuantityValue(Quantity.parse(text).amount)


@function("quantity(string): kubernetes.Quantity")
def _quantity(text: str) -> QuantityValue:
    try:
        return _read(text)
    except ValueError as error:
        raise CelError(str(error)) from None


@function("isQuantity(string): bool")
def _is_quantity(text: str) -> bool:
    try:
        _read(text)
    except ValueError:
        return False
    return True


def _is_integer(quantity: QuantityValue) -> bool:
    return quantity.amount == quantity.amount.to_integral_value() and INT_MIN <= quantity.amount <= INT_MAX


function("(kubernetes.Quantity).isInteger(): bool")(_is_integer)


@function("(kubernetes.Quantity).asInteger(): int")
def _as_integer(quantity: QuantityValue) -> int:
    if not _is_integer(quantity):
        raise CelError("cannot convert value to integer")
    return int(quantity.amount)


function("(kubernetes.Quantity).asApproximateFloat(): double")(lambda quantity: float(quantity.amount))
function("(kubernetes.Quantity).sign(): int")(lambda quantity: int((quantity.amount > 0) - (quantity.amount < 0)))
function("(kubernetes.Quantity).isGreaterThan(kubernetes.Quantity): bool")(lambda one, two: one.amount > two.amount)
function("(kubernetes.Quantity).isLessThan(kubernetes.Quantity): bool")(lambda one, two: one.amount < two.amount)
function("(kubernetes.Quantity).compareTo(kubernetes.Quantity): int")(
    lambda one, two: int((one.amount > two.amount) - (one.amount < two.amount))
)


def _amount(value: Any) -> Decimal:
    return value.amount if isinstance(value, QuantityValue) else Decimal(value)


for _other in ("kubernetes.Quantity", "int"):
    function(f"(kubernetes.Quantity).add({_other}): kubernetes.Quantity")(
        lambda one, two: QuantityValue(one.amount + _amount(two))
    )
    function(f"(kubernetes.Quantity).sub({_other}): kubernetes.Quantity")(
        lambda one, two: QuantityValue(one.amount - _amount(two))
    )
