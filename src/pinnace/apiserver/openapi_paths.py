"""The operations that OpenAPI lists for a kind: paths, verbs, parameters and what goes in and out.

Both versions of the document are made of the same `Operation`s. Names of operations and extensions follow Kubernetes
(https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pinnace.apis.kind import Kind, Subresource
from pinnace.apiserver.discovery import subresources_of
from pinnace.machinery.meta import GVK

STATUS = GVK("", "v1", "Status")
DELETE_OPTIONS = GVK("", "v1", "DeleteOptions")
PATCH = GVK("", "v1", "Patch")  # `meta.v1.Patch`, which has no group-version-kind of its own

Parameter = tuple[str, str]
"""Name and type of a query parameter."""

_WRITE: tuple[Parameter, ...] = (("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"))
_LIST: tuple[Parameter, ...] = (
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
)
_WATCH: tuple[Parameter, ...] = (("watch", "boolean"),)
_DELETE: tuple[Parameter, ...] = (
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
)
_STREAMS: tuple[Parameter, ...] = (
    ("container", "string"),
    ("stderr", "boolean"),
    ("stdin", "boolean"),
    ("stdout", "boolean"),
    ("tty", "boolean"),
)
_CONNECT: dict[str, tuple[Parameter, ...]] = {
    "attach": _STREAMS,
    "exec": (("command", "string"), *_STREAMS),
    "log": (
        ("container", "string"),
        ("follow", "boolean"),
        ("insecureSkipTLSVerifyBackend", "boolean"),
        ("limitBytes", "integer"),
        ("previous", "boolean"),
        ("sinceSeconds", "integer"),
        ("stream", "string"),
        ("tailLines", "integer"),
        ("timestamps", "boolean"),
    ),
    "portforward": (("ports", "integer"),),
    "proxy": (("path", "string"),),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    path: str
    method: str  # get, post, put, patch, delete
    action: str  # x-kubernetes-action
    gvk: GVK  # of what the path holds
    operation_id: str
    description: str
    path_parameters: tuple[str, ...] = ()
    query: tuple[Parameter, ...] = ()
    body: GVK | None = None
    answer: GVK | None = None  # None: plain text
    codes: tuple[int, ...] = (200,)
    tag: str = ""


def operations_of(kind: Kind) -> Iterator[Operation]:
    """Every operation on the kind's collection, its objects and their subresources."""
    yield from _collection(kind)
    yield from _item(kind)
    for subresource in subresources_of(kind):
        yield from _below(kind, subresource)


def _group_word(group: str) -> str:
    """`RbacAuthorization` of `rbac.authorization.k8s.io`, `Core` of nothing."""
    return "".join(part.capitalize() for part in group.removesuffix(".k8s.io").split(".")) if group else "Core"


def _words(kind: Kind) -> tuple[str, str, str]:
    """The parts of an operation's name around its verb: group and version, scope, tag."""
    scope = "Namespaced" if kind.namespaced else ""
    group = _group_word(kind.group)
    return f"{group}{kind.version.capitalize()}", scope, f"{group[0].lower()}{group[1:]}_{kind.version}"


def _collection(kind: Kind) -> Iterator[Operation]:
    where, scope, tag = _words(kind)
    namespace = "{namespace}" if kind.namespaced else ""
    path = kind.gvr.path(namespace)
    given = ("namespace",) if kind.namespaced else ()
    list_gvk = kind.gvk._replace(kind=kind.list_kind)
    if "list" in kind.verbs:
        query = _LIST + (_WATCH if "watch" in kind.verbs else ())
        everywhere = Operation(
            path=kind.gvr.path(),
            method="get",
            action="list",
            gvk=kind.gvk,
            operation_id=f"list{where}{kind.kind}" + ("ForAllNamespaces" if kind.namespaced else ""),
            description=f"list or watch objects of kind {kind.kind}",
            query=query,
            answer=list_gvk,
            tag=tag,
        )
        yield everywhere
        if kind.namespaced:
            yield Operation(
                path=path,
                method="get",
                action="list",
                gvk=kind.gvk,
                operation_id=f"list{where}{scope}{kind.kind}",
                description=everywhere.description,
                path_parameters=given,
                query=query,
                answer=list_gvk,
                tag=tag,
            )
    if "create" in kind.verbs:
        yield Operation(
            path=path,
            method="post",
            action="post",
            gvk=kind.gvk,
            operation_id=f"create{where}{scope}{kind.kind}",
            description=f"create a {kind.kind}",
            path_parameters=given,
            query=_WRITE,
            body=kind.gvk,
            answer=kind.gvk,
            codes=(200, 201, 202),
            tag=tag,
        )
    if "deletecollection" in kind.verbs:
        yield Operation(
            path=path,
            method="delete",
            action="deletecollection",
            gvk=kind.gvk,
            operation_id=f"delete{where}Collection{scope}{kind.kind}",
            description=f"delete a collection of {kind.kind}",
            path_parameters=given,
            query=tuple(sorted({*_LIST, *_DELETE} - {("allowWatchBookmarks", "boolean")})),
            body=DELETE_OPTIONS,
            answer=STATUS,
            tag=tag,
        )


# Verb of the API: method, action, the word in the operation's name, what it says it does.
_ITEM_VERBS = {
    "get": ("get", "get", "read", "read the specified"),
    "update": ("put", "put", "replace", "replace the specified"),
    "patch": ("patch", "patch", "patch", "partially update the specified"),
    "delete": ("delete", "delete", "delete", "delete a"),
    "create": ("post", "post", "create", "create"),
}


def _item(kind: Kind) -> Iterator[Operation]:
    where, scope, tag = _words(kind)
    for verb in ("get", "update", "patch", "delete"):
        if verb not in kind.verbs:
            continue
        method, action, word, does = _ITEM_VERBS[verb]
        yield Operation(
            path=kind.gvr.path("{namespace}" if kind.namespaced else "", "{name}"),
            method=method,
            action=action,
            gvk=kind.gvk,
            operation_id=f"{word}{where}{scope}{kind.kind}",
            description=f"{does} {kind.kind}",
            path_parameters=("name", "namespace") if kind.namespaced else ("name",),
            query=_query(verb),
            body=_body(verb, kind.gvk),
            answer=STATUS if verb == "delete" else kind.gvk,
            codes=_codes(verb),
            tag=tag,
        )


def _below(kind: Kind, subresource: Subresource) -> Iterator[Operation]:
    where, scope, tag = _words(kind)
    gvk = GVK(
        subresource.group if subresource.version else kind.group,
        subresource.version or kind.version,
        subresource.kind,
    )
    connects = subresource.kind.endswith("Options")
    suffix = subresource.name.capitalize()
    for verb in subresource.verbs:
        method, action, word, does = _ITEM_VERBS[verb]
        plain = connects or subresource.name == "log"
        if connects:
            name = f"connect{where}{method.capitalize()}{scope}{kind.kind}{suffix}"
        else:
            name = f"{word}{where}{scope}{kind.kind}{suffix}"
        yield Operation(
            path=kind.gvr.path("{namespace}" if kind.namespaced else "", "{name}", subresource.name),
            method=method,
            action="connect" if connects else action,
            gvk=gvk,
            operation_id=name,
            description=f"connect {method.upper()} requests to {subresource.name} of {kind.kind}"
            if connects
            else f"{does.removesuffix(' the specified')} {subresource.name} of the specified {kind.kind}",
            path_parameters=("name", "namespace") if kind.namespaced else ("name",),
            query=_CONNECT.get(subresource.name, ()) if plain else _query(verb),
            body=None if plain else _body(verb, gvk),
            answer=None if plain else gvk,
            codes=(200,) if plain else _codes(verb),
            tag=tag,
        )


def _query(verb: str) -> tuple[Parameter, ...]:
    match verb:
        case "get":
            return ()
        case "patch":
            return (*_WRITE, ("force", "boolean"))
        case "delete":
            return _DELETE
    return _WRITE


def _body(verb: str, gvk: GVK) -> GVK | None:
    return {"create": gvk, "update": gvk, "patch": PATCH, "delete": DELETE_OPTIONS}.get(verb)


def _codes(verb: str) -> tuple[int, ...]:
    return {"create": (200, 201, 202), "update": (200, 201), "patch": (200, 201), "delete": (200, 202)}.get(
        verb, (200,)
    )
