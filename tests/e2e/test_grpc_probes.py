"""Probes that ask a gRPC server for its health."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import SLEEP, Obj, container, pod
from tests.e2e.test_pod_life import create, events, restarted

pytestmark = [pytest.mark.e2e, pytest.mark.root]

SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}
NOT_SERVING = b"\x08\x02"


class Health:
    """A server of grpc.health.v1 on all of the host's addresses; `asked` counts by service."""

    def __init__(self) -> None:
        self._answers = {b"": SERVING, b"\x0a\x03ill": NOT_SERVING}
        self.asked: dict[bytes, threading.Semaphore] = {one: threading.Semaphore(0) for one in self._answers}
        self._server = grpc.server(ThreadPoolExecutor(2))
        check = grpc.unary_unary_rpc_method_handler(self._check)
        handler = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})
        self._server.add_generic_rpc_handlers((handler,))
        self.port = self._server.add_insecure_port("0.0.0.0:0")
        self._server.start()

    def _check(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        self.asked[request].release()
        return self._answers[request]

    def wait_until_asked(self, times: int) -> None:
        for _ in range(times):
            assert self.asked[b""].acquire(timeout=60)

    def close(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def health() -> Iterator[Health]:
    server = Health()
    yield server
    server.close()


def probing(name: str, **grpc_action: object) -> Obj:
    """A pod in the host's network, where the server is."""
    late = 1 if name == "nobody" else 30  # who refuses the connection is asked until the time is over
    probe = {"grpc": grpc_action, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": late}
    return pod(name, container("c", SLEEP, livenessProbe=probe), hostNetwork=True)


def test_grpc_servers_say_whether_they_are_alive(cluster: Cluster, namespace: str, health: Health) -> None:
    """Conformance: "Pod liveness probe, using grpc call, success", "Pod liveness probe, using grpc call, failure" """
    create(
        cluster,
        namespace,
        probing("healthy", port=health.port),
        probing("ill", port=health.port, service="ill"),
        probing("nobody", port=2333),
    )
    for name in ("ill", "nobody"):
        restarted(cluster, namespace, name)
    health.wait_until_asked(3)
    [status] = cluster.json("-n", namespace, "get", "pod", "healthy")["status"]["containerStatuses"]
    assert status["restartCount"] == 0
    told = events(cluster, namespace, "ill", "Unhealthy")
    assert told == 'Liveness probe failed: service unhealthy (responded with "NOT_SERVING")'
