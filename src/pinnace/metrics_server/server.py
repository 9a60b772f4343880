"""The API server behind `metrics.k8s.io`: what a Scraper knows, told to Kubernetes' API server and to nobody else.

The API server has authenticated and authorized who asks; it shows its front-proxy certificate. Which pods there are,
and with which labels, is asked of it when somebody wants to know: to follow every change of every pod would cost more.
Paths and words are metrics-server's (https://github.com/kubernetes-sigs/metrics-server).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import orjson
import structlog

from pinnace.apis.resources import PODS
from pinnace.client.client import Client
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, name_of, namespace_of, utc_now
from pinnace.machinery.selectors import SelectorError, parse_fields, parse_labels
from pinnace.metrics_server import objects
from pinnace.metrics_server.objects import BASE, GROUP
from pinnace.metrics_server.scraper import Scraper
from pinnace.wire import health
from pinnace.wire.http import AnyResponse, Request, Response
from pinnace.wire.server import Server, serve
from pinnace.wire.tasks import end_tasks
from pinnace.wire.tls import TlsConfig

_log = structlog.get_logger()

_JSON = (("Content-Type", "application/json"),)
_TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))
_HEALTH = ("/livez", "/readyz", "/healthz")
_FIELDS = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Where it listens, and whom it believes."""

    listen: tuple[str, int]  # port 0: any free one
    cert_file: Path
    key_file: Path
    requestheader_client_ca_file: Path  # who signs certificates of front proxies
    requestheader_allowed_names: Sequence[str] = ()  # their common names; none: any


class MetricsServer:
    """Serves `metrics.k8s.io/v1beta1` from `scraper`."""

    def __init__(self, client: Client, scraper: Scraper, options: ServerOptions) -> None:
        self.address: tuple[str, int] = ("", 0)  # where it listens, real port, once it does
        self._client = client
        self._scraper = scraper
        self._options = options
        self._documents = {path: orjson.dumps(document) for path, document in objects.discovery().items()}
        self._known: dict[bytes, bool] = {}  # certificates, and whether their names are allowed

    async def start(self) -> Server:
        """Listen; OSError where the address is taken."""
        options = self._options
        tls = TlsConfig(options.cert_file, options.key_file, options.requestheader_client_ca_file)
        server = await serve(self.handle, [options.listen], tls)
        self.address = server.addresses[0]
        _log.info("metrics server listening", address="{}:{}".format(*self.address))
        return server

    async def run(self) -> None:
        """Listen and scrape until cancelled. Raises OSError where the address is taken."""
        server = await self.start()
        scraping = asyncio.create_task(self._scraper.run(), name="scraper")
        try:
            await scraping
        finally:
            await end_tasks([scraping])
            await server.close(1.0)

    def handle(self, request: Request) -> AnyResponse | Awaitable[AnyResponse]:
        """One request."""
        path = request.path.rstrip("/") or "/"
        if path.startswith(_HEALTH):
            return self._health(path)
        if not self._is_front_proxy(request):
            return _failure(errors.unauthorized())
        if request.method not in ("GET", "HEAD"):
            return _failure(errors.method_not_allowed())
        if path in self._documents:
            return Response(200, _JSON, self._documents[path])
        if path.startswith("/openapi/"):
            return _openapi(path)
        return self._answer(request)

    # Who asks.

    def _is_front_proxy(self, request: Request) -> bool:
        """TLS lets nobody in whose certificate the front proxies' authority has not signed."""
        der = request.peer.certificate
        if der is None or not request.headers.get("x-remote-user"):
            return False
        if not self._options.requestheader_allowed_names:
            return True
        if der not in self._known:
            if len(self._known) >= 100:
                self._known.clear()
            self._known[der] = _common_name(der) in self._options.requestheader_allowed_names
        return self._known[der]

    # What is answered.

    def _health(self, path: str) -> Response:
        """`/readyz` waits for the first usage; each is unwell when scraping has come to a halt."""
        endpoint, _, name = path.strip("/").partition("/")
        timely, ready = self._scraper.timely, self._scraper.ready
        checks: dict[str, health.Check] = {
            "ping": lambda: "",
            "metric-collection-timely": lambda: "" if timely else "metrics are not collected in time",
        }
        if endpoint == "readyz":
            checks["metric-storage-ready"] = lambda: "" if ready else "no metrics to serve"
        return health.answer(endpoint, name, checks)

    async def _answer(self, request: Request) -> AnyResponse:
        raw = (request.raw_path or request.path).rstrip("/")
        parts = [unquote(part) for part in raw.removeprefix(BASE).strip("/").split("/")] if raw.startswith(BASE) else []
        try:
            return Response(200, _JSON, orjson.dumps(await self._found(parts, request)))
        except SelectorError as error:
            return _failure(errors.bad_request(str(error)))
        except ApiError as error:
            return _failure(error)

    async def _found(self, parts: list[str], request: Request) -> Obj:
        """The object or list that a path below the version names. Raises ApiError."""
        match parts:
            case ["nodes"]:
                return objects.listed("NodeMetrics", self._nodes(Selection.of(request)))
            case ["nodes", name]:
                return objects.alone("NodeMetrics", self._node(name))
            case ["pods"]:
                return objects.listed("PodMetrics", await self._pods("", Selection.of(request)))
            case ["namespaces", namespace, "pods"]:
                return objects.listed("PodMetrics", await self._pods(namespace, Selection.of(request)))
            case ["namespaces", namespace, "pods", name]:
                return objects.alone("PodMetrics", await self._pod(namespace, name))
        raise errors.no_such_path()

    def _nodes(self, selection: Selection) -> Iterator[Obj]:
        now = utc_now()
        labels, fields = parse_labels(selection.labels), parse_fields(selection.fields)
        for node in sorted(self._scraper.nodes.store.list(), key=name_of):
            usage = self._scraper.node_usage(name_of(node))
            wanted = labels.matches(node["metadata"]["labels"]) and fields.matches({"metadata.name": name_of(node)})
            if wanted and usage is not None:
                yield objects.node_metrics(node, usage, now)

    def _node(self, name: str) -> Obj:
        node = self._scraper.nodes.store.get(name)
        if node is None:
            raise errors.not_found("nodes", name)
        usage = self._scraper.node_usage(name)
        if usage is None:
            raise errors.not_found("nodemetrics", name, GROUP)
        return objects.node_metrics(node, usage, utc_now())

    async def _pods(self, namespace: str, selection: Selection) -> list[Obj]:
        pods = await self._client.list(
            PODS,
            namespace,
            label_selector=selection.labels,
            field_selector=selection.fields,
            resource_version="0",
        )
        now = utc_now()
        found = ((pod, self._scraper.pod_usage((namespace_of(pod), name_of(pod)))) for pod in pods["items"])
        return [objects.pod_metrics(pod, usage, now) for pod, usage in found if usage]

    async def _pod(self, namespace: str, name: str) -> Obj:
        pod = await self._client.get(PODS, name, namespace)
        usage = self._scraper.pod_usage((namespace, name))
        if not usage:
            raise errors.not_found("podmetrics", f"{namespace}/{name}", GROUP)
        return objects.pod_metrics(pod, usage, utc_now())


@dataclass(frozen=True, slots=True)
class Selection:
    """Which items a list is to have: selectors as they are written in a query."""

    labels: str
    fields: str

    @classmethod
    def of(cls, request: Request) -> Selection:
        """Raises ApiError for what cannot be selected by, or for a watch: there is none."""
        params = request.params()
        if params.get("watch", "").lower() in ("true", "1"):
            raise errors.method_not_allowed()
        found = cls(params.get("labelSelector", ""), params.get("fieldSelector", ""))
        parse_labels(found.labels)
        for requirement in parse_fields(found.fields).requirements:
            if requirement.field not in _FIELDS:
                known = ", ".join(f'"{field}"' for field in _FIELDS)
                raise errors.bad_request(f'"{requirement.field}" is not a known field selector: only {known}')
        return found


def _failure(error: ApiError) -> Response:
    return Response(error.code, (*_JSON, *error.headers), orjson.dumps(error.to_status()))


_OPENAPI: dict[str, Callable[[], bytes]] = {
    "/openapi/v2": objects.openapi_v2,
    "/openapi/v3": objects.openapi_v3_index,
    f"/openapi/v3{BASE}": objects.openapi_v3,
}


def _openapi(path: str) -> Response:
    document = _OPENAPI.get(path)
    return Response(200, _JSON, document()) if document else _failure(errors.no_such_path())


def _common_name(der: bytes) -> str:
    from cryptography import x509  # only where names are to be looked at
    from cryptography.x509.oid import NameOID

    names = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""
