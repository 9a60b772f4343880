"""The types of a policy's expressions, checked against the kinds it names: warnings for its author, in its status.

https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#type-checking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pinnace.machinery.cel.admission import environment, with_variables
from pinnace.machinery.cel.environment import CompileError, Environment
from pinnace.machinery.cel.schema_types import escape
from pinnace.machinery.cel.types import BOOL, BYTES, DOUBLE, DYN, INT, STRING, TIMESTAMP, Field, Type
from pinnace.machinery.meta import GVK, Obj
from pinnace.machinery.schema import Schema

MOST_KINDS = 10
_SCALARS: dict[str, Type] = {
    "boolean": BOOL,
    "byte": BYTES,
    "integer": INT,
    "micro-time": TIMESTAMP,
    "number": DOUBLE,
    "string": STRING,
    "time": TIMESTAMP,
}


def builtin_type(schema: Schema) -> Type:
    """The type of what a built-in kind's schema describes."""
    if schema.type == "object":
        return Type("object", schema.name or "object", fields=_fields(schema))
    if schema.type in ("list", "map"):
        element = builtin_type(schema.items) if schema.items is not None else DYN
        return Type(schema.type, params=(element,) if schema.type == "list" else (STRING, element))
    return _SCALARS.get(schema.type, DYN)


def _fields(schema: Schema) -> Callable[[], Mapping[str, Field]]:
    found: dict[str, Field] = {}

    def read() -> Mapping[str, Field]:
        if not found:
            for name, child in schema.fields.items():
                if written := escape(name):
                    found[written] = Field(builtin_type(child), name)
        return found

    return read


def expression_warnings(
    spec: Obj, kinds: Sequence[tuple[GVK, Type]], params: tuple[GVK, Type] | None = None
) -> list[Obj]:
    """`status.typeChecking.expressionWarnings` of a policy that names these kinds, and has parameters of that one."""
    contexts = [(kind, _context(spec, of, params)) for kind, of in kinds[:MOST_KINDS]]
    warnings: list[Obj] = []
    for index, validation in enumerate(spec.get("validations") or ()):
        for key in ("expression", "messageExpression"):
            text = validation.get(key)
            told = [f"{_named(kind)}: {why}" for kind, context in contexts if text and (why := _problem(context, text))]
            if told:
                warnings.append({"fieldRef": f"spec.validations[{index}].{key}", "warning": "\n".join(told)})
    return warnings


def _named(kind: GVK) -> str:
    return f"{kind.group}/{kind.version}, Kind={kind.kind}"


def _context(spec: Obj, of: Type, params: tuple[GVK, Type] | None) -> Environment:
    """What expressions may name where the object is of one kind."""
    base = environment(params=bool(spec.get("paramKind")), namespace=True, object_type=of)
    if params is not None:
        base = base.extended(params=params[1])
    types: dict[str, Type] = {}
    for variable in spec.get("variables") or ():
        try:
            found = with_variables(base, dict(types)).compile(variable.get("expression") or "")
        except CompileError:
            types[variable.get("name") or ""] = DYN
        else:
            types[variable.get("name") or ""] = found.result
    return with_variables(base, types)


def _problem(context: Environment, text: str) -> str:
    try:
        context.compile(text)
    except CompileError as error:
        return str(error).removeprefix("compilation failed: ")
    return ""
