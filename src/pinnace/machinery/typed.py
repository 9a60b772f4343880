"""Values as server-side apply sees them: which are leaves, which maps and lists have parts of their own, and what those
parts are called.

A `Node` says this of one place in a kind's tree; it is made from the kind's `Schema`, or deduced where there is none:
then maps have parts and lists have not. `typed_compare` and `typed_merge` walk two values by it.
https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import orjson

from pinnace.machinery import fieldset
from pinnace.machinery.fieldset import LEAF, SELF, Fields
from pinnace.machinery.json_patch import same
from pinnace.machinery.schema import Schema

Shape = Literal[
    "scalar",
    "atomic",  # a list, map or struct that is owned whole
    "struct",  # fields by name; others only with `element`
    "map",
    "keyed",  # a list whose items have keys
    "set",  # a list of distinct scalars
    "deduced",  # whatever the value shows: a map, or a leaf
]

_KEY_DEFAULTS: dict[tuple[str, str], Any] = {
    ("ContainerPort", "protocol"): "TCP",
    ("ServicePort", "protocol"): "TCP",
    ("LocalObjectReference", "name"): "",
}

_REMEMBERED = 1024  # texts of keys and plans of maps that one node keeps
_REMEMBERED_SPECS = 256
_REMEMBERED_BYTES = 16 << 10  # of the largest of them


class Node:
    """How the value at one place is owned. Shared; what it remembers is only memory."""

    __slots__ = ("_children", "_created", "_schema", "defaults", "element", "exact", "keys", "shape", "texts")

    def __init__(self, shape: Shape, schema: Schema | None) -> None:
        self.shape: Shape = shape
        self.exact = schema is None or hasattr(schema, "preserve")  # no decoder has made the types of values sure
        self._schema = schema
        self._children: dict[str, Node] = {}
        self.element: Node | None = None  # of maps and lists, and of fields that a struct does not name
        self.keys: tuple[str, ...] = ()
        self.defaults: dict[str, Any] = {}  # of keys
        self.texts: dict[Any, str] = {}  # keys -> element
        self._created: dict[bool, Created] = {}

    @property
    def schema(self) -> Schema | None:
        return self._schema

    def field(self, name: str) -> Node | None:
        """What a field or map entry holds; None for a field that there is not."""
        if self.shape == "struct":
            found = self._children.get(name)
            if found is None and self._schema is not None:
                schema = self._schema.fields.get(name)
                if schema is not None:
                    found = self._children[name] = node_of(schema)
            return found or self.element
        return DEDUCED if self.shape == "deduced" else self.element

    def names(self, name: str) -> bool:
        """Whether a struct declares the field."""
        return self.shape == "struct" and self._schema is not None and name in self._schema.fields

    def equal(self, left: Any, right: Any) -> bool:
        return same(left, right) if self.exact else bool(left == right)


def node_of(schema: Schema | None) -> Node:
    """The node of a schema; deduced where there is none."""
    if schema is None:
        return DEDUCED
    found: Node | None = getattr(schema, "_typed", None)
    if found is None:
        found = _make(schema)
        schema._typed = found
        _fill(found, schema)
    return found


def _make(schema: Schema) -> Node:
    preserve: bool | None = getattr(schema, "preserve", None)  # only structural schemas have it
    match schema.type:
        case "object":
            return Node("atomic" if schema.map_type == "atomic" else "struct", schema)
        case "map":
            return Node("atomic" if schema.map_type == "atomic" else "map", schema)
        case "list":
            return Node(_list_shape(schema), schema)
        case "any":
            deduced = preserve is not None and schema.map_type != "atomic"
            return Node("deduced" if deduced else "atomic", schema)
    return Node("scalar", schema)


def _list_shape(schema: Schema) -> Shape:
    if schema.list_type:
        return {"map": "keyed", "set": "set"}.get(schema.list_type, "atomic")  # type: ignore[return-value]
    if "merge" in schema.patch_strategy:
        return "keyed" if schema.patch_merge_key else "set"
    return "atomic"


def _fill(node: Node, schema: Schema) -> None:
    """The parts of a node, once the node itself can be found: schemas may hold themselves."""
    if node.shape in ("map", "keyed", "set"):
        node.element = node_of(schema.items)
    elif node.shape == "struct" and getattr(schema, "preserve", False):
        node.element = DEDUCED
    if node.shape == "keyed" and schema.items is not None:
        node.keys = tuple(schema.list_map_keys or (schema.patch_merge_key,))
        node.defaults = _key_defaults(node.keys, schema.items)


def _key_defaults(keys: tuple[str, ...], item: Schema) -> dict[str, Any]:
    found = {name: default for name in keys if (default := _KEY_DEFAULTS.get((item.short_name, name))) is not None}
    for name in keys:
        raw = getattr(item.fields.get(name), "raw", None)  # a structural schema's own words
        if isinstance(raw, dict) and raw.get("default") is not None:
            found[name] = raw["default"]
    return found


DEDUCED = Node("deduced", None)


# Items of lists.


class ItemError(ValueError):
    """An item of a list cannot be told from others."""


def item_element(node: Node, item: Any) -> str:
    """The path element of an item of a keyed list or a set. Raises ItemError."""
    if node.shape == "set":
        return _set_element(item)
    if type(item) is not dict:
        what = "a null element" if item is None else "non-map elements"
        raise ItemError(f"associative list with keys may not have {what}")
    keys = node.keys
    if len(keys) == 1:
        found = item.get(keys[0])
        text = node.texts.get(found) if type(found) is str else None
        if text is not None:
            return text
    values = {name: item[name] if name in item else node.defaults[name] for name in keys
              if name in item or name in node.defaults}  # fmt: skip
    if not values:
        named = "[" + " ".join(f'"{name}"' for name in keys) + "]"
        raise ItemError(
            f"associative list with keys has an element that omits all key fields {named} "
            "(and doesn't have default values for any key fields)"
        )
    text = fieldset.key(values)
    if len(keys) == 1 and type(found) is str:
        if len(node.texts) >= _REMEMBERED:
            node.texts.clear()
        node.texts[found] = text
    return text


def _set_element(item: Any) -> str:
    if isinstance(item, dict):
        raise ItemError("associative list without keys has an element that's a map type")
    if isinstance(item, list):
        raise ItemError("not supported: associative list with lists as elements")
    if item is None:
        raise ItemError("associative list without keys has an element that's an explicit null")
    return fieldset.value(item)


def is_leaf(node: Node, value: Any) -> bool:
    """Whether the value is owned whole, whatever it holds."""
    shape = node.shape
    return shape in ("scalar", "atomic") or (shape == "deduced" and type(value) is not dict)


# The fields of one value.


def field_set(node: Node, value: Any) -> Fields:
    """The members that a configuration of this value applies. Items that cannot be told apart are left out."""
    if is_leaf(node, value) or not value:
        return LEAF
    found: Fields = {}
    if node.shape in ("keyed", "set"):
        for element, item in _distinct(node, value):
            below = LEAF if item is _MANY or node.element is None else field_set(node.element, item)
            fieldset.put(found, element, below, True)
        return found
    if type(value) is not dict:
        return found
    for name, item in value.items():
        child = node.field(name) or DEDUCED
        if is_leaf(child, item) or item is None or item == {}:
            found["f:" + name] = LEAF
        else:
            below = field_set(child, item) if item else fieldset.EMPTY
            fieldset.put(found, "f:" + name, below, not node.names(name))
    return found


_MANY: Any = object()  # stands for items that share one element


def _distinct(node: Node, items: Any) -> list[tuple[str, Any]]:
    """`(element, item)` for each element, `_MANY` for items of the same."""
    found: dict[str, Any] = {}
    for item in items if type(items) is list else ():
        try:
            element = item_element(node, item)
        except ItemError:
            continue
        found[element] = _MANY if element in found else item
    return list(found.items())


# The fields of a new value, compiled: every POST pays for this walk.

Created = Callable[[Any], Fields]
"""The members that come into being with a value."""

# Fields that every object of their definition has, filled or not, as Go's structs do: they are never created.
_ALWAYS = {"metadata", "spec", "status"}
_ALWAYS_IN = {
    ("DaemonSetSpec", "updateStrategy"),
    ("DeploymentSpec", "strategy"),
    ("Event", "source"),
    ("IngressStatus", "loadBalancer"),
    ("NodeDaemonEndpoints", "kubeletEndpoint"),
    ("NodeStatus", "daemonEndpoints"),
    ("NodeStatus", "nodeInfo"),
    ("PersistentVolumeClaimSpec", "resources"),
    ("PodTemplate", "template"),
    ("ReplicaSetSpec", "template"),
    ("ResourceClaimSpec", "devices"),
    ("ServiceStatus", "loadBalancer"),
    ("StatefulSetSpec", "updateStrategy"),
    ("CustomResourceDefinitionStatus", "acceptedNames"),
}


def created(node: Node, *, present: bool = False) -> Created:
    """A function that gives the members of a new value; `present` if the value's own place was there before."""
    found = node._created.get(present)
    if found is None:
        found = node._created[present] = _compile(node, present)
    return found


def _compile(node: Node, present: bool) -> Created:
    match node.shape:
        case "struct" | "map":
            return _compile_struct(node, present)
        case "keyed" | "set":
            return _compile_list(node, present)
        case "deduced":
            return _created_below if present else _created_deduced
    return lambda _: LEAF


def _created_deduced(value: Any) -> Fields:
    if type(value) is not dict or not value:
        return LEAF
    return {SELF: LEAF, **_created_below(value)}


def _created_below(value: Any) -> Fields:
    return {"f:" + name: _created_deduced(value[name]) for name in sorted(value)}


_Step = tuple[str, str, Created | None]  # name, element, what is below it


def _compile_struct(node: Node, present: bool) -> Created:
    plans: dict[tuple[str, ...], tuple[Fields | None, list[_Step]]] = {}

    def plan(names: tuple[str, ...]) -> tuple[Fields | None, list[_Step]]:
        if len(plans) >= _REMEMBERED:
            plans.clear()
        steps = [(name, "f:" + name, _below_field(node, name, present)) for name in sorted(names)]
        constant = None
        if all(step[2] is None for step in steps):
            constant = {} if present else {SELF: LEAF}
            constant.update({element: LEAF for _, element, _ in steps})
        found = plans[names] = (constant, steps)
        return found

    def walk(value: Any) -> Fields:
        if type(value) is not dict or not value:
            return LEAF
        names = tuple(value)
        constant, steps = plans.get(names) or plan(names)
        if constant is not None:
            return constant
        found: Fields = {} if present else {SELF: LEAF}
        for name, element, below in steps:
            if below is None:
                found[element] = LEAF
            else:
                made = below(value[name])
                if made is not None:
                    found[element] = made
        return found

    return walk


def _below_field(node: Node, name: str, present: bool) -> Created | None:
    """What makes the members of a field; None where it is a leaf in any case."""
    child = node.field(name) or DEDUCED
    if child.shape in ("scalar", "atomic"):
        return None
    if not (present and _is_always_there(node, name)):
        return created(child)
    inner = created(child, present=True)
    if name == "spec":
        inner = _remembered(inner)
    return lambda value: (inner(value) or None) if value else None  # type: ignore[return-value]


def _remembered(inner: Created) -> Created:
    """Pods of one workload have one spec: its bytes are found sooner than its fields."""
    seen: dict[bytes, Fields] = {}

    def walk(value: Any) -> Fields:
        try:
            text = orjson.dumps(value)
        except TypeError:
            return inner(value)
        found = seen.get(text)
        if found is None:
            found = inner(value)
            if len(text) <= _REMEMBERED_BYTES:
                if len(seen) >= _REMEMBERED_SPECS:
                    seen.clear()
                seen[text] = found
        return found

    return walk


def _is_always_there(node: Node, name: str) -> bool:
    schema = node.schema
    if schema is None or not schema.name:
        return name == "metadata"  # of custom resources, whose other fields are no structs
    return name in _ALWAYS or name in schema.required or (schema.short_name, name) in _ALWAYS_IN


def _compile_list(node: Node, present: bool) -> Created:
    element_node = node.element or DEDUCED
    below = None if element_node.shape in ("scalar", "atomic") else created(element_node)

    def walk(value: Any) -> Fields:
        if type(value) is not list or not value:
            return LEAF
        found: Fields = {}
        for item in value:
            try:
                element = item_element(node, item)
            except ItemError:
                continue
            found[element] = LEAF if below is None or element in found else below(item)
        if len(found) > 1:
            found = dict(sorted(found.items()))
        return found if present else {SELF: LEAF, **found}

    return walk
