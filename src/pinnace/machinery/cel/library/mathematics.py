"""cel-go's extension for numbers, its second version. https://github.com/google/cel-go/blob/master/ext/README.md#math."""

from __future__ import annotations

import math
from typing import Any

from pinnace.machinery.cel.ast import UInt
from pinnace.machinery.cel.functions import Functions
from pinnace.machinery.cel.library.operators import checked_int
from pinnace.machinery.cel.values import UINT_MAX, CelError, no_such_overload

function = Functions()


def _numbers(values: Any) -> list[Any]:
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in values):
        raise no_such_overload()
    return list(values)


def _extreme(name: str, choose: Any) -> None:
    @function(f"math.@{name}(T): T")
    def one(value: Any) -> Any:
        if not isinstance(value, list):
            return _numbers([value])[0]
        if not value:
            raise CelError(f"math.@{name}(list) argument must not be empty")
        return choose(_numbers(value))

    @function(f"math.@{name}(list(T)): T")
    def several(values: list[Any]) -> Any:
        return one(values)

    for count in range(2, 9):
        params = ", ".join(["T"] * count)
        function(f"math.@{name}({params}): T")(lambda *values: choose(_numbers(values)))
    for left in ("int", "uint", "double"):
        for right in ("int", "uint", "double"):
            if left != right:
                function(f"math.@{name}({left}, {right}): dyn")(lambda *values: choose(_numbers(values)))


_extreme("max", max)
_extreme("min", min)


def _away_from_zero(value: float) -> float:
    return float(math.copysign(math.floor(abs(value) + 0.5), value)) if math.isfinite(value) else value


def _integral(name: str, compute: Any) -> None:
    function(f"math.{name}(double): double")(
        lambda value: float(math.copysign(compute(value), value)) if math.isfinite(value) else value
    )


_integral("ceil", math.ceil)
_integral("floor", math.floor)
_integral("trunc", math.trunc)
function("math.round(double): double")(_away_from_zero)
function("math.isInf(double): bool")(math.isinf)
function("math.isNaN(double): bool")(math.isnan)
function("math.isFinite(double): bool")(math.isfinite)
function("math.abs(int): int")(lambda value: checked_int(abs(value)))
function("math.abs(uint): uint", "math.abs(double): double")(lambda value: value if value >= 0 else -value)
function("math.sqrt(int): double", "math.sqrt(uint): double", "math.sqrt(double): double", since=34)(
    lambda value: math.sqrt(value) if value >= 0 else math.nan
)


@function("math.sign(int): int", "math.sign(uint): uint", "math.sign(double): double")
def _sign(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isnan(value) else float((value > 0) - (value < 0))
    return type(value)((value > 0) - (value < 0))


def _bits(name: str, compute: Any) -> None:
    function(f"math.{name}(int, int): int")(compute)
    function(f"math.{name}(uint, uint): uint")(lambda left, right: UInt(compute(int(left), int(right))))


_bits("bitAnd", lambda left, right: left & right)
_bits("bitOr", lambda left, right: left | right)
_bits("bitXor", lambda left, right: left ^ right)
function("math.bitNot(int): int")(lambda value: ~value)
function("math.bitNot(uint): uint")(lambda value: UInt(~int(value) & UINT_MAX))


def _signed(value: int) -> int:
    value &= UINT_MAX
    return value - (1 << 64) if value >> 63 else value


def _by(count: int) -> int:
    if count < 0:
        raise CelError(f"math.bitShift() negative offset: {count}")
    return min(count, 64)


function("math.bitShiftLeft(int, int): int")(lambda value, count: _signed(value << _by(count)))
function("math.bitShiftRight(int, int): int")(lambda value, count: _signed((value & UINT_MAX) >> _by(count)))
function("math.bitShiftLeft(uint, int): uint")(lambda value, count: UInt((int(value) << _by(count)) & UINT_MAX))
function("math.bitShiftRight(uint, int): uint")(lambda value, count: UInt(int(value) >> _by(count)))
