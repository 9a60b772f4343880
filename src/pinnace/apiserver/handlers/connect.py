"""Ways through the server to something behind it: logs, exec, attach and port-forward of pods, and the proxy paths.

The kubelet does what is asked of a pod; its paths are the real kubelet's. A proxy path leads to whatever listens.
https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/#manually-constructing-apiserver-proxy-urls
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote, urlencode, urlsplit

from pinnace.apis.resources import NODES, PODS
from pinnace.apiserver.backends import bracketed, pass_on, trusting, unreachable
from pinnace.apiserver.call import Call
from pinnace.apiserver.endpoints import ready_endpoints, slices_of
from pinnace.apiserver.handlers import log_options
from pinnace.apiserver.messages import over_websocket
from pinnace.apiserver.relinking import Relinking
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in
from pinnace.wire.http import AnyResponse, Request, Response

_KUBELET_PATHS = {"exec": "exec", "attach": "attach", "portforward": "portForward"}
_STREAM_PARAMS = ("stdin", "stdout", "stderr", "tty")
_LOG_PARAMS = (
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
    "stream",
)


async def log(call: Call) -> AnyResponse:
    """GET of pods/log."""
    pod, request = call.current().obj(), _request(call)
    container = _container(pod, call.params.get("container", ""))
    query = {name: call.params[name] for name in _LOG_PARAMS if name in call.params}
    meta = pod["metadata"]
    numbers = {name: call.number(name) for name in ("sinceSeconds", "tailLines", "limitBytes")}
    streams = call.api.registry.features.enabled("PodLogsQuerySplitStreams")
    log_options.check(meta["name"], call.params, numbers, streams=streams)
    if not get_in(pod, "spec", "nodeName", default=""):
        nothing = Response(200, (("Content-Type", "text/plain"),), b"")  # nothing ran yet, so nothing was written
        return over_websocket(request, nothing)
    path = f"/containerLogs/{meta['namespace']}/{meta['name']}/{container}"
    path += f"?{urlencode(query)}" if query else ""
    url = call.api.backends.kubelet_url(_node_of(pod)) + path
    answer = await call.api.backends.kubelet(
        _without_upgrade(request), _node_of(pod), path, lambda why: ApiError(500, "", f'Get "{url}": {why}')
    )
    if 200 <= answer.status <= 206:
        return over_websocket(request, answer)
    # A kubelet says what is wrong in plain text; clients of this path look for a Status.
    text = answer.body.decode(errors="replace") if isinstance(answer, Response) else ""
    raise errors.from_backend(answer.status, "pods/log", meta["name"], text)


def _without_upgrade(request: Request) -> Request:
    """What the kubelet is asked: messages are made of its answer here."""
    headers = {name: value for name, value in request.headers.items() if name not in ("connection", "upgrade")}
    return replace(request, headers=headers)


async def stream(call: Call) -> AnyResponse:
    """exec, attach and portforward of a pod: an upgraded connection, passed on to the kubelet."""
    pod, request = call.current().obj(), _request(call)
    what = call.info.subresource
    meta = pod["metadata"]
    path = f"/{_KUBELET_PATHS[what]}/{meta['namespace']}/{meta['name']}"
    if what == "portforward":
        query = urlencode([("port", port) for port in request.param_list("ports")])
    else:
        path += f"/{_container(pod, call.params.get('container', ''))}"
        query = urlencode(_stream_query(call, request))
    path = f"{path}?{query}" if query else path
    return await call.api.backends.kubelet(request, _node_of(pod), path, lambda why: ApiError(500, "", why))


def _stream_query(call: Call, request: Request) -> list[tuple[str, str]]:
    """The kubelet's own names for what the client asked for."""
    asked = {name: call.flag(name) for name in _STREAM_PARAMS}
    if not any(asked[name] for name in ("stdin", "stdout", "stderr")):
        raise errors.bad_request("you must specify at least one of stdin, stdout, stderr")
    query = []
    for ours, theirs in (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")):
        if asked[ours] and not (ours == "stderr" and asked["tty"]):
            query.append((theirs, "1"))
    if call.info.subresource == "exec":
        command = request.param_list("command")
        if not command:
            raise errors.bad_request("you must specify at least one command for the container")
        query += [("command", word) for word in command]
    return query


def _container(pod: Obj, asked: str) -> str:
    """The container meant; raises 400 when it is not there, or when none is named and there are several."""
    name = pod["metadata"]["name"]
    spec = pod.get("spec") or {}
    mains = [container["name"] for container in spec.get("containers") or ()]
    inits = [container["name"] for container in spec.get("initContainers") or ()]
    ephemerals = [container["name"] for container in spec.get("ephemeralContainers") or ()]
    if asked:
        if asked not in (*mains, *inits, *ephemerals):
            raise errors.bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    if len(mains) == 1:
        return str(mains[0])
    if not mains:
        raise errors.bad_request(f"a container name must be specified for pod {name}")
    message = f"a container name must be specified for pod {name}, choose one of: [{' '.join(mains)}]"
    if inits:
        message += f" or one of the init containers: [{' '.join(inits)}]"
    raise errors.bad_request(message)


def _node_of(pod: Obj) -> str:
    node = get_in(pod, "spec", "nodeName", default="")
    if not node:
        raise errors.bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
    return str(node)


async def proxy(call: Call) -> AnyResponse:
    """Any method on pods/proxy, services/proxy or nodes/proxy: the request goes to what the name stands for.

    A name may be `[scheme:]name[:port]`.
    """
    request = _request(call)
    scheme, name, port = _split_name(call.info.name)
    rest = "/" + quote(call.info.rest) if call.info.rest else call.params.get("path", "")
    if not rest and _is_page(request):
        _named(call, name)
        query = f"?{request.query}" if request.query else ""
        return Response(301, (("Location", f"{quote(request.path, safe='/:')}/{query}"),), b"")
    rest = rest or "/"
    if request.path.endswith("/") and not rest.endswith("/"):
        rest += "/"
    target = rest + (f"?{request.query}" if request.query else "")
    if call.kind.gvr == NODES and port in ("", "10250"):
        return await call.api.backends.kubelet(request, name, target)
    address, number = _target(call, name, port)
    url = _url(scheme, address, number, target)
    relinking = Relinking(_proxy_path(call), (urlsplit(url).netloc, request.headers.get("host", "")))
    return relinking.answer(await pass_on(request, url, trusting()))


def _is_page(request: Request) -> bool:
    """Whether links may be relative to it: a client that left the last slash out is told to put it there."""
    return request.method in ("GET", "HEAD") and not request.path.endswith("/") and "upgrade" not in request.headers


def _proxy_path(call: Call) -> str:
    info = call.info
    where = f"/namespaces/{info.namespace}" if info.namespace else ""
    return f"/api/v1{where}/{info.resource}/{quote(info.name, safe=':')}/proxy"


def _target(call: Call, name: str, port: str) -> tuple[str, str]:
    """Address and port that a name and a port stand for."""
    named = _named(call, name)
    if call.kind.gvr == NODES:
        return call.api.backends.node_address(named), port
    return _pod_target(named, port) if call.kind.gvr == PODS else _service_target(call, named, port)


def _request(call: Call) -> Request:
    if call.request is None:
        raise errors.bad_request("this path needs a connection of its own")
    return call.request


def _named(call: Call, name: str) -> Obj:
    found = call.cache.get(f"{call.info.namespace}/{name}" if call.info.namespace else name)
    if found is None:
        raise errors.not_found(call.kind.plural, name, call.kind.group)
    return found.obj()


def _split_name(name: str) -> tuple[str, str, str]:
    """Scheme, name, port of `https:web:8443`; the scheme may be empty before its colon."""
    parts = name.split(":")
    if len(parts) == 3 and parts[0] in ("", "http", "https"):
        return parts[0] or "http", parts[1], parts[2]
    if len(parts) == 2:
        return "http", parts[0], parts[1]
    if len(parts) == 1:
        return "http", name, ""
    raise errors.bad_request(f'invalid name "{name}"')


def _url(scheme: str, address: str, port: str, target: str) -> str:
    return f"{scheme}://{bracketed(address)}:{port or ('443' if scheme == 'https' else '80')}{target}"


def _pod_target(pod: Obj, port: str) -> tuple[str, str]:
    address = get_in(pod, "status", "podIP", default="")
    if not address:
        raise errors.bad_request("address not allowed")
    containers = get_in(pod, "spec", "containers", default=[])
    ports = [each for container in containers for each in container.get("ports") or ()]
    if not port:
        port = str(ports[0]["containerPort"]) if ports else "80"
    elif not port.isdigit():
        numbers = [each["containerPort"] for each in ports if each.get("name") == port]
        if not numbers:
            raise errors.bad_request(f'no port named "{port}"')
        port = str(numbers[0])
    return address, port


def _service_target(call: Call, service: Obj, port: str) -> tuple[str, str]:
    """An endpoint of the service that is ready, for the service's port by name or number, its only one if not said."""
    namespace, name = call.info.namespace, service["metadata"]["name"]
    ports = get_in(service, "spec", "ports", default=[])
    chosen = [
        each
        for each in ports
        if (not port and len(ports) == 1) or port in (each.get("name", "-"), str(each.get("port", "")))
    ]
    if not chosen:
        raise errors.unavailable(
            f'no endpoints available for service "{name}"'
            if not port
            else f'no service port "{port}" found for service "{name}"'
        )
    ready = ready_endpoints(slices_of(call.api.storage, namespace, name), chosen[0].get("name", ""))
    if ready:
        return ready[0][0], str(ready[0][1])
    raise unavailable_endpoints(name)


def unavailable_endpoints(name: str) -> errors.ApiError:
    return unreachable(f'no endpoints available for service "{name}"')
