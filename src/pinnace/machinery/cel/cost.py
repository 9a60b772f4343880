"""What an expression may cost at worst, estimated from the sizes its types allow.

The unit and the rules are cel-go's (one for a variable, a select or a call; a tenth of a unit for each character that a
function walks; a loop's body times the longest list), so that expressions Kubernetes refuses for their cost are refused
here. Functions of Kubernetes' own libraries are counted by how they walk their arguments. Costs saturate at
`UNBOUNDED`.
"""

from __future__ import annotations

from math import ceil

from pinnace.machinery.cel.ast import (
    Call,
    Comprehension,
    Const,
    Ident,
    ListNode,
    MapNode,
    Node,
    Select,
    StructNode,
)
from pinnace.machinery.cel.types import Type

PER_EXPRESSION = 10_000_000
PER_SCHEMA = 100_000_000
UNBOUNDED = (1 << 64) - 1

_WALK = 0.1  # for each character or byte walked
_PATTERN = 0.25  # for each character of a pattern, times the string's
_FREE = ("_&&_", "_||_", "_?_:_")
_SAME = ("_==_", "_!=_")
_ORDERED = ("_<_", "_<=_", "_>_", "_>=_")
_REGULAR = ("matches", "find", "findAll")
_WALKS_BOTH = ("contains", "indexOf", "lastIndexOf")
_BUILDS = ("replace", "split")  # walked, and written anew
_WALKS_FIRST = (
    "base64.decode", "base64.encode", "bytes", "cidr", "duration", "format", "ip", "ip.isCanonical", "isCIDR", "isIP",
    "isQuantity", "isSemver", "isURL", "lowerAscii", "quantity", "reverse", "semver", "string", "strings.quote",
    "substring", "timestamp", "trim", "upperAscii", "url", "validate",
)  # fmt: skip
_WALKS_LIST = ("isSorted", "max", "min", "sort", "sum", "distinct", "flatten", "slice", "indexOf", "lastIndexOf")
_PAIRS = ("sets.contains", "sets.equivalent", "sets.intersects")


def estimate(tree: Node) -> int:
    """The most that one evaluation of a checked expression may cost."""
    return min(UNBOUNDED, int(_Estimator().cost(tree)))


class _Estimator:
    """Costs by node; what a variable of a comprehension holds is found in `_scopes`."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}  # of accumulators and bound names, as far as they are known

    def cost(self, node: Node) -> float:
        match node:
            case Const():
                return 0
            case Ident():
                return 1
            case Select():
                if node.test:
                    return 0
                return self.cost(node.operand) + (node.operand.type.kind in ("map", "object", "param"))
            case Call():
                return self._call(node)
            case ListNode():
                return 10 + sum(map(self.cost, node.elements))
            case MapNode():
                return 30 + sum(self.cost(each.key) + self.cost(each.value) for each in node.entries)
            case StructNode():
                return 40 + sum(self.cost(value) for _, value, _ in node.entries)
            case Comprehension():
                return self._comprehension(node)
        raise TypeError(node)

    def _call(self, node: Call) -> float:
        operands = [*([node.target] if node.target is not None else []), *node.args]
        costs = [self.cost(each) for each in operands]
        if node.function == "_?_:_":
            return costs[0] + max(costs[1:])
        total = sum(costs)
        if node.function in _FREE:
            return total
        return total + self._work(node.function, operands)

    def _work(self, function: str, operands: list[Node]) -> float:
        """What the function itself does with its arguments."""
        first = self.size(operands[0]) if operands else 0
        second = self.size(operands[1]) if len(operands) > 1 else 0
        kind = operands[0].type.kind if operands else ""
        if function in _SAME or (function in _ORDERED and kind in ("string", "bytes")):
            return _walked(min(first, second))
        if function in _REGULAR:
            return _walked(first + 1) * ceil(second * _PATTERN)
        if function == "@in":
            return second if operands[1].type.kind == "list" else 1
        if function == "_+_":
            return _walked(first + second) if kind in ("string", "bytes") else 1
        if function in ("startsWith", "endsWith"):
            return _walked(second)
        if kind == "list" and function in _WALKS_LIST:
            return first * (_walked(_element_size(operands[0])) + 1)
        if kind == "list" and function == "join":
            return _walked(first * (_element_size(operands[0]) + second))
        if function in _WALKS_BOTH:
            return _walked(first) * _walked(second)
        if function in _BUILDS:
            return ceil(first * 2 * _WALK)
        if function in _WALKS_FIRST:
            return _walked(first)
        if function in _PAIRS:
            return first * second * max(1, _walked(_element_size(operands[0]))) * (2 if "equi" in function else 1)
        return 1

    def _comprehension(self, node: Comprehension) -> float:
        source, init = self.cost(node.iter_range), self.cost(node.accu_init)
        count = self.size(node.iter_range)
        before = dict(self._sizes)
        self._sizes[node.accu_var] = self.size(node.accu_init) if node.iter_var == "#unused" else count
        loop = self.cost(node.condition) + self.cost(node.step)
        result = self.cost(node.result)
        self._sizes = before
        return source + init + count * loop + result

    def size(self, node: Node) -> int:
        """The most elements, entries or characters that a value can have."""
        match node:
            case Const():
                return len(node.value) if isinstance(node.value, str | bytes) else 1
            case Ident() if node.name in self._sizes:
                return self._sizes[node.name]
            case ListNode():
                return len(node.elements)
            case MapNode():
                return len(node.entries)
            case Comprehension():
                return self.size(node.result if node.iter_var == "#unused" else node.iter_range)
            case Call() if node.function not in _INDEX:
                return self._result_size(node)
            case Select() if node.operand.type.kind == "map" and not _is_sized(node.type):
                return 1
        return _limit(node.type)

    def _result_size(self, node: Call) -> int:
        if node.function == "_?_:_":
            return max(self.size(node.args[1]), self.size(node.args[2]))
        if not _is_sized(node.type):
            return 1
        if node.function == "_+_":
            return min(UNBOUNDED, self.size(node.args[0]) + self.size(node.args[1]))
        if node.target is not None and _is_sized(node.target.type):
            grown = sum(map(self.size, node.args)) if node.function in ("format", "join", "replace") else 0
            return min(UNBOUNDED, self.size(node.target) + grown)
        return max(map(self.size, node.args), default=UNBOUNDED)


_INDEX = ("_[_]", "_[?_]", "_?._")


def _element_size(node: Node) -> int:
    """The size of the largest element of a list."""
    return _limit(node.type.element)


def _walked(size: int) -> int:
    """What it costs to walk so many characters."""
    return ceil(size * _WALK)


def _is_sized(of: Type) -> bool:
    return of.kind in ("string", "bytes", "list", "map", "dyn", "timestamp", "duration")


def _limit(of: Type) -> int:
    """Of what the data hold. A number or a boolean costs nothing to look at."""
    if of.max_size is not None:
        return of.max_size
    return UNBOUNDED if _is_sized(of) else 0


def over(what: str, cost: int, limit: int) -> str:
    """How a cost beyond its limit is reported."""
    factor = cost / limit
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    advice = "adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared"
    return f"{what} exceeds budget by factor of {shown} (try simplifying the rule, or {advice})"
