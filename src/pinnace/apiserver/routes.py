"""Which handler answers which verb on which resource and subresource: one table, and the checks before it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pinnace.apis.kind import Kind
from pinnace.apiserver import freshness
from pinnace.apiserver.admission.chain import Attributes
from pinnace.apiserver.call import Call, Many, One, Result
from pinnace.apiserver.handlers import apply, connect, create, delete, parts, pods, read, reviews, scale, update
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery import errors
from pinnace.wire.http import Response, StreamingResponse

Handler = Callable[[Call], Result | Awaitable[Result]]


def _status_get(call: Call) -> One:
    return read.get(call)


def _patch_with(restrict: update.Restrict) -> Handler:
    async def patch(call: Call) -> One:
        return await apply.patch_with(call, restrict)

    return patch


def _update_with(restrict: update.Restrict) -> Handler:
    async def put(call: Call) -> One:
        return await pods.update_part(call, restrict)

    return put


async def _stream(call: Call) -> Result:
    """exec, attach and portforward, once admission has let them by."""
    options: dict[str, Any] = {"kind": _CONNECT_OPTIONS[call.info.subresource], "apiVersion": "v1"}
    for name in ("stdin", "stdout", "stderr", "tty"):
        if call.flag(name):
            options[name] = True
    if call.params.get("container"):
        options["container"] = call.params["container"]
    if call.info.subresource == "exec" and call.request is not None:
        options["command"] = call.request.param_list("command")
    attributes = Attributes(call, "CONNECT", options, None)
    await call.api.admission.mutate(attributes)
    await call.api.admission.validate(attributes)
    return await connect.stream(call)


async def _delete_collection(call: Call) -> Many:
    return await delete.delete_collection(call)


_VERBS: dict[str, Handler] = {
    "get": read.get,
    "list": read.list_objects,
    "create": create.create,
    "update": update.update,
    "patch": apply.patch,
    "delete": delete.delete,
    "deletecollection": _delete_collection,
}

_EVERY_STATUS: dict[str, Handler] = {"get": _status_get, "update": update.update, "patch": apply.patch}
_EVERY_SCALE: dict[str, Handler] = {"get": scale.get, "update": scale.update, "patch": apply.patch_scale}
_PROXY: dict[str, Handler] = dict.fromkeys(
    ("get", "create", "update", "patch", "delete", "options", "head"), connect.proxy
)
_CONNECT_OPTIONS = {"exec": "PodExecOptions", "attach": "PodAttachOptions", "portforward": "PodPortForwardOptions"}
_CONNECT: dict[str, Handler] = {"get": _stream, "create": _stream}

_SUBRESOURCES: dict[tuple[str, str], dict[str, Handler]] = {
    ("pods", "binding"): {"create": pods.bind},
    ("pods", "eviction"): {"create": pods.evict},
    ("pods", "log"): {"get": connect.log},
    ("pods", "exec"): _CONNECT,
    ("pods", "attach"): _CONNECT,
    ("pods", "portforward"): _CONNECT,
    ("pods", "proxy"): _PROXY,
    ("pods", "ephemeralcontainers"): {
        "get": _status_get,
        "update": _update_with(pods.restrict_ephemeral_containers),
        "patch": _patch_with(pods.restrict_ephemeral_containers),
    },
    ("pods", "resize"): {
        "get": _status_get,
        "update": _update_with(pods.restrict_resize),
        "patch": _patch_with(pods.restrict_resize),
    },
    ("services", "proxy"): _PROXY,
    ("nodes", "proxy"): _PROXY,
    ("serviceaccounts", "token"): {"create": reviews.create_token},
    ("namespaces", "finalize"): {"update": parts.finalize},
    ("certificatesigningrequests", "approval"): {
        "get": _status_get,
        "update": _update_with(parts.only_approval),
        "patch": _patch_with(parts.only_approval),
    },
}

_ANSWERED: dict[str, Handler] = {  # kinds that are not stored, by name
    "Binding": pods.bind_named,
    "TokenReview": reviews.review_token,
    "SelfSubjectReview": reviews.review_self,
    "SubjectAccessReview": reviews.review_access,
    "SelfSubjectAccessReview": reviews.review_access,
    "LocalSubjectAccessReview": reviews.review_access,
    "SelfSubjectRulesReview": reviews.review_rules,
}


async def answer(call: Call) -> Result:
    """What the handler makes of the call, once the caches may answer it."""
    await freshness.settle(call)
    result = find(call.kind, call.info)(call)
    if isinstance(result, One | Many | Response | StreamingResponse):
        return result
    return await result  # type: ignore[no-any-return, misc] # what is left are coroutines


def check_watchable(call: Call) -> None:
    """Raises 405 for a kind without watches, and what a list of this path would raise."""
    if "watch" not in call.kind.verbs:
        raise errors.method_not_allowed()
    find(call.kind, call.info._replace(verb="list"))


def find(kind: Kind, info: RequestInfo) -> Handler:
    """The handler of a request other than a watch. Raises 404 for a path there is not, 405 for a verb it has not.

    Built-in resources answer HEAD nowhere but behind proxies. Custom resources refuse in words of their own.
    """
    if info.is_head and not kind.custom and info.subresource != "proxy":
        raise errors.method_not_allowed()
    if info.namespace and not kind.namespaced:
        raise errors.no_such_path()
    if kind.namespaced and not info.namespace and (info.name or info.verb in ("create", "deletecollection")):
        if info.name or kind.custom:
            raise errors.no_such_path()
        raise errors.method_not_allowed()
    if info.subresource:
        return _find_subresource(kind, info)
    if info.rest or info.verb not in kind.verbs or (info.verb == "create" and info.name):
        raise errors.method_not_allowed()
    if info.verb in ("update", "patch") and not info.name:
        raise errors.bad_request("name must be provided") if kind.custom else errors.method_not_allowed()
    if not kind.is_stored:
        return _ANSWERED[kind.kind]
    if kind.terminating and info.verb == "create":
        raise errors.terminating_definition(kind.plural, info.verb, kind.group)
    return _VERBS[info.verb] if kind.settle is None else _settled(_VERBS[info.verb])


def _settled(handler: Handler) -> Handler:
    """The handler, once the objects it is about can be read in the version of the path."""

    async def handle(call: Call) -> Result:
        assert call.kind.settle is not None
        waiting = call.kind.settle(call.key if call.info.name else "")
        if waiting is not None:
            await waiting
        result = handler(call)
        return result if isinstance(result, One | Many | Response | StreamingResponse) else await result  # type: ignore[misc]

    return handle


def _find_subresource(kind: Kind, info: RequestInfo) -> Handler:
    handlers: dict[str, Handler] | None
    if info.subresource == "status" and kind.has_status:
        handlers = _EVERY_STATUS
    elif info.subresource == "scale" and kind.scale is not None:
        handlers = _EVERY_SCALE
    elif any(each.name == info.subresource for each in kind.subresources):
        handlers = _SUBRESOURCES.get((kind.plural, info.subresource))
    elif kind.custom:
        raise errors.not_found(kind.plural, info.name, kind.group)
    else:
        handlers = None
    if handlers is None or (info.rest and handlers is not _PROXY):
        raise errors.no_such_path()
    handler = handlers.get(info.verb)
    if handler is None:
        raise errors.method_not_allowed()
    return handler if kind.settle is None else _settled(handler)
