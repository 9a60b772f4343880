"""Evaluation: a checked tree becomes nested Python closures, which take the variables and give the value.

On plain JSON objects this is faster than to hand them to another engine, and it leaves room for what Kubernetes adds:
lists that compare as sets, types of its own, a budget of steps. A step is one node evaluated, as in cel-go's count of
cost; what a function does with long strings or lists inside is not counted here (estimates in `cost` do).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pinnace.machinery.cel import ast
from pinnace.machinery.cel.ast import Call, Comprehension, Const, Ident, ListNode, MapNode, Node, Select, StructNode
from pinnace.machinery.cel.collections import adder, comparator
from pinnace.machinery.cel.conversion import converter
from pinnace.machinery.cel.functions import Overload
from pinnace.machinery.cel.types import Type
from pinnace.machinery.cel.values import (
    NONE,
    BudgetExceeded,
    CelError,
    Maybe,
    equal,
    is_a,
    key_of,
    no_such_key,
    no_such_overload,
    type_of,
)

Variables = dict[str, Any]
Run = Callable[[Variables], Any]
BUDGET = "@budget"  # where the variables keep the `Budget`


class Budget:
    """The steps that are left, shared by the evaluations that count together."""

    __slots__ = ("left",)

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise BudgetExceeded("operation cancelled: actual cost limit exceeded")


def compile_node(node: Node) -> Run:
    """The closure of a node."""
    return _COMPILERS[type(node)](node)


def _const(node: Const) -> Run:
    value = node.value
    return lambda _: value


def _ident(node: Ident) -> Run:
    name = node.name
    if node.type.kind == "type" and node.type.params:
        of = node.type.params[0]
        return lambda variables: variables.get(name, of)

    def run(variables: Variables) -> Any:
        try:
            return variables[name]
        except KeyError:
            raise CelError(f"no such attribute(s): {name}") from None

    return run


def _select(node: Select) -> Run:
    if node.constant is not None:
        constant = node.constant
        return lambda _: constant
    if node.variable:
        return _ident(Ident(node.at, node.variable))
    operand, key = compile_node(node.operand), node.key or node.field
    if node.test:
        return lambda variables: _has(operand(variables), key)
    convert = converter(node.type)

    def run(variables: Variables) -> Any:
        value = operand(variables)
        if isinstance(value, dict):
            try:
                return value[key]
            except KeyError:
                raise no_such_key(key) from None
        return _field_of(value, key)

    if convert is None:
        return run
    return lambda variables: convert(run(variables))


def _field_of(value: Any, key: Any) -> Any:
    """A field of what is no map: of an optional, the field of its value, optional too."""
    if isinstance(value, Maybe):
        return _optional_field(value, key)
    raise no_such_overload()


def _has(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return key in value
    if isinstance(value, Maybe):
        return value.present and _has(value.value, key)
    raise no_such_overload()


def _optional_field(value: Any, key: Any) -> Maybe:
    """`value.?key` and `value[?key]`."""
    if isinstance(value, Maybe):
        return _optional_field(value.value, key) if value.present else NONE
    if isinstance(value, dict):
        found = value.get(key_of(key), NONE)
        return NONE if found is NONE else found if isinstance(found, Maybe) else Maybe(True, found)
    if isinstance(value, list) and is_index(key):
        return Maybe(True, value[int(key)]) if 0 <= key < len(value) else NONE
    raise no_such_overload()


def is_index(key: Any) -> bool:
    return not isinstance(key, bool) and (isinstance(key, int) or (isinstance(key, float) and key.is_integer()))


def _index(value: Any, key: Any) -> Any:
    """`value[key]`."""
    if isinstance(value, dict):
        try:
            return value[key_of(key)]
        except KeyError:
            raise no_such_key(key) from None
        except TypeError:
            raise no_such_overload() from None
    if isinstance(value, list):
        if not is_index(key):
            raise no_such_overload()
        if not 0 <= key < len(value):
            raise CelError(f"index out of bounds: {int(key)}")
        return value[int(key)]
    if isinstance(value, Maybe):
        return _optional_field(value, key)
    raise no_such_overload()


# Operators and functions.


def _call(node: Call) -> Run:
    operator = _OPERATORS.get(node.function)
    args = [compile_node(each) for each in ([node.target] if node.target is not None else []) + node.args]
    if operator is not None:
        return operator(node, *args)
    if node.function == "_+_" and len(args) == 2 and node.args[0].type.list_type:
        return _binary(adder(node.args[0].type), args[0], args[1])
    return _function(node.overloads, args, [each.type for each in _operands(node)])


def _operands(node: Call) -> list[Node]:
    return ([node.target] if node.target is not None else []) + node.args


def _binary(impl: Callable[[Any, Any], Any], left: Run, right: Run) -> Run:
    return lambda variables: impl(left(variables), right(variables))


def _function(overloads: list[Overload], args: list[Run], types: list[Type]) -> Run:
    if len(overloads) == 1 and all(map(_is_sure, overloads[0].params, types)):
        impl = overloads[0].impl
        if len(args) == 1:
            [one] = args
            return lambda variables: impl(one(variables))
        if len(args) == 2:
            return _binary(impl, *args)
        return lambda variables: impl(*[each(variables) for each in args])

    def run(variables: Variables) -> Any:
        values = [each(variables) for each in args]
        for overload in overloads:
            if all(map(is_a, values, overload.params)):
                return overload.impl(*values)
        raise no_such_overload()

    return run


def _is_sure(wanted: Type, given: Type) -> bool:
    """Whether the checker's word is enough, so that nothing is looked at when the call runs."""
    return wanted.kind in ("dyn", "param") or given.kind == wanted.kind


def _logical(absorbing: bool) -> Callable[[Call, Run, Run], Run]:
    """`&&`, whose `absorbing` value is false, or `||`: an error gives way to that value on either side."""
    neutral = not absorbing

    def compiled(_: Call, left: Run, right: Run) -> Run:
        def run(variables: Variables) -> Any:
            try:
                first = left(variables)
            except CelError:
                if right(variables) is absorbing:
                    return absorbing
                raise
            if first is absorbing:
                return absorbing
            second = right(variables)
            if first is neutral and second is not True and second is not False:
                raise no_such_overload()
            if first is not neutral and second is not absorbing:
                raise no_such_overload()
            return second

        return run

    return compiled


_and, _or = _logical(False), _logical(True)


def _not(_: Call, operand: Run) -> Run:
    def run(variables: Variables) -> bool:
        value = operand(variables)
        if value is True or value is False:
            return not value
        raise no_such_overload()

    return run


def _not_strictly_false(_: Call, operand: Run) -> Run:
    def run(variables: Variables) -> bool:
        try:
            return operand(variables) is not False
        except CelError:
            return True

    return run


def _conditional(_: Call, condition: Run, then: Run, other: Run) -> Run:
    def run(variables: Variables) -> Any:
        chosen = condition(variables)
        if chosen is True:
            return then(variables)
        if chosen is False:
            return other(variables)
        raise no_such_overload()

    return run


def _equal(node: Call, left: Run, right: Run) -> Run:
    return _binary(comparator(node.args[0].type, node.args[1].type), left, right)


def _not_equal(node: Call, left: Run, right: Run) -> Run:
    same = comparator(node.args[0].type, node.args[1].type)
    return lambda variables: not same(left(variables), right(variables))


def _in(_: Call, needle: Run, haystack: Run) -> Run:
    def run(variables: Variables) -> bool:
        value, among = needle(variables), haystack(variables)
        if isinstance(among, dict):
            try:
                return key_of(value) in among
            except TypeError:
                return False
        if isinstance(among, list):
            return any(equal(value, each) for each in among)
        raise no_such_overload()

    return run


def _type(_: Call, operand: Run) -> Run:
    return lambda variables: type_of(operand(variables))


def _or_value(_: Call, optional: Run, other: Run) -> Run:
    """`optional.orValue(other)`: `other` only where it is needed."""

    def run(variables: Variables) -> Any:
        value = optional(variables)
        if not isinstance(value, Maybe):
            raise no_such_overload()
        return value.value if value.present else other(variables)

    return run


def _or_optional(_: Call, optional: Run, other: Run) -> Run:
    def run(variables: Variables) -> Any:
        value = optional(variables)
        if not isinstance(value, Maybe):
            raise no_such_overload()
        return value if value.present else other(variables)

    return run


def _index_call(_: Call, operand: Run, key: Run) -> Run:
    return _binary(_index, operand, key)


def _optional_call(node: Call, operand: Run, key: Run) -> Run:
    convert = converter(node.type.element)
    if convert is None:
        return _binary(_optional_field, operand, key)

    def run(variables: Variables) -> Any:
        found = _optional_field(operand(variables), key(variables))
        return Maybe(True, convert(found.value)) if found.present else found

    return run


_OPERATORS: dict[str, Callable[..., Run]] = {
    "!_": _not,
    "@in": _in,
    "@not_strictly_false": _not_strictly_false,
    "_!=_": _not_equal,
    "_&&_": _and,
    "_==_": _equal,
    "_?._": _optional_call,
    "_?_:_": _conditional,
    "_[?_]": _optional_call,
    "_[_]": _index_call,
    "_||_": _or,
    "or": _or_optional,
    "orValue": _or_value,
    "type": _type,
}


# Literals.


def _list(node: ListNode) -> Run:
    parts = [(compile_node(each), index in node.optional) for index, each in enumerate(node.elements)]
    if not node.optional:
        plain = [run for run, _ in parts]
        return lambda variables: [run(variables) for run in plain]

    def build(variables: Variables) -> list[Any]:
        made = []
        for run, optional in parts:
            value = run(variables)
            if optional:
                if not value.present:
                    continue
                value = value.value
            made.append(value)
        return made

    return build


def _map(node: MapNode) -> Run:
    parts = [(compile_node(each.key), compile_node(each.value), each.optional) for each in node.entries]

    def run(variables: Variables) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for key, value, optional in parts:
            name, found = key(variables), value(variables)
            if isinstance(name, float | list | dict | None):
                raise CelError(f"unsupported key type: {type_of(name)}")
            if optional:
                if not found.present:
                    continue
                found = found.value
            if name in made:
                raise CelError(f"duplicate key: {name}")
            made[name] = found
        return made

    return run


def _struct(node: StructNode) -> Run:
    parts = [(node.keys.get(name, name), compile_node(value), optional) for name, value, optional in node.entries]

    def run(variables: Variables) -> dict[str, Any]:
        made = {}
        for key, value, optional in parts:
            found = value(variables)
            if optional:
                if not found.present:
                    continue
                found = found.value
            made[key] = found
        return made

    return run


# Comprehensions.


def _comprehension(node: Comprehension) -> Run:
    if node.iter_var == "#unused":
        return _bind(node)
    source = compile_node(node.iter_range)
    weight = sum(1 for _ in ast.walk(node.step)) + 1
    loop = (_quantifier(node) or _collector(node) or _fold)(node)
    first, second = node.iter_var, node.iter_var2

    def run(variables: Variables) -> Any:
        pairs = _iterate(source(variables), bool(second))
        inner = dict(variables)
        budget: Budget | None = variables.get(BUDGET)

        def steps() -> Iterable[None]:
            for one, other in pairs:
                inner[first] = one
                if second:
                    inner[second] = other
                if budget is not None:
                    budget.spend(weight)
                yield None

        return loop(inner, steps())

    return run


Loop = Callable[[Variables, Iterable[None]], Any]


def _iterate(source: Any, two: bool) -> Iterable[tuple[Any, Any]]:
    if isinstance(source, dict):
        return list(source.items())
    if isinstance(source, list):
        return enumerate(source) if two else ((each, None) for each in source)
    raise no_such_overload()


def _bind(node: Comprehension) -> Run:
    """`cel.bind(name, value, result)`: a comprehension over nothing, whose accumulator is the name."""
    value, result, name = compile_node(node.accu_init), compile_node(node.result), node.accu_var
    return lambda variables: result({**variables, name: value(variables)})


def _quantifier(node: Comprehension) -> Callable[[Comprehension], Loop] | None:
    """`all` and `exists`: they stop at what decides, and forget errors if something does."""
    step = node.step
    if not isinstance(node.result, Ident) or not isinstance(step, Call) or not isinstance(node.accu_init, Const):
        return None
    decisive = {"_&&_": False, "_||_": True}.get(step.function)
    if decisive is None or not _is_accu(step.args[0], node):
        return None

    def make(_: Comprehension) -> Loop:
        test = compile_node(step.args[1])

        def loop(inner: Variables, steps: Iterable[None]) -> bool:
            failure: CelError | None = None
            for _ in steps:
                try:
                    found = test(inner)
                except CelError as error:
                    failure = error
                    continue
                if found is decisive:
                    return found
                if found is not (not decisive):
                    failure = no_such_overload()
            if failure is not None:
                raise failure
            return not decisive

        return loop

    return make


def _is_accu(node: Node, of: Comprehension) -> bool:
    return isinstance(node, Ident) and node.name == of.accu_var


def _collector(node: Comprehension) -> Callable[[Comprehension], Loop] | None:
    """`map`, `filter` and `transformList`: one list grows, instead of a new one for each element."""
    step, test = node.step, None
    if isinstance(step, Call) and step.function == "_?_:_" and _is_accu(step.args[2], node):
        test, step = step.args[0], step.args[1]
    if not (isinstance(step, Call) and step.function == "_+_" and _is_accu(step.args[0], node)):
        return None
    added = step.args[1]
    if not (isinstance(added, ListNode) and len(added.elements) == 1 and not added.optional):
        return None
    if not (isinstance(node.accu_init, ListNode) and not node.accu_init.elements and _is_accu(node.result, node)):
        return None

    def make(_: Comprehension) -> Loop:
        value = compile_node(added.elements[0])
        chosen = compile_node(test) if test is not None else None

        def loop(inner: Variables, steps: Iterable[None]) -> list[Any]:
            made = []
            for _ in steps:
                if chosen is not None:
                    wanted = chosen(inner)
                    if wanted is False:
                        continue
                    if wanted is not True:
                        raise no_such_overload()
                made.append(value(inner))
            return made

        return loop

    return make


def _fold(node: Comprehension) -> Loop:
    """Any other comprehension, step by step."""
    init, step, result = compile_node(node.accu_init), compile_node(node.step), compile_node(node.result)
    condition = compile_node(node.condition)
    name = node.accu_var

    def loop(inner: Variables, steps: Iterable[None]) -> Any:
        inner[name] = init(inner)
        for _ in steps:
            if condition(inner) is False:
                break
            inner[name] = step(inner)
        return result(inner)

    return loop


_COMPILERS: dict[type, Callable[[Any], Run]] = {
    Call: _call,
    Comprehension: _comprehension,
    Const: _const,
    Ident: _ident,
    ListNode: _list,
    MapNode: _map,
    Select: _select,
    StructNode: _struct,
}
