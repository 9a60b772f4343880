"""Protobuf message classes from a table that names their fields: facts, without generated code.

Generated classes pin the release of protobuf that made them; these are made when a module is loaded, with whatever
release is there. Needs `protobuf`, which is no dependency of the core: only those who speak gRPC import this module.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "bool": _FIELD.TYPE_BOOL,
    "bytes": _FIELD.TYPE_BYTES,
    "double": _FIELD.TYPE_DOUBLE,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "string": _FIELD.TYPE_STRING,
    "uint32": _FIELD.TYPE_UINT32,
    "uint64": _FIELD.TYPE_UINT64,
}


def message_classes(package: str, messages: str, enums: str = "") -> dict[str, Any]:
    """The class of every message, by name.

    `messages` has a message a line and a field a word, `name=number:type`, where `*` before the type says repeated and
    the type `map` is one of strings to strings; lines that begin with a blank go on. `enums` has an enumeration a line:
    its name, then its values from 0 on. The names are in a pool of their own, so that another library may bring the
    same ones.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    known_enums = set()
    for line in enums.strip().splitlines():
        name, *values = line.split()
        known_enums.add(name)
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    message: Any = None
    for line in messages.strip().splitlines():
        words = line.split()
        if not line.startswith(" "):
            message = file.message_type.add(name=words.pop(0))
        for word in words:
            name, _, rest = word.partition("=")
            number_text, _, kind = rest.partition(":")
            _add_field(message, f".{package}.", name, int(number_text), kind, known_enums)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        made.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{made.name}"))
        for made in file.message_type
    }


def _add_field(message: Any, scope: str, name: str, number: int, kind: str, enums: set[str]) -> None:
    repeated = kind.startswith("*") or kind == "map"
    kind = kind.removeprefix("*")
    label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if kind in _TYPES:
        field.type = _TYPES[kind]
    elif kind in enums:
        field.type, field.type_name = _FIELD.TYPE_ENUM, scope + kind
    elif kind == "map":
        entry = message.nested_type.add(name="".join(word.capitalize() for word in name.split("_")) + "Entry")
        entry.options.map_entry = True
        for position, part in enumerate(("key", "value"), 1):
            entry.field.add(name=part, number=position, label=_FIELD.LABEL_OPTIONAL, type=_FIELD.TYPE_STRING)
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f"{scope}{message.name}.{entry.name}"
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, scope + kind
