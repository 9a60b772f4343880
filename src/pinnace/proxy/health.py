"""What load balancers and operators ask a node's proxy: is it up, and has a Service endpoints here?

`/healthz` and `/livez` on the proxy's own port; a port of its own for each Service of type LoadBalancer that keeps
traffic on the node (`healthCheckNodePort`). Paths and bodies are kube-proxy's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
import structlog

from pinnace.machinery.meta import Obj, name_of, namespace_of
from pinnace.proxy.endpoints import Choice
from pinnace.proxy.services import ServicePort, is_ours
from pinnace.wire.http import Handler, Request, Response
from pinnace.wire.server import Server, serve

_log = structlog.get_logger()

_JSON = (("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff"))


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """What a Service's health port says."""

    namespace: str
    name: str
    local_endpoints: int


def service_health(services: Iterable[Obj], state: Mapping[ServicePort, Choice]) -> dict[int, ServiceHealth]:
    """Health ports and what they say: one for each Service that has a `healthCheckNodePort`."""
    local: dict[tuple[str, str], dict[str, set[str]]] = {}  # of each family: a pod has an address of both
    for port, choice in state.items():
        families = local.setdefault((port.namespace, port.name), {})
        families.setdefault(port.family, set()).update(endpoint.ip for endpoint in choice.local)
    found: dict[int, ServiceHealth] = {}
    for service in services:
        spec = service.get("spec") or {}
        number = spec.get("healthCheckNodePort")
        if number and is_ours(service) and spec.get("externalTrafficPolicy") == "Local":
            key = (namespace_of(service), name_of(service))
            found[number] = ServiceHealth(*key, max(map(len, local.get(key, {}).values()), default=0))
    return found


class HealthServers:
    """The open health ports, kept in step with the Services."""

    def __init__(self, host: str = "") -> None:
        self._host = host or "0.0.0.0"  # load balancers ask from outside
        self._said: dict[int, ServiceHealth] = {}
        self._servers: dict[int, Server] = {}

    async def update(self, wanted: Mapping[int, ServiceHealth]) -> None:
        """Open and close ports; one that is taken is logged, and tried again with the next change."""
        self._said = dict(wanted)
        for port in [port for port in self._servers if port not in wanted]:
            await self._servers.pop(port).close(0)
        for port in wanted:
            if port not in self._servers:
                try:
                    self._servers[port] = await serve(self._handler(port), [(self._host, port)])
                except OSError as error:
                    _log.warning("cannot open health check port", port=port, error=error.strerror)

    def _handler(self, port: int) -> Handler:
        def handle(_: Request) -> Response:
            said = self._said[port]
            body = {
                "service": {"namespace": said.namespace, "name": said.name},
                "localEndpoints": said.local_endpoints,
                "serviceProxyHealthy": True,
            }
            headers = (*_JSON, ("X-Load-Balancing-Endpoint-Weight", str(said.local_endpoints)))
            return Response(200 if said.local_endpoints else 503, headers, orjson.dumps(body))

        return handle

    async def close(self) -> None:
        await self.update({})


class ProxyHealth:
    """The proxy's own `/healthz`: healthy while no change waits longer than `patience` seconds for the kernel."""

    def __init__(self, patience: float = 60.0) -> None:
        self._patience = patience
        self._waiting_since: datetime | None = None
        self._updated = datetime.now(UTC)

    def changed(self) -> None:
        """Something must be applied."""
        self._waiting_since = self._waiting_since or datetime.now(UTC)

    def applied(self) -> None:
        """Everything is."""
        self._waiting_since = None
        self._updated = datetime.now(UTC)

    def handle(self, request: Request) -> Response:
        if request.path not in ("/healthz", "/livez"):
            return Response(404, body=b"404 page not found\n")
        now = datetime.now(UTC)
        waiting = self._waiting_since
        healthy = waiting is None or (now - waiting).total_seconds() < self._patience
        updated = now if waiting is None else self._updated
        body = {"lastUpdated": updated.isoformat(), "currentTime": now.isoformat(), "nodeEligible": True}
        return Response(200 if healthy else 503, _JSON, orjson.dumps(body))
