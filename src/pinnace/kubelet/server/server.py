"""The node's HTTPS server: health, pods, logs, exec, attach, port-forward, statistics.

Paths are those of the kubelet that API servers and metrics collectors know. Sessions are handed to the runtime's own
streaming server, translated where it does not speak the client's protocol. Who is let in, `server_auth` knows
(https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import orjson
import structlog

from pinnace.cri.api import AttachRequest, ContainerState, ContainerStatus, CriError, ExecRequest
from pinnace.kubelet.configuration.configz import configuration
from pinnace.kubelet.go_words import rpc_error
from pinnace.kubelet.logs import node_query
from pinnace.kubelet.logs.files import parse_options
from pinnace.kubelet.logs.reader import LogStream, choose_instance
from pinnace.kubelet.pods import containers, find_container
from pinnace.kubelet.statistics import cadvisor, measures, node_metrics, summary
from pinnace.machinery import metrics
from pinnace.machinery.errors import ApiError, bad_request, internal
from pinnace.machinery.meta import Obj, format_time, name_of, namespace_of, uid_of, utc_now
from pinnace.wire import health, log_files, profiling
from pinnace.wire.http import AnyResponse, Request, Response, StreamingResponse
from pinnace.wire.proxy import BackendError, upgrade_proxy
from pinnace.wire.server import Server, serve
from pinnace.wire.tls import TlsConfig
from pinnace.wire.websocket import is_websocket
from pinnace.wire.zpages import ZPages

if TYPE_CHECKING:
    from pinnace.kubelet.kubelet import Kubelet

_log = structlog.get_logger()

_LISTEN_RETRY = 5.0
_JSON = (("Content-Type", "application/json"),)
_TEXT = (("Content-Type", "text/plain; charset=utf-8"),)

_Handler = Callable[["KubeletServer", Request, list[str]], Awaitable[AnyResponse]]


def _json(value: object) -> Response:
    return Response(200, _JSON, orjson.dumps(value))


def _text(text: str, status: int = 200) -> Response:
    return Response(status, _TEXT, text.encode())


@asynccontextmanager
async def _counted(request: Request, server: str) -> AsyncIterator[None]:
    """Count and time a request by the part of the path that says what it is about."""
    first, _, rest = request.path.strip("/").partition("/")
    path = first if first in _ROUTES else "other"
    if path in ("metrics", "stats", "debug") and rest:
        path = f"{path}/{rest.partition('/')[0]}"
    labels = ("true" if first in _LONG else "false", request.method, path, server)
    measures.requests.inc(*labels)
    measures.inflight_requests.inc(*labels)
    try:
        with measures.taking(measures.request_seconds, *labels):
            yield
    finally:
        measures.inflight_requests.inc(*labels, by=-1)


def _fine() -> str:
    """Who answers is well: what answers is what runs the sync loop."""
    return ""


_CHECKS = {"ping": _fine, "log": _fine, "syncloop": _fine}


def _wanted(request: Request) -> tuple[bool, list[str]]:
    """Whether every check shall be told of, and those that shall not count."""
    return "verbose" in request.params(), request.param_list("exclude")


async def start_server(kubelet: Kubelet) -> Server:
    """Listen as the kubelet's options say. Raises OSError."""
    options = kubelet.options
    assert options.tls_cert_file is not None
    assert options.tls_key_file is not None
    tls = TlsConfig(options.tls_cert_file, options.tls_key_file, options.client_ca_file)
    return await serve(KubeletServer(kubelet).handle, [(options.address, options.port)], tls)


async def serve_health(address: str, port: int) -> None:
    """`/healthz` without TLS for the machine's own programs, until cancelled."""

    async def answer(request: Request) -> AnyResponse:
        first, _, name = request.path.strip("/").partition("/")
        if first == "healthz":
            return health.answer(first, name, {"ping": _fine}, *_wanted(request))
        return _text("404 page not found\n", 404)

    await _serve_plain(answer, address, port)


async def serve_read_only(kubelet: Kubelet) -> None:
    """Pods, figures and health without TLS and for everybody, until cancelled."""
    server = KubeletServer(kubelet)

    async def answer(request: Request) -> AnyResponse:
        first = request.path.strip("/").partition("/")[0]
        if first not in _READ_ONLY or request.method != "GET":
            return _text("404 page not found\n", 404)
        async with _counted(request, "readonly"):
            return await server.answer(request)

    await _serve_plain(answer, kubelet.options.address, kubelet.options.read_only_port)


async def _serve_plain(answer: Callable[[Request], Awaitable[AnyResponse]], address: str, port: int) -> None:
    """Serve until cancelled; a port that is taken is tried again."""
    while True:
        try:
            server = await serve(answer, [(address, port)])
            break
        except OSError as error:
            _log.warning("cannot listen", address=address, port=port, error=str(error))
            await asyncio.sleep(_LISTEN_RETRY)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await server.close(0.0)


class KubeletServer:
    """Answers requests about one kubelet."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._results = health.Results()
        options = kubelet.options
        self._pages = ZPages(
            component="kubelet",
            features=options.features,
            flags=options.flags,
            configuration=("kubeletconfig", lambda: configuration(options)),
            paths=("/configz", "/debug", "/flagz", "/healthz", "/metrics", health.SLIS, "/statusz"),
            debug_flags=options.debug_flags,
        )

    async def handle(self, request: Request) -> AnyResponse:
        """One request; errors become their status with a plain text."""
        async with _counted(request, "readwrite"):
            refusal = await self._kubelet.auth.refusal(request)
            if refusal is not None:
                return _text(refusal[1], refusal[0])
            return await self.answer(request)

    async def answer(self, request: Request) -> AnyResponse:
        """The same for somebody who was let in."""
        parts = [unquote(part) for part in request.path.strip("/").split("/")]
        if parts[0] in _DEBUGGING and not self._kubelet.options.enable_debugging_handlers:
            return _text("Debug endpoints are disabled.\n", 405)
        handler = _ROUTES.get(parts[0]) or _ROUTES.get(request.path.strip("/"))
        if handler is None:
            return _text("404 page not found\n", 404)
        allowed = _METHODS.get(parts[0])
        if allowed is not None and request.method not in allowed:
            return Response(405, (*_TEXT, ("Allow", ", ".join(allowed))), b"405: Method Not Allowed")
        try:
            return await handler(self, request, parts[1:])
        except ApiError as error:
            return _text(error.message, error.code)
        except CriError as error:
            code = 404 if error.code == "NOT_FOUND" else 500
            return _text(error.message, code)
        except BackendError as error:
            return _text(str(error), 502)

    # Facts.

    async def healthz(self, request: Request, parts: list[str]) -> AnyResponse:
        return health.answer("healthz", "/".join(parts), _CHECKS, *_wanted(request), self._results)

    async def pods(self, _request: Request, _parts: list[str]) -> AnyResponse:
        of_items = ("kind", "apiVersion")  # which a list has once
        items = [{name: part for name, part in pod.items() if name not in of_items} for pod in self._kubelet.pods()]
        return _json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def running_pods(self, _request: Request, _parts: list[str]) -> AnyResponse:
        items = []
        for runtime in self._kubelet.node.cache.pods.values():
            running = [
                {"name": one.metadata.name, "image": one.image.image, "resources": {}} for one in runtime.running()
            ]
            if running:
                metadata = {"name": runtime.name, "namespace": runtime.namespace, "uid": runtime.uid}
                items.append({"metadata": metadata, "spec": {"containers": running}, "status": {}})
        return _json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def page(self, request: Request, _parts: list[str]) -> AnyResponse:
        return self._pages.answer(request) or _text("404 page not found\n", 404)

    async def debug(self, request: Request, _parts: list[str]) -> AnyResponse:
        found = self._pages.answer(request)
        if found is None and self._kubelet.options.profiling and f"{request.path}/".startswith(profiling.BELOW):
            told = profiling.answer(request)
            found = told if told is None or isinstance(told, Response) else await told
        return found or _text("404 page not found\n", 404)

    async def logs(self, request: Request, _parts: list[str]) -> AnyResponse:
        if not self._kubelet.options.enable_system_log_handler:
            return _text("logs endpoint is disabled.\n", 405)
        options = self._kubelet.options
        if options.enable_system_log_query and options.features.enabled(node_query.GATE):
            return node_query.answer(request)
        return log_files.answer(request)

    async def stats(self, request: Request, parts: list[str]) -> AnyResponse:
        if parts != ["summary"]:
            raise ApiError(404, "NotFound", "404 page not found")
        return _json(await self._summary(request))

    async def metrics(self, _request: Request, parts: list[str]) -> AnyResponse:
        headers = (("Content-Type", "text/plain; version=0.0.4; charset=utf-8"),)
        if parts[:1] == ["resource"]:
            return Response(200, headers, (await node_metrics.resource_metrics(self._kubelet)).encode())
        if parts[:1] == ["cadvisor"]:
            return Response(200, headers, (await cadvisor.metrics(self._kubelet)).encode())
        if parts[:1] == ["probes"]:
            return Response(200, headers, metrics.text(self._kubelet.node.probes.families()).encode())
        if parts == ["slis"]:
            return Response(200, headers, self._results.text())
        if parts:
            raise ApiError(404, "NotFound", "404 page not found\n")
        return Response(200, headers, node_metrics.kubelet_metrics(self._kubelet).encode())

    async def _summary(self, request: Request) -> Obj:
        found = await self._kubelet.summary.read()
        only = (request.params().get("only_cpu_and_memory") or "").lower() in ("1", "t", "true")
        return summary.cpu_and_memory_only(found) if only else found

    # Containers.

    def _pod(self, namespace: str, name: str, uid: str = "") -> Obj:
        pod = self._kubelet.find_pod(namespace, name, uid)
        if pod is None:
            raise ApiError(404, "NotFound", f'pod "{name}" not found')
        return pod

    def _running(self, pod: Obj, name: str, missing: str = 'container not found ("{name}")') -> ContainerStatus:
        """The instance to run something in; the first container where no name is given. Raises with `missing`."""
        name = name or containers(pod)[0]["name"]
        if find_container(pod, name) is not None:
            for status in self._kubelet.node.cache.get(uid_of(pod)).instances(name):
                if status.state is ContainerState.RUNNING:
                    return status
        # Without the words of an internal error before it: clients put "unable to upgrade connection" there.
        raise ApiError(500, "InternalError", missing.format(name=name, pod=f"{name_of(pod)}_{namespace_of(pod)}"))

    async def container_logs(self, request: Request, parts: list[str]) -> AnyResponse:
        if len(parts) != 3:
            raise bad_request(
                f'{{"message": "missing {["podNamespace", "podID", "container name"][min(len(parts), 2)]}."}}'
            )
        namespace, name, container = parts
        options = parse_options(request.params(), utc_now())
        pod = self._pod(namespace, name)
        uid = uid_of(pod)
        runtime = self._kubelet.node.cache.get(uid)
        status = choose_instance(pod, container, runtime, previous=options.previous)
        path = Path(status.log_path)
        if not path.is_file():
            raise internal(f"failed to open log file {str(path)!r}")

        def running() -> bool:
            current = self._kubelet.node.cache.get(uid).running()
            return any(one.id == status.id for one in current)

        stream = LogStream(path, options, running, lambda callback: self._kubelet.workers.listen(uid, callback))
        return StreamingResponse(stream.run, headers=_TEXT)

    def _target(self, parts: list[str]) -> tuple[Obj, str]:
        """`/{namespace}/{pod}[/{uid}]/{container}`."""
        if len(parts) not in (3, 4):
            raise ApiError(404, "NotFound", "404 page not found")
        pod = self._pod(parts[0], parts[1], parts[2] if len(parts) == 4 else "")
        return pod, parts[-1]

    def _translates(self, request: Request) -> bool:
        """Whether the session must be led to the runtime in another protocol than the client's."""
        return is_websocket(request) and not self._kubelet.node.runtime.streams_websockets

    async def _command(self, request: Request, url: str, asked: ExecRequest | AttachRequest, doing: str) -> AnyResponse:
        if not self._translates(request):
            return await upgrade_proxy(request, url)
        from pinnace.wire.stream_translation import translate_remote_command

        return await translate_remote_command(
            request, url, stdin=asked.stdin, stdout=asked.stdout, stderr=asked.stderr, tty=asked.tty, doing=doing
        )

    async def exec(self, request: Request, parts: list[str]) -> AnyResponse:
        pod, name = self._target(parts)
        command = request.param_list("command")
        if not command:
            raise bad_request("you must specify at least 1 of stdin, stdout, stderr")
        stdin, stdout, stderr, tty = _streams(request)
        asked = ExecRequest(
            container_id=self._running(pod, name).id, cmd=command, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr
        )
        url = await self._kubelet.node.runtime.exec(asked)
        return await self._command(request, url, asked, "executing command in container")

    async def attach(self, request: Request, parts: list[str]) -> AnyResponse:
        pod, name = self._target(parts)
        stdin, stdout, stderr, tty = _streams(request)
        asked = AttachRequest(
            container_id=self._running(pod, name, "container {name} not found in pod {pod}").id,
            tty=tty,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
        url = await self._kubelet.node.runtime.attach(asked)
        return await self._command(request, url, asked, "attaching to container")

    async def port_forward(self, request: Request, parts: list[str]) -> AnyResponse:
        if len(parts) not in (2, 3):
            raise ApiError(404, "NotFound", "404 page not found")
        pod = self._pod(parts[0], parts[1], parts[2] if len(parts) == 3 else "")
        sandbox = self._kubelet.node.cache.get(uid_of(pod)).sandbox
        if sandbox is None:
            raise internal(f'pod not found ("{name_of(pod)}")')
        named = [*request.param_list("port"), *request.param_list("ports")]
        ports = [int(port) for text in named for port in text.split(",") if port.isdigit()]
        url = await self._kubelet.node.runtime.port_forward(sandbox.id, ports)
        if not self._translates(request):
            return await upgrade_proxy(request, url)
        from pinnace.wire.stream_translation import translate_port_forward

        return await translate_port_forward(request, url)

    async def run(self, request: Request, parts: list[str]) -> AnyResponse:
        """A command to its end, its output as the answer."""
        pod, name = self._target(parts)
        command = (request.params().get("cmd") or "").split(" ")
        answer = await self._kubelet.node.runtime.exec_sync(self._running(pod, name).id, command)
        output = answer.stdout + answer.stderr
        if answer.exit_code:
            output += f"command '{' '.join(command)}' exited with {answer.exit_code}: ".encode()
        return Response(200 if answer.exit_code == 0 else 500, _TEXT, output)

    async def checkpoint(self, request: Request, parts: list[str]) -> AnyResponse:
        """Write a container's state to an archive below the kubelet's directory; its path as the answer."""
        if not self._kubelet.options.features.enabled("ContainerCheckpoint"):
            return _text("404 page not found\n", 404)
        if len(parts) != 3:
            raise ApiError(404, "NotFound", "404 page not found\n")
        namespace, name, container = parts
        pod = self._kubelet.find_pod(namespace, name)
        if pod is None:
            return _text("pod does not exist", 404)
        if find_container(pod, container) is None:
            return _text(f"container {container} does not exist", 404)
        status = self._running(pod, container)
        made = f"checkpoint-{name}_{namespace}-{container}-{format_time(utc_now())}.tar"
        path = self._kubelet.options.root_dir / "checkpoints" / made
        timeout = int(request.params().get("timeout") or 0)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            await self._kubelet.node.runtime.checkpoint_container(status.id, str(path), timeout)
        except CriError as error:
            text = f"checkpointing of {namespace}/{name}/{container} failed ({rpc_error(error)})"
            return _text(text, 500)
        return _json({"items": [str(path)]})


def _streams(request: Request) -> tuple[bool, bool, bool, bool]:
    """stdin, stdout, stderr, tty; a terminal has no stderr of its own."""
    params = request.params()

    def wanted(*names: str) -> bool:
        return any((params.get(name) or "").lower() in ("1", "true") for name in names)

    stdin, stdout, tty = wanted("input", "stdin"), wanted("output", "stdout"), wanted("tty")
    stderr = wanted("error", "stderr") and not tty
    if not (stdin or stdout or stderr):
        raise bad_request("you must specify at least 1 of stdin, stdout, stderr")
    return stdin, stdout, stderr, tty


# Kubernetes serves these only while enableDebuggingHandlers is true.
_DEBUGGING = ("run", "exec", "attach", "portForward", "containerLogs", "runningpods", "checkpoint", "configz")

_LONG = ("attach", "debug", "exec", "portForward")  # what takes as long as somebody wants it to

# What a port without TLS tells everybody.
_READ_ONLY = ("healthz", "pods", "stats", "metrics")

# Of what answers not all of them. A read is not to have something run.
_METHODS = {
    **dict.fromkeys(("pods", "runningpods", "logs", "containerLogs"), ("GET",)),
    **dict.fromkeys(("stats", "exec", "attach", "portForward"), ("GET", "POST")),
    **dict.fromkeys(("run", "checkpoint"), ("POST",)),
}

_ROUTES: dict[str, _Handler] = {
    "healthz": KubeletServer.healthz,
    "pods": KubeletServer.pods,
    "runningpods": KubeletServer.running_pods,
    "configz": KubeletServer.page,
    "debug": KubeletServer.debug,
    "flagz": KubeletServer.page,
    "logs": KubeletServer.logs,
    "statusz": KubeletServer.page,
    "stats": KubeletServer.stats,
    "metrics": KubeletServer.metrics,
    "containerLogs": KubeletServer.container_logs,
    "exec": KubeletServer.exec,
    "attach": KubeletServer.attach,
    "portForward": KubeletServer.port_forward,
    "run": KubeletServer.run,
    "checkpoint": KubeletServer.checkpoint,
}
