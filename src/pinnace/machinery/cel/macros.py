"""Macros with two variables: `list.all(index, value, …)`, `map.transformMap(key, value, …)` and their like.

The parser leaves them as calls. They become comprehensions with two iteration variables, as
https://github.com/google/cel-go/blob/master/ext/README.md#twovarcomprehensions describes.
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

ACCU = "@result"


def expand(node: Node, text: str) -> Node:
    """The tree with every two-variable macro expanded."""
    match node:
        case Select():
            node.operand = expand(node.operand, text)
        case Call():
            if node.target is not None:
                node.target = expand(node.target, text)
            node.args = [expand(each, text) for each in node.args]
            return _expand_call(node)
        case ListNode():
            node.elements = [expand(each, text) for each in node.elements]
        case MapNode():
            for entry in node.entries:
                entry.key, entry.value = expand(entry.key, text), expand(entry.value, text)
        case StructNode():
            node.entries = [(name, expand(value, text), optional) for name, value, optional in node.entries]
        case Comprehension():
            for part in ("iter_range", "accu_init", "condition", "step", "result"):
                setattr(node, part, expand(getattr(node, part), text))
    return node


def _expand_call(call: Call) -> Node:
    target, args = call.target, call.args
    if target is None or len(args) < 3 or not (isinstance(args[0], Ident) and isinstance(args[1], Ident)):
        return call
    first, second = args[0].name, args[1].name
    at, accu = call.at, Ident(call.at, ACCU)

    def op(function: str, *operands: Node) -> Call:
        return Call(at, function, None, list(operands))

    def loop(init: Node, condition: Node, step: Node, result: Node | None = None) -> Node:
        return Comprehension(at, first, target, ACCU, init, condition, step, result or accu, second)

    true, false = Const(at, True), Const(at, False)
    match call.function, args[2:]:
        case "all", [test]:
            return loop(true, op("@not_strictly_false", accu), op("_&&_", accu, test))
        case "exists", [test]:
            return loop(false, op("@not_strictly_false", op("!_", accu)), op("_||_", accu, test))
        case "exists_one" | "existsOne", [test]:
            one = Const(at, 1)
            step = op("_?_:_", test, op("_+_", accu, one), accu)
            return loop(Const(at, 0), true, step, op("_==_", accu, one))
        case "transformList", [value]:
            return loop(ListNode(at, []), true, op("_+_", accu, ListNode(at, [value])))
        case "transformList", [test, value]:
            step = op("_?_:_", test, op("_+_", accu, ListNode(at, [value])), accu)
            return loop(ListNode(at, []), true, step)
        case "transformMap", [value]:
            return loop(MapNode(at, []), true, op("cel.@mapInsert", accu, Ident(at, first), value))
        case "transformMap", [test, value]:
            step = op("_?_:_", test, op("cel.@mapInsert", accu, Ident(at, first), value), accu)
            return loop(MapNode(at, []), true, step)
        case "transformMapEntry", [entry]:
            return loop(MapNode(at, []), true, op("cel.@mapInsert", accu, entry))
        case "transformMapEntry", [test, entry]:
            step = op("_?_:_", test, op("cel.@mapInsert", accu, entry), accu)
            return loop(MapNode(at, []), true, step)
    return call
