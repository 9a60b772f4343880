"""NamespaceLifecycle: nothing is made in a namespace that is not there or is going, and some namespaces must stay."""

from __future__ import annotations

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
