"""Laws of evaluation, and cel-cpp as a second opinion on what expressions of the language itself evaluate to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.machinery.cel.environment import CelError, CompileError, Environment
from pinnace.machinery.cel.evaluate import Budget
from pinnace.machinery.cel.types import DYN
from pinnace.machinery.cel.values import BudgetExceeded, Duration, read_duration

INTS = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text("ab1é", max_size=3)
PLAIN = st.recursive(
    st.none() | st.booleans() | INTS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ENVIRONMENT = Environment(37, {"a": DYN, "b": DYN, "c": DYN})


def ours(expression: str, data: dict[str, Any]) -> Any:
    try:
        return ENVIRONMENT.compile(expression).evaluate(data)
    except CelError:
        return CelError


def theirs(expression: str, data: dict[str, Any]) -> Any:
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_optional

    dyn = cel.Type.DYN
    env = cel.NewEnv(variables={"a": dyn, "b": dyn, "c": dyn}, extensions=[ext_optional.ExtOptional()])
    result = env.compile(expression).eval(data=data)
    return CelError if result.type() == cel.Type.ERROR else result.plain_value()


@given(PLAIN, PLAIN, PLAIN)
@pytest.mark.parametrize(
    "expression",
    [
        "a == b",
        "a < b",
        "a + b == c",
        "type(b) == list && a in b",
        "a[b] == c",
        "a == b ? b : c",
        "a && b || c",
        "a.exists(v, v == b)",
        "a.all(v, v == b)",
        "type(a) == list && a.map(v, v == b) == c",
        "type(a) == list && a.filter(v, b) == a",
        "a.?x.orValue(b) == c",
        "size(a) == size(b)",
        "a / b * b + a % b == a",
        "-a > b",
    ],
)
def test_values_are_those_that_cel_cpp_finds(expression: str, a: Any, b: Any, c: Any) -> None:
    data = {"a": a, "b": b, "c": c}
    assert ours(expression, data) == theirs(expression, data)


@given(st.lists(INTS, max_size=6), INTS)
def test_quantifiers_are_each_others_opposites(values: list[int], limit: int) -> None:
    data = {"a": values, "b": limit, "c": None}
    assert ours("a.all(v, v < b)", data) is not ours("a.exists(v, !(v < b))", data)
    assert ours("a.all(i, v, v < b)", data) is ours("a.all(v, v < b)", data)
    assert ours("a.filter(v, v < b).size() + a.filter(v, !(v < b)).size()", data) == len(values)


@given(st.integers(-(10**17), 10**17))
def test_a_duration_is_read_as_it_is_written(nanoseconds: int) -> None:
    assert read_duration(str(Duration(nanoseconds))) == Duration(nanoseconds)


@given(st.text(max_size=30))
def test_no_text_breaks_the_compiler(text: str) -> None:
    try:
        ENVIRONMENT.compile(text)
    except CompileError as error:
        told = str(error)
    else:
        told = "compilation failed: "
    assert told.startswith("compilation failed: ")


def test_an_endless_expression_is_stopped_by_its_budget() -> None:
    program = ENVIRONMENT.compile("a.all(x, a.all(y, a.all(z, true)))")
    with pytest.raises(BudgetExceeded, match="operation cancelled: actual cost limit exceeded"):
        program.evaluate({"a": [1] * 200})


@pytest.mark.parametrize(
    "expression",
    [
        "cel.bind(x, a, cel.bind(x, x + x, cel.bind(x, x + x, cel.bind(x, x + x, cel.bind(x, x + x, x)))))",
        "a.replace('', a)",
        "[a, a, a, a, a, a, a].join(a)",
    ],
)
def test_no_expression_fills_the_memory(expression: str) -> None:
    with pytest.raises(BudgetExceeded):
        ENVIRONMENT.compile(expression).evaluate({"a": "x" * (5 << 20)})


@pytest.mark.parametrize("expression", ["a.sum()", "[?a]", "a.join('')", "'%.999f'.format([1.0])", "a.sort()"])
def test_values_of_other_types_than_hoped_for_are_an_error(expression: str) -> None:
    with pytest.raises(CelError):
        ENVIRONMENT.compile(expression).evaluate({"a": [1, "x", None]})


def test_a_shared_budget_is_spent_by_all() -> None:
    budget = Budget(100)
    program = ENVIRONMENT.compile("a.all(x, x > 0)")
    program.evaluate({"a": [1] * 10}, budget)
    assert 0 < budget.left < 80
    with pytest.raises(BudgetExceeded):
        program.evaluate({"a": [1] * 100}, budget)
