"""Paths outside the resources: version, health, metrics, discovery, OpenAPI, the issuer of tokens."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Awaitable, Mapping

import orjson

from pinnace.apis.registry import Registry
from pinnace.apiserver.aggregation.aggregator import Aggregator
from pinnace.apiserver.aggregation.documents import with_backends
from pinnace.apiserver.api import Api
from pinnace.apiserver.discovery import Discovery, Document
from pinnace.apiserver.flowcontrol.controller import FlowControl
from pinnace.apiserver.health import Hooks
from pinnace.apiserver.metrics import Metrics
from pinnace.apiserver.openapi import OpenApi
from pinnace.apiserver.request_info import RequestInfo
from pinnace.apiserver.storage import storage_failure
from pinnace.machinery import errors, metrics
from pinnace.machinery.meta import Obj, utc_now
from pinnace.store import snapshot
from pinnace.store.contract import StoreError
from pinnace.store.snapshot import SERVED_AT
from pinnace.wire import health
from pinnace.wire.http import AnyResponse, Request, Response
from pinnace.wire.zpages import ZPages

_JSON = ("Content-Type", "application/json")
_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_STORE_SECONDS = 2.0  # for the store to answer a health check
_HEALTH = ("healthz", "livez", "readyz")
_HEADED = ("", "metrics", "openapi")  # the first parts of paths that answer HEAD
_GATED = (("/flagz", "ComponentFlagz"), ("/statusz", "ComponentStatusz"))
_METHODS = ("head", "post", "put", "patch", "delete", "options")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class PublicPaths:
    def __init__(
        self, api: Api, counts: Metrics, aggregator: Aggregator, flow_control: FlowControl | None = None
    ) -> None:
        self._api = api
        self._aggregator = aggregator
        self._metrics = counts
        self._flow_control = flow_control
        self._minor = api.registry.minor
        self._git_version = f"v1.{self._minor}.0"
        self._openapi = OpenApi(api.schemas, api.registry.builtin, self._git_version)
        self._published = api.registry.generation, 0  # the generations of registry and servers that OpenAPI speaks of
        self._discovery: tuple[int, Discovery] | None = None  # with the registry's generation it was made of
        self._merged: dict[tuple[str, str], Document] = {}  # with registered servers, by path and content type
        self._merged_of = 0, 0
        self._pages = ZPages(
            component="kube-apiserver",
            features=api.registry.features,
            flags=api.options.flags,
            paths=("/debug", "/flagz", "/healthz", "/livez", "/metrics", health.SLIS, "/readyz", "/version"),
            debug_flags=api.options.profiling,
        )
        self.server_address = ""  # host:port where clients are told to find this server
        self.hooks = Hooks(time.monotonic, api.options.livez_grace)
        self._results = health.Results()
        self.ending = False  # whether the server has been told to end

    @property
    def discovery(self) -> Discovery:
        """The documents of what is served now."""
        registry = self._api.registry
        if self._discovery is None or self._discovery[0] != registry.generation:
            self._discovery = registry.generation, self._discovery_of(registry)
        return self._discovery[1]

    def _discovery_of(self, registry: Registry) -> Discovery:
        hashes = registry.features.enabled("StorageVersionHash")
        return Discovery(registry.groups(), registry.kinds, self.server_address, storage_hashes=hashes)

    def answer(self, request: Request, info: RequestInfo) -> AnyResponse | Awaitable[AnyResponse]:
        """A path there is not is answered in plain text, as Kubernetes does. Raises 405 for a method other than GET.

        Health is told to any method; HEAD is for what no API describes.
        """
        path = info.path.rstrip("/") or "/"
        first = path.split("/", 2)[1]
        sets = info.verb == "put" and path.startswith("/debug/flags/")
        allowed = sets or first in _HEALTH or info.verb == "get" or (info.verb == "head" and first in _HEADED)
        if not allowed:
            if info.verb in _METHODS and self._is_served(path, first):
                raise errors.method_not_allowed()
            return _not_found()
        if first in _HEALTH:
            return self._health(request, first, path[len(first) + 2 :])
        if path == "/version":
            return Response(200, (_JSON,), orjson.dumps(self._version(), option=orjson.OPT_INDENT_2))
        if path == "/metrics":
            return Response(200, (("Content-Type", metrics.TEXT),), self._metrics.text())
        if path == health.SLIS:
            return Response(200, (("Content-Type", metrics.TEXT),), self._results.text())
        if first == "openapi":
            return self._open_api(request, path)
        if (page := self._pages.answer(request)) is not None:
            return page
        if first == "logs" and self._api.options.logs_handler:
            return _log_file(request)
        if path.startswith("/debug/pprof") and self._api.options.profiling:
            from pinnace.wire import profiling

            return profiling.answer(request) or _not_found()
        if first == "debug" and self._flow_control is not None:
            return self._dump(self._flow_control, request, path)
        if path == "/.well-known/openid-configuration":
            return Response(200, (_JSON,), orjson.dumps(self._api.tokens.configuration()))
        if path == "/openid/v1/jwks":
            return Response(
                200, (("Content-Type", "application/jwk-set+json"),), orjson.dumps(self._api.tokens.key_set())
            )
        if path == SERVED_AT:
            return self._snapshot()
        if path == "/":
            return Response(200, (_JSON,), orjson.dumps({"paths": self._paths()}, option=orjson.OPT_INDENT_2))
        return self._discover(request, path)

    def _is_served(self, path: str, first: str) -> bool:
        return first in (*_HEALTH, "openapi") or path == "/" or path in self._paths()

    async def _health(self, request: Request, endpoint: str, name: str) -> Response:
        params = request.params()
        etcd = await self._ask_store() if name in ("", "etcd", "etcd-readiness") else ""
        checks: dict[str, health.Check] = {"ping": lambda: "", "log": lambda: "", "etcd": lambda: etcd}
        if endpoint == "readyz":
            checks["etcd-readiness"] = lambda: etcd
            checks["informer-sync"] = lambda: ""  # who answers has its caches filled
        checks |= self.hooks.checks(patient=endpoint == "livez")
        if endpoint == "readyz":
            checks["shutdown"] = lambda: "process is shutting down" if self.ending else ""
        excluded = request.param_list("exclude")
        return health.answer(endpoint, name, checks, "verbose" in params, excluded, self._results)

    def _dump(self, flow_control: FlowControl, request: Request, path: str) -> Response:
        from pinnace.apiserver.flowcontrol import dumps

        details = bool(request.params().get("includeRequestDetails"))
        text = dumps.answer(path, flow_control, details)
        return _not_found() if text is None else Response(200, (_TEXT,), text.encode())

    async def _snapshot(self) -> Response:
        try:
            data = await snapshot.take(self._api.storage.store, utc_now())
        except StoreError as error:
            raise storage_failure(error) from error
        return Response(200, (("Content-Type", "application/octet-stream"),), data)

    async def _ask_store(self) -> str:
        """Why the store cannot be asked; empty when it can."""
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                await self._api.storage.store.check()
        except (StoreError, TimeoutError) as error:
            return str(error) or "no answer in time"
        return ""

    def _version(self) -> Obj:
        machine = platform.machine()
        return {
            "major": "1",
            "minor": str(self._minor),
            "emulationMajor": "1",
            "emulationMinor": str(self._minor),
            "minCompatibilityMajor": "1",
            "minCompatibilityMinor": str(self._minor - 1),
            "gitVersion": self._git_version,
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": f"python{platform.python_version()}",
            "compiler": platform.python_implementation().lower(),
            "platform": f"linux/{_ARCHITECTURES.get(machine, machine)}",
        }

    def _discover(self, request: Request, path: str) -> Response:
        found = self.discovery.document(path, request.headers.get("accept", ""))
        if self._aggregator.backends:
            found = self._with_backends(path, found)
        if found is None:
            return _not_found()
        content_type, body, etag = found
        headers: Mapping[str, str] = {"Content-Type": content_type}
        if etag:
            headers = {**headers, "ETag": etag, "Vary": "Accept"}
            if request.headers.get("if-none-match") == etag:
                return Response(304, tuple(headers.items()))
        return Response(200, tuple(headers.items()), body)

    @property
    def _generations(self) -> tuple[int, int]:
        """Of the registry and of the registered servers."""
        return self._api.registry.generation, self._aggregator.generation

    def _with_backends(self, path: str, own: Document | None) -> Document | None:
        if self._merged_of != self._generations:
            self._merged_of = self._generations
            self._merged.clear()
        key = path, own[0] if own is not None else ""
        if key not in self._merged:
            merged = with_backends(path, own, self._aggregator.backends.values())
            if merged is None:
                return None
            self._merged[key] = merged
        return self._merged[key]

    async def _open_api(self, request: Request, path: str) -> Response:
        ask = request.headers
        registry = self._api.registry
        if self._published != self._generations:
            self._published = self._generations
            self._openapi = self._openapi.with_more(
                (kind for kinds in registry.custom.values() for kind in kinds), self._aggregator.told()
            )
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            None,
            self._openapi.document,
            path,
            ask.get("accept", ""),
            ask.get("accept-encoding", ""),
            request.params().get("hash", ""),
        )
        if found is None:
            return _not_found()
        headers = [("Content-Type", found.content_type), ("ETag", found.etag), ("Vary", "Accept, Accept-Encoding")]
        if found.content_encoding:
            headers.append(("Content-Encoding", found.content_encoding))
        if getattr(found, "immutable", False):
            headers.append(("Cache-Control", "public, immutable"))
        if ask.get("if-none-match") == found.etag:
            return Response(304, headers)
        return Response(200, headers, found.body)

    def _paths(self) -> list[str]:
        found = ["/.well-known/openid-configuration", "/api", "/apis", "/healthz", "/livez", "/metrics"]
        found += [health.SLIS, "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"]
        if self._api.options.profiling:
            found += ["/debug/pprof", "/debug/pprof/cmdline", "/debug/pprof/goroutine", "/debug/pprof/profile"]
        if self._api.options.logs_handler:
            found.append("/logs")
        features = self._api.registry.features
        found += [path for path, gate in _GATED if features.enabled(gate)]
        for group, versions in self._api.registry.groups():
            if group:
                found.append(f"/apis/{group}")
            found += [f"/apis/{group}/{version}" if group else f"/api/{version}" for version in versions]
        return sorted(found)


async def _log_file(request: Request) -> AnyResponse:
    from pinnace.wire import log_files

    return log_files.answer(request)


def _not_found() -> Response:
    headers = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))
    return Response(404, headers, b"404 page not found\n")
