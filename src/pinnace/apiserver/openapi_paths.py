"""The operations that OpenAPI lists for a kind: paths, verbs, parameters and what goes in and out.

Both versions of the document are written of the same `Operation`s, which are listed in the order of their paths.
Names of operations and extensions follow Kubernetes
(https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pinnace.apis.kind import Kind, Subresource
from pinnace.apiserver.discovery import subresources_of
from pinnace.apiserver.handlers.delete import ANSWERS_WITH_OBJECT
from pinnace.machinery.meta import GVK

JSON, YAML = "application/json", "application/yaml"
STATUS = GVK("", "v1", "Status")
DELETE_OPTIONS = GVK("", "v1", "DeleteOptions")
PATCH = GVK("", "v1", "Patch")  # `meta.v1.Patch`, which has no group-version-kind of its own
_WATCH_EVENT = GVK("", "v1", "WatchEvent")
_ANY = ("*/*",)
_PATCHES = ("application/json-patch+json", "application/merge-patch+json")
_STRATEGIC, _APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"

Parameter = tuple[str, str]
"""Name and type of a query parameter."""

_PRETTY: Parameter = ("pretty", "string")
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
    method: str  # get, post, put, patch, delete, head, options
    operation_id: str
    description: str
    tag: str
    action: str = ""  # x-kubernetes-action; empty outside the resources
    gvk: GVK | None = None  # of what the path holds; None outside the resources
    path_parameters: tuple[str, ...] = ()
    query: tuple[Parameter, ...] = ()
    body: GVK | None = None
    answer: GVK | None = None  # None: text
    codes: tuple[int, ...] = (200,)
    consumes: tuple[str, ...] = _ANY
    produces: tuple[str, ...] = (JSON, YAML)


def operations_of(kind: Kind) -> Iterator[Operation]:
    """Every operation on the kind's collection, its objects and their subresources."""
    yield from _collection(kind)
    yield from _item(kind)
    for subresource in subresources_of(kind):
        yield from _below(kind, subresource)
    if "watch" in kind.verbs and not kind.custom:
        yield from _watches(kind)


def group_word(group: str) -> str:
    """`RbacAuthorization` of `rbac.authorization.k8s.io`, `Core` of nothing."""
    return "".join(part.capitalize() for part in group.removesuffix(".k8s.io").split(".")) if group else "Core"


def tag_of(group: str, version: str = "") -> str:
    """`rbacAuthorization_v1`; without a version `rbacAuthorization`."""
    word = group_word(group)
    return f"{word[0].lower()}{word[1:]}" + (f"_{version}" if version else "")


def _words(kind: Kind) -> tuple[str, str, str]:
    """The parts of an operation's name around its verb: group and version, scope, tag."""
    scope = "Namespaced" if kind.namespaced else ""
    return f"{group_word(kind.group)}{kind.version.capitalize()}", scope, tag_of(kind.group, kind.version)


def _one(noun: str) -> str:
    """`a Pod`, `an Event`, `Endpoints`."""
    if noun.endswith("s") and not noun.endswith("ss"):
        return noun
    return f"an {noun}" if noun[0] in "AEIOU" else f"a {noun}"


def _collection(kind: Kind) -> Iterator[Operation]:
    where, scope, tag = _words(kind)
    path = kind.gvr.path("{namespace}" if kind.namespaced else "")
    given = ("namespace",) if kind.namespaced else ()
    if "list" in kind.verbs:
        watched = "watch" in kind.verbs
        everywhere = Operation(
            path=kind.gvr.path(),
            method="get",
            action="list",
            gvk=kind.gvk,
            operation_id=f"list{where}{kind.kind}" + ("ForAllNamespaces" if kind.namespaced else ""),
            description=f"{'list or watch' if watched else 'list'} objects of kind {kind.kind}",
            query=(*_LIST, _PRETTY, *(_WATCH if watched else ())),
            answer=kind.gvk._replace(kind=kind.list_kind),
            produces=(JSON, YAML, f"{JSON};stream=watch") if watched else (JSON, YAML),
            tag=tag,
        )
        yield everywhere
        if kind.namespaced:
            name = f"list{where}{scope}{kind.kind}"
            yield replace(everywhere, path=path, operation_id=name, path_parameters=given)
    if "create" in kind.verbs:
        yield Operation(
            path=path,
            method="post",
            action="post",
            gvk=kind.gvk,
            operation_id=f"create{where}{scope}{kind.kind}",
            description=f"create {_one(kind.kind)}",
            path_parameters=given,
            query=(*_WRITE, _PRETTY),
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
            description=f"delete collection of {kind.kind}",
            path_parameters=given,
            query=(*(one for one in _LIST if one[0] != "allowWatchBookmarks"), *_DELETE, _PRETTY),
            body=DELETE_OPTIONS,
            answer=STATUS,
            tag=tag,
        )


def _watches(kind: Kind) -> Iterator[Operation]:
    """The paths of old, with `/watch/` in front: of all objects, of a namespace's, of one."""
    where, scope, tag = _words(kind)
    namespaces = [("ForAllNamespaces", "", ""), ("", scope, "{namespace}")] if kind.namespaced else [("", "", "")]
    for everywhere, within, namespace in namespaces:
        for name in ("", "{name}") if namespace or not kind.namespaced else ("",):
            given = (*(("name",) if name else ()), *(("namespace",) if namespace else ()))
            what = (
                f"changes to an object of kind {kind.kind}" if name else f"individual changes to a list of {kind.kind}"
            )
            instead = "use the 'watch' parameter with a list operation instead"
            if name:
                instead += ", filtered to a single item with the 'fieldSelector' parameter"
            yield Operation(
                path=kind.gvr.path(namespace, name).replace(kind.gvr.prefix, f"{kind.gvr.prefix}/watch", 1),
                method="get",
                action="watch" if name else "watchlist",
                gvk=kind.gvk,
                operation_id=f"watch{where}{within}{kind.kind}" + ("" if name else f"List{everywhere}"),
                description=f"watch {what}. deprecated: {instead}.",
                path_parameters=given,
                query=(*_LIST, _PRETTY, *_WATCH),
                answer=_WATCH_EVENT,
                produces=(JSON, YAML, f"{JSON};stream=watch"),
                tag=tag,
            )


# Verb of the API: method, the word in the operation's name, what it says it does.
_ITEM_VERBS = {
    "get": ("get", "read", "read {}"),
    "update": ("put", "replace", "replace {}"),
    "patch": ("patch", "patch", "partially update {}"),
    "delete": ("delete", "delete", "delete {}"),
    "create": ("post", "create", "create {}"),
    "head": ("head", "head", ""),
    "options": ("options", "options", ""),
}


def _item(kind: Kind) -> Iterator[Operation]:
    where, scope, tag = _words(kind)
    for verb in ("get", "update", "patch", "delete"):
        if verb not in kind.verbs:
            continue
        method, word, does = _ITEM_VERBS[verb]
        deleted = kind.gvk if (kind.group, kind.plural) in ANSWERS_WITH_OBJECT else STATUS
        yield Operation(
            path=kind.gvr.path("{namespace}" if kind.namespaced else "", "{name}"),
            method=method,
            action=method,
            gvk=kind.gvk,
            operation_id=f"{word}{where}{scope}{kind.kind}",
            description=does.format(_one(kind.kind) if verb == "delete" else f"the specified {kind.kind}"),
            path_parameters=_named(kind),
            query=_query(verb),
            body=_body(verb, kind.gvk),
            answer=deleted if verb == "delete" else kind.gvk,
            codes=_codes(verb),
            consumes=_consumes(verb, kind),
            tag=tag,
        )


def _below(kind: Kind, subresource: Subresource) -> Iterator[Operation]:
    gvk = GVK(
        subresource.group if subresource.version else kind.group,
        subresource.version or kind.version,
        subresource.kind,
    )
    path = kind.gvr.path("{namespace}" if kind.namespaced else "", "{name}", subresource.name)
    if subresource.kind.endswith("Options"):
        yield from _connections(kind, subresource, gvk, path)
        return
    where, scope, tag = _words(kind)
    for verb in subresource.verbs:
        method, word, does = _ITEM_VERBS[verb]
        of = _one(kind.kind) if verb == "create" else f"the specified {kind.kind}"
        is_log = subresource.name == "log"
        yield Operation(
            path=path,
            method=method,
            action=method,
            gvk=gvk,
            operation_id=f"{word}{where}{scope}{kind.kind}{subresource.name.capitalize()}",
            description=does.format(f"{subresource.name} of {of}"),
            path_parameters=_named(kind),
            query=(*_CONNECT["log"], _PRETTY) if is_log else _query(verb),
            body=_body(verb, gvk),
            answer=None if is_log else gvk,
            codes=_codes(verb),
            consumes=_consumes(verb, kind),
            produces=("text/plain",) if is_log else (JSON, YAML),
            tag=tag,
        )


def _connections(kind: Kind, subresource: Subresource, gvk: GVK, path: str) -> Iterator[Operation]:
    """Streams, and proxies of any method, to the root of what is behind them or to a path below it."""
    where, scope, tag = _words(kind)
    is_proxy = subresource.name == "proxy"
    verbs = (*subresource.verbs, "head", "options") if is_proxy else subresource.verbs
    for verb in verbs:
        method = _ITEM_VERBS[verb][0]
        operation = Operation(
            path=path,
            method=method,
            action="connect",
            gvk=gvk,
            operation_id=f"connect{where}{method.capitalize()}{scope}{kind.kind}{subresource.name.capitalize()}",
            description=f"connect {method.upper()} requests to {subresource.name} of {kind.kind}",
            path_parameters=_named(kind),
            query=_CONNECT.get(subresource.name, ()),
            produces=_ANY,
            tag=tag,
        )
        yield operation
        if is_proxy:
            name = f"{operation.operation_id}WithPath"
            given = (*operation.path_parameters, "path")
            yield replace(operation, path=f"{path}/{{path}}", operation_id=name, path_parameters=given)


def _named(kind: Kind) -> tuple[str, ...]:
    return ("name", "namespace") if kind.namespaced else ("name",)


def _consumes(verb: str, kind: Kind) -> tuple[str, ...]:
    """Custom resources have no merge keys: nothing to merge strategically by. kubectl looks here."""
    if verb != "patch":
        return _ANY
    return (*_PATCHES, _APPLY) if kind.custom else (*_PATCHES, _STRATEGIC, _APPLY)


def _query(verb: str) -> tuple[Parameter, ...]:
    match verb:
        case "get":
            return (_PRETTY,)
        case "patch":
            return (*_WRITE, ("force", "boolean"), _PRETTY)
        case "delete":
            return (*_DELETE, _PRETTY)
    return (*_WRITE, _PRETTY)


def _body(verb: str, gvk: GVK) -> GVK | None:
    return {"create": gvk, "update": gvk, "patch": PATCH, "delete": DELETE_OPTIONS}.get(verb)


def _codes(verb: str) -> tuple[int, ...]:
    return {"create": (200, 201, 202), "update": (200, 201), "patch": (200, 201), "delete": (200, 202)}.get(
        verb, (200,)
    )
