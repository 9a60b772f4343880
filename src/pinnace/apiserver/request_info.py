"""What a request asks for, read from its method and path: verb, resource, namespace, name, subresource.

The scheme of paths is https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pinnace.machinery.meta import GVR

_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NAMESPACE_SUBRESOURCES = ("status", "finalize")


class RequestInfo(NamedTuple):
    """Of a path outside the resources only `verb` (the method in lower case) and `path` say anything."""

    verb: str  # get, list, watch, create, update, patch, delete, deletecollection
    path: str
    is_resource: bool = False
    group: str = ""
    version: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""  # what follows the subresource, for proxies: no leading slash
    is_head: bool = False  # whether the method was HEAD, which asks for the verb of GET
    field_selector: str = ""  # both where an authorizer reads selectors
    label_selector: str = ""

    @property
    def gvr(self) -> GVR:
        return GVR(self.group, self.version, self.resource)

    @property
    def scope(self) -> str:
        """resource, namespace or cluster; empty for a path outside the resources."""
        return "resource" if self.name else "namespace" if self.namespace else "cluster" if self.is_resource else ""


def parse_request(method: str, path: str, watch: bool = False) -> RequestInfo:
    """`watch` is whether the query says so (`?watch=true`), which turns a list into a watch."""
    verb = _VERBS.get(method, method.lower())
    parts = path.split("/")[1:]
    while parts and not parts[-1]:
        parts.pop()
    if len(parts) >= 3 and parts[0] == "api":
        group, version, parts = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, parts = parts[1], parts[2], parts[3:]
    else:
        return RequestInfo(method.lower(), path)
    if parts[0] == "watch" and len(parts) > 1:  # the old form of a watch: /api/v1/watch/pods
        parts, watch = parts[1:], True
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
        namespace, parts = parts[1], parts[2:]
    resource = parts[0]
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 else ""
    rest = "/".join(parts[3:])
    if verb == "get" and watch and not subresource:
        verb = "watch"
    elif verb == "get" and not name:
        verb = "list"
    elif verb == "delete" and not name:
        verb = "deletecollection"
    is_head = method == "HEAD"
    return RequestInfo(verb, path, True, group, version, resource, namespace, name, subresource, rest, is_head)


def selecting(info: RequestInfo, params: Mapping[str, str]) -> RequestInfo:
    """With the selectors of a list, a watch or the deletion of many."""
    if info.verb not in ("list", "watch", "deletecollection"):
        return info
    fields, labels = params.get("fieldSelector", ""), params.get("labelSelector", "")
    return info._replace(field_selector=fields, label_selector=labels)


def by_name(info: RequestInfo, field_selector: str) -> RequestInfo:
    """A list or watch of what has one name is allowed to who may see the object of that name."""
    if info.name or info.verb not in ("list", "watch", "deletecollection"):
        return info
    for requirement in field_selector.split(","):
        field, equals, name = requirement.partition("=")
        if field.strip() == "metadata.name" and equals and name.lstrip("="):
            return info._replace(name=name.lstrip("="))
    return info
