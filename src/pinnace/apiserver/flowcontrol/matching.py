"""Which flow schema a request falls under, and which flow of it the request is part of.

Specified in https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#flowschema.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pinnace.apiserver.authn import User
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery.meta import Obj

_ACCOUNT = "system:serviceaccount:"


def in_order(schemas: Iterable[Obj]) -> list[Obj]:
    """Schemas as they are tried: the first that matches decides."""
    return sorted(schemas, key=lambda each: (each["spec"]["matchingPrecedence"], each["metadata"]["name"]))


def matches(schema: Obj, user: User, info: RequestInfo) -> bool:
    """Whether any rule of the schema speaks of this user and this request."""
    return any(_matches_rule(rule, user, info) for rule in schema["spec"].get("rules") or ())


def distinguisher(schema: Obj, user: User, info: RequestInfo) -> str:
    """What tells the flows of the schema apart: the user's name, the namespace, or nothing."""
    method = (schema["spec"].get("distinguisherMethod") or {}).get("type")
    if method == "ByUser":
        return user.name
    return namespace_of(info) if method == "ByNamespace" else ""


def namespace_of(info: RequestInfo) -> str:
    """A namespace counts as being in itself."""
    return info.name if info.resource == "namespaces" and not info.group and info.name else info.namespace


def _matches_rule(rule: Obj, user: User, info: RequestInfo) -> bool:
    if not any(_is_subject(subject, user) for subject in rule.get("subjects") or ()):
        return False
    if info.is_resource:
        return any(_covers_resource(each, info) for each in rule.get("resourceRules") or ())
    return any(
        _has(each["verbs"], info.verb) and any(_covers_path(url, info.path) for url in each["nonResourceURLs"])
        for each in rule.get("nonResourceRules") or ()
    )


def _is_subject(subject: Obj, user: User) -> bool:
    kind = subject["kind"]
    if kind == "User":
        return subject["user"]["name"] in ("*", user.name)
    if kind == "Group":
        return subject["group"]["name"] == "*" or subject["group"]["name"] in user.groups
    account = subject["serviceAccount"]
    if account["name"] == "*":
        return user.name.startswith(f"{_ACCOUNT}{account['namespace']}:")
    return user.name == f"{_ACCOUNT}{account['namespace']}:{account['name']}"


def _covers_resource(rule: Obj, info: RequestInfo) -> bool:
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    if not (
        _has(rule["verbs"], info.verb) and _has(rule["apiGroups"], info.group) and _has(rule["resources"], resource)
    ):
        return False
    namespace = namespace_of(info)
    return _has(rule.get("namespaces") or (), namespace) if namespace else bool(rule.get("clusterScope"))


def _covers_path(url: str, path: str) -> bool:
    """A URL covers what is below it, with or without an asterisk at its end."""
    return url in ("*", path) or path.startswith(url.removesuffix("*").removesuffix("/") + "/")


def _has(allowed: Sequence[str], value: str) -> bool:
    return value in allowed or "*" in allowed
