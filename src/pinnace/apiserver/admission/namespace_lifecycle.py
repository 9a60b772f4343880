"""NamespaceLifecycle: nothing is made in a namespace that is not there or is going, and some namespaces must stay.

Beside it two plugins that are off unless asked for: one makes the namespace that is missing, one only asks for it.
https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#namespacelifecycle.
"""

from __future__ import annotations

from dataclasses import replace

from pinnace.apis.resources import NAMESPACES
from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError

_IMMORTAL = ("default", "kube-system", "kube-public")


class NamespaceLifecycle(Plugin):
    async def mutate(self, attributes: Attributes) -> None:
        if attributes.operation == "DELETE":
            self._keep_immortals(attributes)
        elif attributes.operation == "CREATE" and attributes.call.kind.namespaced and attributes.namespace:
            self._need_living_namespace(attributes)

    def _keep_immortals(self, attributes: Attributes) -> None:
        old = attributes.old
        if attributes.resource == ("", "namespaces") and old is not None and old["metadata"]["name"] in _IMMORTAL:
            why = "this namespace may not be deleted"
            raise errors.forbidden("namespaces", old["metadata"]["name"], why)

    def _need_living_namespace(self, attributes: Attributes) -> None:
        call = attributes.call
        found = call.api.storage.cache(NAMESPACES).get(attributes.namespace)
        if found is None:
            raise errors.not_found("namespaces", attributes.namespace)
        if b'"deletionTimestamp"' not in found.raw or not found.obj()["metadata"].get("deletionTimestamp"):
            return
        name = (attributes.obj or {}).get("metadata", {}).get("name") or call.info.name
        kind = call.kind
        why = f"unable to create new content in namespace {attributes.namespace} because it is being terminated"
        refusal = errors.forbidden(kind.plural, name, why, kind.group)
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {attributes.namespace} is being terminated",
            "field": "metadata.namespace",
        }
        raise ApiError(403, "Forbidden", refusal.message, details={**(refusal.details or {}), "causes": [cause]})


class NamespaceAutoProvision(Plugin):
    """The namespace that an object is to be made in is made with it."""

    async def mutate(self, attributes: Attributes) -> None:
        from pinnace.apiserver.handlers.create import create_object

        call = attributes.call
        if attributes.operation != "CREATE" or attributes.dry_run or not _is_missing(attributes):
            return
        kind = call.api.registry.by_gvr(NAMESPACES)
        assert kind is not None
        name = attributes.namespace
        info = call.info._replace(group="", version="v1", resource="namespaces", namespace="", name="", subresource="")
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {}}
        try:
            await create_object(replace(call, kind=kind, info=info), namespace)
        except ApiError as error:
            if not error.is_already_exists:
                raise


class NamespaceExists(Plugin):
    async def validate(self, attributes: Attributes) -> None:
        if attributes.operation in ("CREATE", "UPDATE", "DELETE") and _is_missing(attributes):
            raise errors.not_found("namespaces", attributes.namespace)


def _is_missing(attributes: Attributes) -> bool:
    if not attributes.call.kind.namespaced or not attributes.namespace:
        return False
    return attributes.call.api.storage.cache(NAMESPACES).get(attributes.namespace) is None
