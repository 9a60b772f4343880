"""The type checker: every node gets its type, every call its candidates, every select its name in the data.

Errors are cel-go's, word for word where it has words; all that are found are told, each at its place. Specified in
https://github.com/google/cel-spec/blob/master/doc/langdef.md#type-checking.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    UInt,
    walk,
)
from pinnace.machinery.cel.functions import Library, Overload
from pinnace.machinery.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    ERROR,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    TYPE,
    UINT,
    Bindings,
    Type,
    list_of,
    map_of,
    optional_of,
)

TYPE_NAMES: dict[str, Type] = {
    "bool": BOOL,
    "bytes": BYTES,
    "double": DOUBLE,
    "dyn": DYN,
    "int": INT,
    "list": list_of(DYN),
    "map": map_of(DYN, DYN),
    "null_type": NULL,
    "optional_type": optional_of(DYN),
    "string": STRING,
    "type": TYPE,
    "uint": UINT,
    "google.protobuf.Timestamp": TIMESTAMP,
    "google.protobuf.Duration": DURATION,
    "net.IP": Type("opaque", "net.IP"),
    "net.CIDR": Type("opaque", "net.CIDR"),
}
_CONSTANTS: dict[type, Type] = {
    bool: BOOL,
    bytes: BYTES,
    float: DOUBLE,
    int: INT,
    str: STRING,
    type(None): NULL,
    UInt: UINT,
}


class Checker:
    """Checks one expression."""

    def __init__(self, variables: Mapping[str, Type], library: Library, structs: Mapping[str, Type]) -> None:
        self._scopes: list[Mapping[str, Type]] = [variables]
        self._library = library
        self._structs = structs
        self._bindings = Bindings()
        self._mixed: set[int] = set()  # lists whose elements need not be of one type
        self.problems: list[tuple[int, str]] = []

    def check(self, node: Node) -> Type:
        """The type of the whole; `problems` says what is wrong with it."""
        found = self._bindings.final(self._visit(node))
        self._finish(node)
        return found

    def _finish(self, root: Node) -> None:
        for node in walk(root):
            node.type = self._bindings.final(node.type)

    def _complain(self, node: Node, message: str) -> Type:
        self.problems.append((node.at, message))
        return ERROR

    def _visit(self, node: Node) -> Type:
        match node:
            case Const():
                found = _CONSTANTS[type(node.value)]
            case Ident():
                found = self._ident(node)
            case Select():
                found = self._select(node)
            case Call():
                found = self._call(node)
            case ListNode():
                found = self._list(node)
            case MapNode():
                found = self._map(node)
            case StructNode():
                found = self._struct(node)
            case Comprehension():
                found = self._comprehension(node)
            case _:
                raise TypeError(node)
        node.type = found
        return found

    def _variable(self, name: str) -> Type | None:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        return None

    def _ident(self, node: Ident) -> Type:
        node.name = node.name.removeprefix(".")
        found = self._variable(node.name)
        if found is not None:
            return found
        if node.name in TYPE_NAMES:
            return Type("type", params=(TYPE_NAMES[node.name],))
        return self._undeclared(node, node.name)

    def _undeclared(self, node: Node, name: str) -> Type:
        return self._complain(node, f"undeclared reference to '{name}' (in container '')")

    def _select(self, node: Select) -> Type:
        path = _path(node)
        variable = self._variable(path) if path and not node.test else None
        if variable is not None:
            node.variable = path
            return variable
        if path in TYPE_NAMES and not node.test and self._variable(path.partition(".")[0]) is None:
            node.constant = TYPE_NAMES[path]
            return Type("type", params=(node.constant,))
        operand = self._bindings.resolve(self._visit(node.operand))
        found = self._field(node, operand, node.field)
        return BOOL if node.test else found

    def _field(self, node: Node, operand: Type, name: str) -> Type:
        """The type of a field of `operand`; sets the name in the data."""
        if operand.kind == "optional":
            inner = self._field(node, self._bindings.resolve(operand.element), name)
            return inner if inner.kind in ("optional", "!error!") else optional_of(inner)
        if operand.kind == "map":
            return operand.element
        if operand.kind == "object":
            assert operand.fields is not None
            known = operand.fields().get(name)
            if known is None:
                return self._complain(node, f"undefined field '{name}'")
            if isinstance(node, Select):
                node.key = known.key
            return known.type
        if operand.kind in ("dyn", "param", "!error!"):
            return DYN
        return self._complain(node, f"type '{operand}' does not support field selection")

    def _call(self, node: Call) -> Type:
        if node.function == "_?._":
            return self._optional_select(node)
        target = node.target
        if target is not None:
            qualified = f"{_path(target)}.{node.function}" if _path(target) else ""
            if (qualified, False) in self._library and self._variable(qualified.partition(".")[0]) is None:
                node.function, node.target, target = qualified, None, None
        if target is not None and node.function == "format":  # takes values of any types
            self._mixed |= {id(each) for each in node.args}
        args = [self._visit(each) for each in ([target] if target is not None else []) + node.args]
        candidates = self._library.get((node.function, target is not None))
        if candidates is None:
            return self._undeclared(node, node.function)
        return self._resolve(node, candidates, args)

    def _resolve(self, node: Call, candidates: list[Overload], args: list[Type]) -> Type:
        """The result of a call: that of its overload, or dyn where several may apply with other results."""
        args = [self._bindings.resolve(each) for each in args]
        result: Type | None = None
        for overload in candidates:
            fresh = self._bindings.fresh((*overload.params, overload.result))
            if not self._bindings.accepts(fresh[:-1], args):
                continue
            node.overloads.append(overload)
            one = self._bindings.resolve(fresh[-1])
            result = one if result is None or result == one else DYN
        if result is None:
            shown = [str(self._bindings.final(each)) for each in args]
            text = f"({', '.join(shown)})" if node.target is None else f"{shown[0]}.({', '.join(shown[1:])})"
            return self._complain(node, f"found no matching overload for '{node.function}' applied to '{text}'")
        return _keeping_lists(node, result, args)

    def _optional_select(self, node: Call) -> Type:
        operand = self._bindings.resolve(self._visit(node.args[0]))
        self._visit(node.args[1])
        name = node.args[1].value if isinstance(node.args[1], Const) else ""
        inner = self._field(node, operand, name)
        if operand.kind in ("object", "optional"):
            of = self._bindings.resolve(operand.element) if operand.kind == "optional" else operand
            if of.kind == "object" and of.fields is not None and name in of.fields():
                node.args[1] = Const(node.args[1].at, of.fields()[name].key)
        return inner if inner.kind in ("optional", "!error!") else optional_of(inner)

    def _list(self, node: ListNode) -> Type:
        element: Type | None = None
        for index, each in enumerate(node.elements):
            found = self._visit(each)
            if index in node.optional:
                found = self._unwrapped(each, found)
            element = DYN if id(node) in self._mixed else self._joined(each, element, found)
        return list_of(element if element is not None else self._bindings.new())

    def _map(self, node: MapNode) -> Type:
        key: Type | None = None
        value: Type | None = None
        for entry in node.entries:
            key = self._joined(entry.key, key, self._visit(entry.key))
            found = self._visit(entry.value)
            if entry.optional:
                found = self._unwrapped(entry.value, found)
            value = self._joined(entry.value, value, found)
        return map_of(key or self._bindings.new(), value or self._bindings.new())

    def _unwrapped(self, node: Node, found: Type) -> Type:
        found = self._bindings.resolve(found)
        if found.kind == "optional":
            return found.element
        if found.kind not in ("dyn", "!error!"):
            self._complain(node, f"expected type 'optional_type(dyn)' but found '{found}'")
        return DYN

    def _joined(self, node: Node, known: Type | None, found: Type) -> Type:
        """Literals hold values of one type: Kubernetes asks for that, CEL does not."""
        if known is None:
            return found
        joined = self._bindings.join(known, found) or self._bindings.join(found, known)
        if joined is None:
            known, found = self._bindings.final(known), self._bindings.final(found)
            self._complain(node, f"expected type '{known}' but found '{found}'")
            return DYN
        return joined

    def _struct(self, node: StructNode) -> Type:
        known = self._structs.get(node.name)
        for name, value, optional in node.entries:
            found = self._visit(value)
            if optional:
                found = self._unwrapped(value, found)
            if known is None or known.fields is None:
                continue
            wanted = known.fields().get(name)
            if wanted is None:
                self._complain(value, f"undefined field '{name}'")
                continue
            node.keys[name] = wanted.key
            if not self._bindings.accepts([wanted.type], [found]):
                found = self._bindings.final(found)
                self._complain(
                    value, f"expected type of field '{name}' is '{wanted.type}' but provided type is '{found}'"
                )
        return known if known is not None else self._undeclared(node, node.name)

    def _comprehension(self, node: Comprehension) -> Type:
        source = self._bindings.resolve(self._visit(node.iter_range))
        first, second = self._iterated(node, source)
        accu = self._visit(node.accu_init)
        self._scopes.append({node.accu_var: accu})
        inner = {node.iter_var: first} if not node.iter_var2 else {node.iter_var: first, node.iter_var2: second}
        self._scopes.append(inner)
        self._expect(node.condition, self._visit(node.condition), BOOL)
        self._expect(node.step, self._visit(node.step), accu)
        self._scopes.pop()
        result = self._visit(node.result)
        self._scopes.pop()
        return result

    def _iterated(self, node: Comprehension, source: Type) -> tuple[Type, Type]:
        """The types of the iteration variables; the second counts where there are two."""
        if source.kind == "list":
            return (INT, source.element) if node.iter_var2 else (source.element, DYN)
        if source.kind == "map":
            return source.params[0], source.params[1]
        if source.kind not in ("dyn", "param", "!error!"):
            text = f"expression of type '{source}' cannot be range of a comprehension (must be list, map, or dynamic)"
            self._complain(node.iter_range, text)
        return DYN, DYN

    def _expect(self, node: Node, found: Type, wanted: Type) -> None:
        if not self._bindings.accepts([wanted], [found]):
            wanted, found = self._bindings.final(wanted), self._bindings.final(found)
            self._complain(node, f"expected type '{wanted}' but found '{found}'")


def _keeping_lists(node: Call, result: Type, args: list[Type]) -> Type:
    """What `+` makes of two sets or lists of type map is one again."""
    if node.function == "_+_" and result.kind == "list" and args[0].list_type and args[0].kind == "list":
        of = args[0]
        return Type("list", params=result.params, list_type=of.list_type, list_keys=of.list_keys)
    return result


def _path(node: Node) -> str:
    """`a.b.c` of a chain of names; empty for anything else."""
    match node:
        case Ident():
            return node.name.removeprefix(".")
        case Select(test=False):
            head = _path(node.operand)
            return f"{head}.{node.field}" if head else ""
    return ""
