"""Nobody lets a policy read for them what they may not read: parameters must be open to the author who names them.

https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#parameter-resources.
"""

from __future__ import annotations

from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.apiserver.authn import User
from pinnace.apiserver.cache import CachedObject
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery import errors
from pinnace.machinery.meta import GVK, GVR, Obj, parse_api_version

_GROUP = "admissionregistration.k8s.io"
_POLICIES = {"mutatingadmissionpolicies", "validatingadmissionpolicies"}
_BINDINGS = {
    "mutatingadmissionpolicybindings": "mutatingadmissionpolicies",
    "validatingadmissionpolicybindings": "validatingadmissionpolicies",
}


class PolicyAuthors(Plugin):
    """Not a plugin that can be turned off: the storage of policies is what refuses here."""

    concerns = frozenset((_GROUP, resource) for resource in (*_POLICIES, *_BINDINGS))

    async def validate(self, attributes: Attributes) -> None:
        group, resource = attributes.resource
        if group != _GROUP or attributes.obj is None or attributes.operation not in ("CREATE", "UPDATE"):
            return
        if resource in _POLICIES:
            _check_policy(attributes, attributes.obj, attributes.old)
        elif resource in _BINDINGS:
            _check_binding(attributes, attributes.obj, attributes.old)


def _check_policy(attributes: Attributes, policy: Obj, old: Obj | None) -> None:
    kind = _spec(policy).get("paramKind")
    if not kind or (old is not None and _spec(old).get("paramKind") == kind):
        return
    if not _may_read(attributes, kind, "*", "*"):
        why = (
            f'user {_shown(attributes.call.user)} must have "get" permission on all objects of the referenced '
            f"paramKind (kind={kind.get('kind')}, apiVersion={kind.get('apiVersion')})"
        )
        _refuse(attributes, policy, "spec.paramKind", why)


def _check_binding(attributes: Attributes, binding: Obj, old: Obj | None) -> None:
    spec, before = _spec(binding), _spec(old or {})
    reference = spec.get("paramRef")
    parts = ("paramRef", "policyName")
    if not reference or (old is not None and all(spec.get(part) == before.get(part) for part in parts)):
        return
    policy = _policy(attributes, spec.get("policyName") or "")
    kind = _spec(policy.obj()).get("paramKind") if policy is not None else None
    name, namespace = reference.get("name") or "*", reference.get("namespace") or "*"
    if not _may_read(attributes, kind or {}, name, namespace):
        why = f'user {_shown(attributes.call.user)} does not have "get" permission on the object referenced by paramRef'
        _refuse(attributes, binding, "spec.paramRef", why)


def _spec(obj: Obj) -> Obj:
    return obj.get("spec") or {}


def _policy(attributes: Attributes, name: str) -> CachedObject | None:
    mine = attributes.call.kind.storage
    cache = attributes.call.api.storage.caches.get(GVR(_GROUP, mine.version, _BINDINGS[mine.resource]))
    return cache.get(name) if cache is not None else None


def _may_read(attributes: Attributes, kind: Obj, name: str, namespace: str) -> bool:
    """Whether the author may get parameters of a kind; of one that is not known, everything."""
    call = attributes.call
    group, version = parse_api_version(kind.get("apiVersion") or "") if kind.get("apiVersion") else ("*", "*")
    found = call.api.registry.by_gvk(GVK(group, version, kind.get("kind") or ""))
    resource = found.plural if found is not None else "*"
    asked = RequestInfo("get", "", True, group, version, resource, namespace, name)
    return call.api.authorizer.decide(call.user, asked)[0]


def _shown(user: User) -> str:
    """As Go prints a user."""
    extra = " ".join(f"{key}:[{' '.join(values)}]" for key, values in sorted(user.extra.items()))
    return f"&{{{user.name} {user.uid} [{' '.join(user.groups)}] map[{extra}]}}"


def _refuse(attributes: Attributes, obj: Obj, path: str, why: str) -> None:
    kind = attributes.call.kind
    raise errors.invalid(kind.kind, obj["metadata"].get("name", ""), [errors.field_forbidden(path, why)], kind.group)
