"""Keeps APIServices: those of our own groups in step with what is served, the others registered and watched over.

A registered server is checked when its APIService, its Service or its endpoints change, and every half minute; while it
fails, sooner. https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/apiserver-aggregation/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import orjson
import structlog

from pinnace.apis.resources import API_SERVICES, CONFIG_MAPS, ENDPOINT_SLICES, SERVICES
from pinnace.apiserver.aggregation import authentication_info, documents, local, openapi
from pinnace.apiserver.aggregation.availability import LOCAL, PASSED, Endpoint, Verdict, failed, with_condition
from pinnace.apiserver.aggregation.backend import Backend
from pinnace.apiserver.api import Api
from pinnace.apiserver.authn import AUTHENTICATED, User
from pinnace.apiserver.cache import CachedObject, Event, Filter, Watcher
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, labels_of, name_of, utc_now
from pinnace.machinery.metrics import Collected, Counter, Family
from pinnace.wire.http import Peer, Request
from pinnace.wire.process_metrics import Figures
from pinnace.wire.tasks import end_tasks

log = structlog.get_logger()

CHECK_INTERVAL = 30.0  # seconds
_RETRY_SECONDS = 5.0
FIRST_RETRY, DISCOVERY_TIMEOUT = 0.2, 5.0
CHECKER = User("system:kube-aggregator", groups=("system:masters", AUTHENTICATED))

AsServer = Callable[[str, str, Obj | None], Awaitable[Obj]]
"""`(method, path, body)` with the rights of the server itself."""


class Aggregator:
    """`backends` is what requests look in: by group and version, empty in most clusters.

    `generation` changes whenever anything does that discovery and OpenAPI tell of them.
    """

    def __init__(self, api: Api, request: AsServer) -> None:
        self.backends: dict[tuple[str, str], Backend] = {}
        self.generation = 0
        self._api = api
        self._request = request
        self._checks: dict[str, asyncio.Task[None]] = {}  # by the name of the APIService
        self._wakes: dict[str, asyncio.Event] = {}
        self._available: dict[str, bool] = {}  # by the name of the APIService, once it was checked
        self._unavailable = Counter(
            "aggregator_unavailable_apiservice_total",
            "Counter of APIServices which are marked as unavailable broken down by APIService name and reason.",
            ("name", "reason"),
        )
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._leave: list[Callable[[], None]] = []

    # Starting and stopping.

    async def start(self) -> None:
        """Register what is registered already, make our own groups' APIServices, and follow what changes."""
        storage = self._api.storage
        for stored in storage.cache(API_SERVICES).objects.values():
            self._take(stored.obj())
        follow = ((API_SERVICES, self._on_api_service), (SERVICES, self._on_service), (ENDPOINT_SLICES, self._on_slice))
        for resource, deliver in follow:
            self._leave.append(storage.cache(resource).watch(Watcher(Filter(), deliver)))
        told = Watcher(Filter(authentication_info.NAMESPACE, authentication_info.NAME), self._on_told)
        self._leave.append(storage.cache(CONFIG_MAPS).watch(told))
        self._leave.append(self._api.registry.follow(self._changed.set))
        await self._put_right()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        while self._leave:
            self._leave.pop()()
        await end_tasks([*self._checks.values(), *([self._keeper] if self._keeper else [])])

    def find(self, info: RequestInfo) -> Backend | None:
        """The server that a request is for."""
        if info.is_resource:
            return self.backends.get((info.group, info.version))
        parts = info.path.strip("/").split("/")
        if len(parts) == 3 and parts[0] == "apis":
            return self.backends.get((parts[1], parts[2]))
        if len(parts) == 5 and parts[:3] == ["openapi", "v3", "apis"]:
            found = self.backends.get((parts[3], parts[4]))
            return None if found is not None and found.openapi.converted else found
        return None

    def told(self) -> list[openapi.Told]:
        """What the servers tell of themselves in OpenAPI, the highest priority first."""
        ordered = sorted(
            self.backends.values(), key=lambda one: (-(one.spec.get("groupPriorityMinimum") or 0), one.name)
        )
        return [backend.openapi for backend in ordered]

    def families(self) -> list[Family]:
        """What there is to measure: of registered servers, which cannot be reached, and how often that came about."""

        def now() -> Figures:
            return [((name,), 0.0 if available else 1.0) for name, available in sorted(self._available.items())]

        return [
            self._unavailable,
            Collected(
                "gauge",
                "aggregator_unavailable_apiservice",
                "Gauge of APIServices which are marked as unavailable broken down by APIService name.",
                ("name",),
                now,
            ),
        ]

    # What changes.

    def _on_api_service(self, kind: str, obj: CachedObject, _: Event) -> None:
        api_service = obj.obj()
        if kind == "DELETED":
            self._drop(api_service)
            self._changed.set()
        else:
            self._take(api_service)

    def _on_told(self, kind: str, _: CachedObject, __: Event) -> None:
        if kind == "DELETED":
            self._changed.set()

    def _on_service(self, _: str, obj: CachedObject, __: Event) -> None:
        self._wake(obj.namespace, obj.name)

    def _on_slice(self, _: str, obj: CachedObject, __: Event) -> None:
        if self.backends:
            self._wake(obj.namespace, labels_of(obj.obj()).get("kubernetes.io/service-name", ""))

    def _wake(self, namespace: str, service: str) -> None:
        for backend in self.backends.values():
            reference = backend.spec["service"]
            if (reference["namespace"], reference["name"]) == (namespace, service):
                self._wakes[backend.name].set()

    def _take(self, api_service: Obj) -> None:
        """Register a server, or what has changed of it; local ones need none of this."""
        spec, name = api_service["spec"], name_of(api_service)
        key = (spec.get("group") or "", spec["version"])
        known = self.backends.get(key)
        if not spec.get("service"):
            if known is not None:
                self._drop(api_service)
            return
        if known is not None and known.spec == spec:
            return
        backend = Backend(api_service, self._api.options, self._api.storage)
        if known is not None:
            backend.available, backend.resources, backend.openapi = known.available, known.resources, known.openapi
        self.backends[key] = backend
        self.generation += 1
        self._wakes.setdefault(name, asyncio.Event()).set()
        if name not in self._checks:
            self._checks[name] = asyncio.create_task(self._watch_over(key, name))

    def _drop(self, api_service: Obj) -> None:
        name, spec = name_of(api_service), api_service["spec"]
        self.backends.pop((spec.get("group") or "", spec["version"]), None)
        self.generation += 1
        self._wakes.pop(name, None)
        self._available.pop(name, None)
        task = self._checks.pop(name, None)
        if task is not None:
            task.cancel()

    # Registered servers.

    async def _watch_over(self, key: tuple[str, str], name: str) -> None:
        """Check one server for as long as it is registered."""
        retry = FIRST_RETRY
        while (backend := self.backends.get(key)) is not None:
            wake = self._wakes[name]
            wake.clear()
            before = backend.available, backend.resources, backend.openapi.digest
            verdict = await self._check(backend)
            backend.available = verdict.available
            if not verdict.available and self._available.get(name, True):
                self._unavailable.inc(name, verdict.reason)
            self._available[name] = verdict.available
            if before != (backend.available, backend.resources, backend.openapi.digest):
                self.generation += 1
            await self._say(name, verdict)
            retry = FIRST_RETRY if verdict.available else min(retry * 2, CHECK_INTERVAL)
            try:
                async with asyncio.timeout(CHECK_INTERVAL if verdict.available else retry):
                    await wake.wait()
            except TimeoutError:
                pass

    async def _check(self, backend: Backend) -> Verdict:
        target = backend.locate()
        if isinstance(target, Verdict):
            return target
        path = f"/apis/{backend.group}/{backend.version}"
        url = f"https://{target.address}:{target.port}{path}"
        try:
            async with asyncio.timeout(DISCOVERY_TIMEOUT):
                body = await self._fetch(backend, target, path)
            backend.resources = documents.resources_of(orjson.loads(body), backend.group, backend.version)
            v2, v3 = [await self._fetch_if_any(backend, target, f"/openapi/{one}") for one in ("v2", "v3")]
            backend.openapi = openapi.told(v2, v3, backend.group, backend.version)
        except ApiError as error:
            return failed(url, error.message)
        except TimeoutError:
            return failed(url, f'Get "{url}": context deadline exceeded')
        except (ValueError, KeyError, TypeError, AttributeError):
            return failed(url, "the answer is no list of resources")
        return PASSED

    async def _fetch(self, backend: Backend, target: Endpoint, path: str) -> bytes:
        """A document of the server's own; raises ApiError."""
        request = Request("GET", path, "", {"accept": "application/json"}, b"", Peer(""))
        answer = await backend.ask(request, CHECKER, target)
        body = await documents.body_of(answer)
        if not 200 <= answer.status < 300:
            raise ApiError(answer.status, "ServiceUnavailable", f"bad status from {path}: {answer.status}")
        return body

    async def _fetch_if_any(self, backend: Backend, target: Endpoint, path: str) -> bytes:
        try:
            return await self._fetch(backend, target, path)
        except ApiError:
            return b""

    async def _say(self, name: str, verdict: Verdict) -> None:
        """Write the condition, if it says something new."""
        found = self._api.storage.cache(API_SERVICES).get(name)
        if found is None:
            return
        old = found.obj()
        new = with_condition(old, verdict, utc_now())
        if new is old:
            return
        try:
            await self._request("PUT", f"{API_SERVICES.path('', name)}/status", new)
        except ApiError as error:
            log.warning("cannot write the availability of an APIService", name=name, error=error.message)

    # Our own groups.

    async def _keep(self) -> None:
        """Bring the local APIServices in step whenever what is served changes, or one is deleted."""
        while True:
            await self._changed.wait()
            await self._put_right()

    async def _put_right(self) -> None:
        self._changed.clear()
        try:
            await self._bring_in_step()
            await self._tell_who_calls()
        except (ApiError, OSError) as error:  # another server may have been first, and the change is what woke us
            log.warning("cannot keep the APIServices of what is served", error=str(error))
            asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._changed.set)

    async def _tell_who_calls(self) -> None:
        wanted = authentication_info.config_map(self._api.options)
        meta = wanted["metadata"]
        found = self._api.storage.cache(CONFIG_MAPS).get(f"{meta['namespace']}/{meta['name']}")
        if found is None:
            await self._request("POST", CONFIG_MAPS.path(meta["namespace"]), wanted)
        elif found.obj().get("data") != wanted["data"]:
            changed = {**found.obj(), "data": wanted["data"]}
            await self._request("PUT", CONFIG_MAPS.path(meta["namespace"], meta["name"]), changed)

    async def _bring_in_step(self) -> None:
        cache = self._api.storage.cache(API_SERVICES)
        wanted = local.wanted(self._api.registry.groups())
        missing = [name for name in wanted if cache.get(name) is None]
        await asyncio.gather(*(self._request("POST", API_SERVICES.path(), wanted[name]) for name in missing))
        stale = [
            name
            for name, stored in cache.objects.items()
            if name not in wanted
            and local.AUTOMANAGED in labels_of(stored.obj())
            and not stored.obj()["spec"].get("service")
        ]
        await asyncio.gather(*(self._request("DELETE", API_SERVICES.path("", name), None) for name in stale))
        ours = [name for name in wanted if (found := cache.get(name)) and not found.obj()["spec"].get("service")]
        await asyncio.gather(*(self._say(name, LOCAL) for name in ours))
