"""MutatingAdmissionPolicies as functions: a policy compiled once, and the mutations it makes of one request.

An `ApplyConfiguration` evaluates to an `Object{…}` that is merged into the object as server-side apply merges; a
`JSONPatch` to a list of `JSONPatch{op: …, path: …}`.
https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pinnace.machinery.cel.admission import compiled
from pinnace.machinery.cel.environment import CelError, Environment, Program
from pinnace.machinery.cel.evaluate import Budget
from pinnace.machinery.cel.policy import Common, compile_common, failure
from pinnace.machinery.cel.types import DYN, STRING, Field, Type, list_of, object_type
from pinnace.machinery.cel.values import BudgetExceeded, Duration, Timestamp
from pinnace.machinery.errors import Cause, not_supported, required
from pinnace.machinery.meta import Obj

PATCH_TYPES = ("ApplyConfiguration", "JSONPatch")


class _AnyField(Mapping[str, Field]):
    """Fields of an object whose schema is not known when the policy is written."""

    def __getitem__(self, name: str) -> Field:
        return Field(DYN, name)

    def get(self, name: str, default: Any = None) -> Field:  # noqa: ARG002 - there is always one
        return Field(DYN, name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


_ANY = _AnyField()
OBJECT = object_type("Object", lambda: _ANY)
_PATCH_FIELDS = {"op": STRING, "path": STRING, "from": STRING, "value": DYN}
JSON_PATCH = object_type("JSONPatch", lambda: {name: Field(of, name) for name, of in _PATCH_FIELDS.items()})


class _Structs(Mapping[str, Type]):
    """`Object`, `Object.spec` and so on, and `JSONPatch`."""

    def __getitem__(self, name: str) -> Type:
        if name == "JSONPatch":
            return JSON_PATCH
        if name == "Object" or name.startswith("Object."):
            return OBJECT if name == "Object" else object_type(name, lambda: _ANY)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(("Object", "JSONPatch"))

    def __len__(self) -> int:
        return 2


STRUCTS = _Structs()


class Mutation(NamedTuple):
    kind: Literal["ApplyConfiguration", "JSONPatch"]
    program: Program


@dataclass(slots=True)
class MutatingPolicy(Common):
    """A MutatingAdmissionPolicy, compiled."""

    mutations: list[Mutation] = field(default_factory=list)
    fails: bool = True
    again: bool = False  # reinvocationPolicy: IfNeeded


def compile_mutating(spec: Obj) -> tuple[MutatingPolicy, list[Cause]]:
    """The policy, without what does not compile, and what is wrong with its expressions."""
    causes: list[Cause] = []
    base, common = compile_common(spec, causes)
    inner = Environment(base.minor, base.variables, STRUCTS)
    made = MutatingPolicy(common.conditions, common.variables)
    made.fails = spec.get("failurePolicy") != "Ignore"
    made.again = spec.get("reinvocationPolicy") == "IfNeeded"
    for index, raw in enumerate(spec.get("mutations") or ()):
        found = _mutation(inner, raw, f"spec.mutations[{index}]", causes)
        if found is not None:
            made.mutations.append(found)
    made.names = common.names.union(*(one.program.names for one in made.mutations))
    return made, causes


def _mutation(base: Environment, raw: Obj, path: str, causes: list[Cause]) -> Mutation | None:
    kind = raw.get("patchType")
    if kind == "ApplyConfiguration":
        key, wanted = "applyConfiguration", OBJECT
    elif kind == "JSONPatch":
        key, wanted = "jsonPatch", list_of(JSON_PATCH)
    else:
        missing = required(f"{path}.patchType")
        causes.append(not_supported(f"{path}.patchType", kind, PATCH_TYPES) if kind else missing)
        return None
    given = raw.get(key)
    if given is None:
        causes.append(required(f"{path}.{key}", f"must be specified when patchType is {kind}"))
        return None
    program = compiled(base, given.get("expression") or "", f"{path}.{key}.expression", (wanted,), causes)
    return Mutation(kind, program) if program is not None else None


class MutationFailed(Exception):
    """A mutation could not be worked out; the message is for the author of the request."""


def evaluate(mutation: Mutation, variables: Mapping[str, Any], budget: Budget) -> Any:
    """The configuration to apply, or the JSON patch. Raises MutationFailed."""
    try:
        value = plain(mutation.program.evaluate(variables, budget))
    except (CelError, BudgetExceeded) as error:
        raise MutationFailed(failure(mutation.program, error)) from None
    return value


def plain(value: Any) -> Any:
    """A value of an expression as JSON has it. Raises CelError for what JSON cannot say."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Duration | Timestamp):
        return str(value)
    raise CelError(f"unable to convert {type(value).__name__} to JSON")
