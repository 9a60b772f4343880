"""Tells the author of a ValidatingAdmissionPolicy, in its status, which expressions do not fit the kinds it names.

`machinery.cel.type_checking` finds the warnings; here are the kinds, built in and defined by users. Rules with
wildcards are left out, as their kinds are not known.
https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#type-checking.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pinnace.apis import builtin
from pinnace.apis.registry import registry
from pinnace.apis.resources import CUSTOM_RESOURCE_DEFINITIONS, VALIDATING_ADMISSION_POLICIES
from pinnace.client.controller import Controller
from pinnace.client.transport import MERGE_PATCH
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVK, GVR, Obj, get_in, parse_api_version
from pinnace.machinery.schema import Schemas

if TYPE_CHECKING:
    from pinnace.client.client import Client
    from pinnace.client.informer import InformerFactory
    from pinnace.machinery.cel.types import Type

_RULE_PARTS = ("apiGroups", "apiVersions", "resources")


def resources_named(policy: Obj) -> Iterator[GVR]:
    """The resources that a policy names one by one, each once."""
    seen = set()
    for rule in get_in(policy, "spec", "matchConstraints", "resourceRules", default=[]):
        groups, versions, resources = (rule.get(part) or () for part in _RULE_PARTS)
        if any("*" in word for word in (*groups, *versions, *resources)):
            continue
        for group in groups:
            for version in versions:
                for resource in resources:
                    found = GVR(group, version, resource)
                    if "/" not in resource and found not in seen:
                        seen.add(found)
                        yield found


class Kinds:
    """The types of objects, of built-in kinds and of those that definitions serve."""

    def __init__(self, minor: int, definitions: Iterable[Obj]) -> None:
        self._registry = registry(minor)
        self._schemas = Schemas.load(minor)
        self._definitions = definitions

    def of_resource(self, resource: GVR) -> tuple[GVK, Type] | None:
        kind = self._registry.by_gvr(resource)
        if kind is not None:
            return self._builtin(kind.gvk)
        for definition, version in self._versions(resource.group, resource.version):
            if definition["spec"]["names"]["plural"] == resource.resource:
                return self._custom(definition, version)
        return None

    def of_kind(self, kind: GVK) -> tuple[GVK, Type] | None:
        if self._registry.by_gvk(kind) is not None:
            return self._builtin(kind)
        for definition, version in self._versions(kind.group, kind.version):
            if definition["spec"]["names"]["kind"] == kind.kind:
                return self._custom(definition, version)
        return None

    def _builtin(self, kind: GVK) -> tuple[GVK, Type] | None:
        from pinnace.machinery.cel.type_checking import builtin_type

        schema = self._schemas.for_gvk(kind)
        return (kind, builtin_type(schema)) if schema is not None else None

    def _versions(self, group: str, version: str) -> Iterator[tuple[Obj, Obj]]:
        for definition in self._definitions:
            for one in definition["spec"].get("versions") or ():
                if definition["spec"].get("group") == group and one.get("name") == version and one.get("served"):
                    yield definition, one

    def _custom(self, definition: Obj, version: Obj) -> tuple[GVK, Type] | None:
        from pinnace.machinery.cel.schema_types import schema_type

        of = schema_type(get_in(version, "schema", "openAPIV3Schema", default={}), "object", resource=True)
        kind = GVK(definition["spec"]["group"], version["name"], definition["spec"]["names"]["kind"])
        return (kind, of) if of is not None else None


def status_of(policy: Obj, kinds: Kinds) -> Obj:
    """The status that a policy is to have."""
    from pinnace.machinery.cel.type_checking import expression_warnings

    found = [kind for resource in resources_named(policy) if (kind := kinds.of_resource(resource)) is not None]
    params = get_in(policy, "spec", "paramKind", default=None)
    of_params = None
    if params:
        of_params = kinds.of_kind(GVK(*parse_api_version(params.get("apiVersion", "")), params.get("kind", "")))
    warnings = expression_warnings(policy["spec"], found, of_params)
    checked = {"expressionWarnings": warnings} if warnings else {}
    return {"observedGeneration": policy["metadata"].get("generation", 1), "typeChecking": checked}


class ValidatingAdmissionPolicyController(Controller):
    """One key is one policy; its status is written once for every generation."""

    name = "validatingadmissionpolicy-status-controller"

    def __init__(self, client: Client, informers: InformerFactory, minor: int = builtin.NEWEST) -> None:
        self._minor = minor
        super().__init__(client, informers)

    def setup(self) -> None:
        self.policies = self.watch(VALIDATING_ADMISSION_POLICIES)
        self.definitions = self.use(CUSTOM_RESOURCE_DEFINITIONS)

    async def reconcile(self, key: str) -> float | None:
        policy = self.policies.store.get(key)
        if policy is None:
            return None
        if get_in(policy, "status", "observedGeneration", default=None) == policy["metadata"].get("generation"):
            return None
        status = status_of(policy, Kinds(self._minor, self.definitions.store.list()))
        patch = {"metadata": {"resourceVersion": policy["metadata"]["resourceVersion"]}, "status": status}
        try:
            await self.client.patch(
                VALIDATING_ADMISSION_POLICIES, key, patch, content_type=MERGE_PATCH, subresource="status"
            )
        except ApiError as error:
            if not error.is_not_found:
                raise
        return None
