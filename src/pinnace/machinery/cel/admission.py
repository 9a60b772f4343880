"""What expressions of admission may name: `object`, `oldObject`, `request`, `namespaceObject`, `params`, `authorizer`.

The object itself is of any type there, and only what the API server makes up (the request, the namespace) has
fields that are checked. https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#validation-expression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pinnace.machinery.cel.environment import CompileError, Environment, Program
from pinnace.machinery.cel.library.authorizer import Authorizer, ResourceCheck
from pinnace.machinery.cel.schema_types import schema_type
from pinnace.machinery.cel.types import BOOL, DYN, Field, Type, object_type
from pinnace.machinery.errors import Cause, duplicate, invalid_value, required, too_many
from pinnace.machinery.meta import Obj
from pinnace.machinery.names import is_qualified_name

NEWEST = 99  # every function there is: an object that was stored may have been written for a newer minor
MOST_CONDITIONS = 64
REQUEST_RESOURCE = "authorizer.requestResource"

_TEXT: Obj = {"type": "string"}
_TEXTS: Obj = {"type": "array", "items": _TEXT}
_TEXT_MAP: Obj = {"type": "object", "additionalProperties": _TEXT}


def _object(**properties: Obj) -> Obj:
    return {"type": "object", "properties": properties}


_KIND = _object(group=_TEXT, version=_TEXT, kind=_TEXT)
_RESOURCE = _object(group=_TEXT, version=_TEXT, resource=_TEXT)
_REQUEST = _object(
    kind=_KIND,
    resource=_RESOURCE,
    subResource=_TEXT,
    requestKind=_KIND,
    requestResource=_RESOURCE,
    requestSubResource=_TEXT,
    name=_TEXT,
    namespace=_TEXT,
    operation=_TEXT,
    userInfo=_object(
        username=_TEXT, uid=_TEXT, groups=_TEXTS, extra={"type": "object", "additionalProperties": _TEXTS}
    ),
    dryRun={"type": "boolean"},
    options={"x-kubernetes-int-or-string": True},  # any type
)
_NAMESPACE = _object(
    metadata=_object(
        name=_TEXT,
        generateName=_TEXT,
        namespace=_TEXT,
        labels=_TEXT_MAP,
        annotations=_TEXT_MAP,
        UID=_TEXT,
        uid=_TEXT,
        creationTimestamp=_TEXT,
        deletionGracePeriodSeconds={"type": "integer"},
        deletionTimestamp=_TEXT,
        generation={"type": "integer"},
        resourceVersion=_TEXT,
        finalizers=_TEXTS,
    ),
    spec=_object(finalizers=_TEXTS),
    status=_object(
        phase=_TEXT,
        conditions={
            "type": "array",
            "items": _object(status=_TEXT, type=_TEXT, lastTransitionTime=_TEXT, message=_TEXT, reason=_TEXT),
        },
    ),
)


def environment(*, params: bool = False, namespace: bool = False, object_type: Type = DYN) -> Environment:
    """Where expressions of admission are compiled; `params` and `namespaceObject` are for policies alone."""
    request = schema_type(_REQUEST, "kubernetes.AdmissionRequest")
    assert request is not None
    known: dict[str, Type] = {
        "object": object_type,
        "oldObject": object_type,
        "request": request,
        "authorizer": Authorizer.cel_type,
        REQUEST_RESOURCE: ResourceCheck.cel_type,
    }
    if params:
        known["params"] = DYN
    if namespace:
        found = schema_type(_NAMESPACE, "kubernetes.Namespace")
        assert found is not None
        known["namespaceObject"] = found
    return Environment(NEWEST, known)


def with_variables(base: Environment, found: Mapping[str, Type]) -> Environment:
    """The environment in which `variables` has these fields."""
    fields = {name: Field(of, name) for name, of in found.items()}
    return base.extended(variables=object_type("kubernetes.variables", lambda: fields))


def compiled(base: Environment, text: str, path: str, wanted: Sequence[Type], causes: list[Cause]) -> Program | None:
    """The program of an expression at `path`; what is wrong with it goes to `causes`."""
    if not text.strip():
        causes.append(required(path, "expression is not specified"))
        return None
    named = ["null_type" if one.kind == "null" else str(one) for one in wanted]
    problem = f"must evaluate to {named[0]}" if len(named) == 1 else f"must evaluate to one of [{' '.join(named)}]"
    try:
        return base.compile(text, tuple(wanted), problem)
    except CompileError as error:
        causes.append(invalid_value(path, text, str(error)))
        return None


def compile_conditions(
    base: Environment, conditions: Sequence[Obj], path: str, causes: list[Cause]
) -> list[tuple[str, Program]]:
    """The match conditions that compile, by name; what is wrong with them goes to `causes`."""
    found: list[tuple[str, Program]] = []
    names: set[str] = set()
    if len(conditions) > MOST_CONDITIONS:
        causes.append(too_many(path, len(conditions), MOST_CONDITIONS))
    for index, condition in enumerate(conditions):
        where, name = f"{path}[{index}]", condition.get("name") or ""
        if not name:
            causes.append(required(f"{where}.name"))
        else:
            causes += [invalid_value(f"{where}.name", name, why) for why in is_qualified_name(name)]
        if name and name in names:
            causes.append(duplicate(f"{where}.name", name))
        names.add(name)
        program = compiled(base, condition.get("expression") or "", f"{where}.expression", (BOOL,), causes)
        if program is not None:
            found.append((name, program))
    return found
