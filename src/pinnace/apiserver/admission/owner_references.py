"""OwnerReferencesPermissionEnforcement: who makes an object go with an owner could have deleted it, and who makes an
owner wait for it could have given that owner a finalizer. Off unless asked for.

https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#ownerreferencespermissionenforcement.
"""

from __future__ import annotations

from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery.meta import GVK, Obj, parse_api_version


class OwnerReferencesPermissionEnforcement(Plugin):
    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if obj is None or attributes.operation not in ("CREATE", "UPDATE"):
            return
        if (attributes.resource, attributes.subresource) == (("", "pods"), "status"):
            return
        owners, before = _owners(obj), _owners(attributes.old or {})
        if owners == before:
            return
        call = attributes.call
        asked = call.info._replace(verb="delete", name=attributes.name)
        allowed, reason = call.api.authorizer.decide(call.user, asked)
        if not allowed:
            raise attributes.forbidden(f"cannot set an ownerRef on a resource you can't delete: {reason}, <nil>")
        for reference in newly_blocking(owners, before):
            self._check_owner(attributes, reference)

    def _check_owner(self, attributes: Attributes, reference: Obj) -> None:
        call = attributes.call
        api_version, kind_name = reference.get("apiVersion", ""), reference.get("kind", "")
        group, version = parse_api_version(api_version)
        kind = call.api.registry.by_gvk(GVK(group, version, kind_name))
        if kind is None:
            raise attributes.forbidden(
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion "
                f'{api_version} Kind {kind_name}: no matches for kind "{kind_name}" in version "{api_version}"'
            )
        namespace = attributes.namespace if kind.namespaced else ""
        name = reference.get("name", "")
        asked = RequestInfo("update", "", True, group, version, kind.plural, namespace, name, "finalizers")
        allowed, reason = call.api.authorizer.decide(call.user, asked)
        if not allowed:
            raise attributes.forbidden(
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: "
                f"{reason}, <nil>"
            )


def _owners(obj: Obj) -> list[Obj]:
    return (obj.get("metadata") or {}).get("ownerReferences") or []


def newly_blocking(owners: list[Obj], before: list[Obj]) -> list[Obj]:
    """The references that hold up the deletion of their owner, and did not before."""
    blocked = {owner.get("uid") for owner in before if owner.get("blockOwnerDeletion")}
    return [owner for owner in owners if owner.get("blockOwnerDeletion") and owner.get("uid") not in blocked]
