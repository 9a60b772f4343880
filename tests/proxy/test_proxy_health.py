"""What the health ports say."""

import asyncio
import json
import socket

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pinnace.machinery.features import FeatureGates
from pinnace.proxy.health import HealthServers, ProxyHealth, ServiceHealth, service_health
from pinnace.proxy.observing import Observer
from pinnace.proxy.proxier import snapshot
from pinnace.wire.http import Peer, Request, Response
from tests.support.ports import free_port


async def get(port: int) -> tuple[int, dict]:
    """Status and body of `GET /` from a loopback port."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = (await asyncio.wait_for(reader.read(), 60)).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(body)


def test_services_with_a_health_port_count_their_local_endpoints(make) -> None:
    service = make.service(type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=31000)
    state = snapshot([service], [make.slice("web", "10.244.0.2", ("10.244.1.2", "n2", {}))], "n1")
    assert service_health([service], state) == {31000: ServiceHealth("default", "web", 1)}
    assert service_health([make.service()], state) == {}


async def test_a_health_port_follows_its_service() -> None:
    servers, port = HealthServers("127.0.0.1"), free_port()
    await servers.update({port: ServiceHealth("default", "web", 2)})
    status, body = await get(port)
    assert (status, body["localEndpoints"], body["service"]) == (200, 2, {"namespace": "default", "name": "web"})
    await servers.update({port: ServiceHealth("default", "web", 0)})
    assert (await get(port))[0] == 503
    await servers.close()
    with pytest.raises(ConnectionRefusedError):
        await get(port)


async def test_a_port_that_is_taken_harms_nobody() -> None:
    servers = HealthServers("127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        await servers.update({taken.getsockname()[1]: ServiceHealth("default", "web", 1)})
    await servers.close()


def test_the_proxy_is_healthy_unless_a_change_waits_too_long() -> None:
    def status(health: ProxyHealth, path: str = "/healthz") -> int:
        return health.handle(Request("GET", path, "", {}, b"", Peer("127.0.0.1"))).status

    patient, impatient = ProxyHealth(60), ProxyHealth(0)
    for health in (patient, impatient):
        assert status(health) == 200
        health.changed()
    assert (status(patient), status(impatient)) == (200, 503)
    impatient.applied()
    assert (status(impatient), status(impatient, "/livez"), status(impatient, "/other")) == (200, 200, 404)


def test_the_proxy_tells_of_its_process_and_its_mode() -> None:
    def page(path: str) -> bytes:
        found = Observer(FeatureGates(37)).handle(Request("GET", path, "", {}, b"", Peer("")))
        assert isinstance(found, Response)
        return found.body

    told = {family.name for family in text_string_to_metric_families(page("/metrics").decode())}
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "kubernetes_build_info"} <= told
    assert (page("/proxyMode"), page("/healthz")) == (b"nftables", b"ok")
