"""Compiling an expression in an environment: its variables, its functions, what it must evaluate to.

A `Program` is compiled once and evaluated often, with plain JSON objects as variables. Errors of compilation read as
kube-apiserver's do, after its `compilation failed: `.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pinnace.machinery.cel import syntax
from pinnace.machinery.cel.ast import Ident, Node, Select, walk
from pinnace.machinery.cel.checker import Checker
from pinnace.machinery.cel.evaluate import BUDGET, Budget, Run, compile_node
from pinnace.machinery.cel.library import library
from pinnace.machinery.cel.literals import literal_problems
from pinnace.machinery.cel.syntax import CompileError
from pinnace.machinery.cel.types import Type
from pinnace.machinery.cel.values import CelError

__all__ = ["PER_CALL_LIMIT", "TOTAL_BUDGET", "CelError", "CompileError", "Environment", "Program"]

PER_CALL_LIMIT = 1_000_000  # steps of one expression
TOTAL_BUDGET = 10_000_000  # steps of all that one request asks for


@dataclass(slots=True)
class Program:
    """One expression, ready to evaluate."""

    text: str
    tree: Node
    result: Type
    steps: int  # of everything but what comprehensions repeat
    names: frozenset[str]  # the variables it names, and those of its own
    _run: Run

    def evaluate(self, variables: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """The value. Raises CelError where evaluation fails, BudgetExceeded where it takes too long.

        What is spent counts against `budget`, and one evaluation never spends more than PER_CALL_LIMIT.
        """
        own = Budget(PER_CALL_LIMIT if budget is None else min(PER_CALL_LIMIT, budget.left))
        before = own.left
        try:
            own.spend(self.steps)
            return self._run({**variables, BUDGET: own})
        except RecursionError:
            raise CelError("expression is nested too deeply") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            raise CelError("no such overload") from None  # what a dynamic list holds is not what a function asks for
        finally:
            if budget is not None:
                budget.left -= before - own.left


def _names(nodes: list[Node]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Ident):
            yield node.name
        elif isinstance(node, Select) and node.variable:
            yield node.variable


@dataclass(slots=True)
class Environment:
    """What expressions may name."""

    minor: int
    variables: Mapping[str, Type]
    structs: Mapping[str, Type] = field(default_factory=dict)  # types that expressions may make values of

    def compile(self, text: str, wanted: tuple[Type, ...] = (), problem: str = "") -> Program:
        """The program of an expression whose type must be one of `wanted`, else CompileError(problem)."""
        try:
            tree = syntax.parse(text)
            checker = Checker(self.variables, library(self.minor), self.structs)
            result = checker.check(tree)
        except RecursionError:
            raise CompileError("compilation failed: expression recursion limit exceeded: 250") from None
        except CompileError as error:
            raise CompileError(f"compilation failed: {error}") from None
        problems = checker.problems or literal_problems(tree)
        if problems:
            raise CompileError(f"compilation failed: {syntax.render(text, problems)}")
        if wanted and result not in wanted:
            raise CompileError(problem)
        nodes = list(walk(tree))
        return Program(text, tree, result, len(nodes), frozenset(_names(nodes)), compile_node(tree))

    def extended(self, **more: Type) -> Environment:
        """The same with more variables."""
        return Environment(self.minor, {**self.variables, **more}, self.structs)
