"""What an expression may cost at worst, estimated from the sizes its types allow.

The unit and the rules are cel-go's (one for a variable, a select or a call; a tenth of a unit for each character that a
function walks; a loop's body times the longest list), so that expressions Kubernetes refuses for their cost are refused
here. Functions of Kubernetes' own libraries are counted by how they walk their arguments. Costs saturate at
`UNBOUNDED`.
"""

from __future__ import annotations

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
_FREE = ("_&&_", "_||_", "_?_:_", "@not_strictly_false")
_COMPARED = ("_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_")
_REGULAR = ("matches", "find", "findAll")
_WALKS_BOTH = ("contains", "indexOf", "lastIndexOf", "replace", "split")
_WALKS_FIRST = (
    "base64.decode", "base64.encode", "bytes", "charAt", "cidr", "duration", "format", "ip", "isCIDR", "isIP",
    "isQuantity", "isSemver", "isURL", "join", "lowerAscii", "quantity", "reverse", "semver", "string", "strings.quote",
    "substring", "timestamp", "trim", "upperAscii", "url", "validate",
)  # fmt: skip
_WALKS_LIST = ("isSorted", "max", "min", "sort", "sum", "distinct", "flatten", "slice")
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
                below = self.cost(node.operand)
                return below if node.test else below + (node.operand.type.kind in ("map", "object", "param"))
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
        if function in _COMPARED:
            return max(1, min(first, second) * _WALK) if _is_sized(operands[0].type) else 1
        if function in _REGULAR:
            return (1 + first * _WALK) * max(1, second * _PATTERN)
        if function == "@in":
            return max(1, second) if operands[1].type.kind == "list" else 1
        if function == "_+_":
            return max(1, (first + second) * _WALK) if operands[0].type.kind in ("string", "bytes") else 1
        if function in ("startsWith", "endsWith"):
            return max(1, second * _WALK)
        if operands and operands[0].type.kind == "list" and (function in _WALKS_LIST or function.endswith("ndexOf")):
            return max(1, first * self._element(operands[0]))
        if function in _WALKS_BOTH:
            return max(1, first * _WALK * max(1, second * _WALK))
        if function in _WALKS_FIRST:
            return max(1, first * _WALK)
        if function in _PAIRS:
            return max(1, first * second * self._element(operands[0]) * (2 if function.endswith("equivalent") else 1))
        return 1

    def _element(self, node: Node) -> float:
        """What it costs to look at one element of a list."""
        element = node.type.element
        return max(1, (element.max_size or 0) * _WALK) if _is_sized(element) else 1

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
                if node.iter_var == "#unused":
                    return self.size(node.result) if node.type.max_size is None else node.type.max_size
                return self.size(node.iter_range)
            case Call():
                return self._result_size(node)
        return _limit(node.type)

    def _result_size(self, node: Call) -> int:
        if node.function == "_?_:_":
            return max(self.size(node.args[1]), self.size(node.args[2]))
        if node.function == "_+_":
            return min(UNBOUNDED, self.size(node.args[0]) + self.size(node.args[1]))
        if node.type.max_size is not None or not _is_sized(node.type):
            return _limit(node.type)
        if node.target is not None and _is_sized(node.target.type):
            grown = sum(map(self.size, node.args)) if node.function in ("format", "join", "replace") else 0
            return min(UNBOUNDED, self.size(node.target) + grown)
        return max(map(self.size, node.args), default=UNBOUNDED)


def _is_sized(of: Type) -> bool:
    return of.kind in ("string", "bytes", "list", "map", "dyn")


def _limit(of: Type) -> int:
    if of.max_size is not None:
        return of.max_size
    return UNBOUNDED if _is_sized(of) else 1


def over(what: str, cost: int, limit: int) -> str:
    """How a cost beyond its limit is reported."""
    factor = cost / limit
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    advice = "adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared"
    return f"{what} exceeds budget by factor of {shown} (try simplifying the rule, or {advice})"
