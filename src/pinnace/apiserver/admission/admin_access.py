"""Administrative access to devices, which others may have, is for namespaces that an administrator marked for it.

https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/#admin-access.
"""

from __future__ import annotations

from pinnace.apis.resources import NAMESPACES, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS
from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.machinery import errors
from pinnace.machinery.meta import Obj, get_in, labels_of

LABEL = "resource.kubernetes.io/admin-access"  # of namespaces; before 1.34 it was another
_OLD_LABEL = "resource.k8s.io/admin-access"


def place_of_admin_access(spec: Obj) -> str:
    """The field of the first request of a claim that asks for it; empty where none does."""
    for index, request in enumerate(get_in(spec, "devices", "requests") or ()):
        if request.get("adminAccess") or get_in(request, "exactly", "adminAccess"):
            return f"spec.devices.requests[{index}].adminAccess"
    return ""


class AdminAccess(Plugin):
    """Not a plugin that can be turned off: the storage of claims is what refuses here."""

    concerns = frozenset((one.group, one.resource) for one in (RESOURCE_CLAIMS, RESOURCE_CLAIM_TEMPLATES))

    async def validate(self, attributes: Attributes) -> None:
        if attributes.operation != "CREATE" or attributes.obj is None or attributes.subresource:
            return
        spec = attributes.obj.get("spec") or {}
        field = place_of_admin_access(spec) or place_of_admin_access(spec.get("spec") or {})
        if not field:
            return
        label = LABEL if attributes.call.api.registry.features.minor >= 34 else _OLD_LABEL
        namespace = attributes.call.api.storage.cache(NAMESPACES).get(attributes.namespace)
        if namespace is not None and labels_of(namespace.obj()).get(label) == "true":
            return
        why = f"admin access to devices requires the `{label}: true` label on the containing namespace"
        kind = attributes.call.kind
        raise errors.invalid(kind.kind, attributes.name, [errors.field_forbidden(field, why)], kind.group)
