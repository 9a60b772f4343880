"""A cluster of two hollow nodes without machines, and a metrics server registered with it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from pinnace.client.client import Client
from pinnace.client.https import HttpsTransport, tls_context
from pinnace.client.kubeconfig import Kubeconfig
from pinnace.metrics_server.scraper import Scraper
from pinnace.metrics_server.server import MetricsServer, ServerOptions
from pinnace.testing import Cluster
from pinnace.testing.loop_thread import LoopThread
from pinnace.wire.tasks import end_tasks

NODES = "/apis/metrics.k8s.io/v1beta1/nodes"
RESOLUTION = 0.3


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=2, controllers=("*", "-horizontal-pod-autoscaler-controller")) as started:
        yield started


@pytest.fixture(scope="module")
def thread() -> Iterator[LoopThread]:
    """Where servers under test run."""
    made = LoopThread("servers")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def client(cluster: Cluster, thread: LoopThread) -> Iterator[Client]:
    """The administrator's, for `thread`."""
    made = Client(HttpsTransport(Kubeconfig(cluster.kubeconfig_dict()).connection()))
    yield made
    thread.call(made.transport.close())


@contextlib.contextmanager
def running(thread: LoopThread, work: Callable[[], Coroutine[Any, Any, None]]) -> Iterator[None]:
    """Run `work` in the thread meanwhile."""

    async def start() -> asyncio.Task[None]:
        return asyncio.create_task(work())

    async def end(task: asyncio.Task[None]) -> None:
        await end_tasks([task])

    task = thread.call(start())
    try:
        yield
    finally:
        thread.call(end(task))


@pytest.fixture(scope="module")
def metrics(cluster: Cluster, thread: LoopThread, client: Client) -> Iterator[MetricsServer]:
    """A metrics server with its Service and APIService, once it has something to tell."""
    certificate = cluster.serving_certificate("metrics-server.kube-system.svc")
    options = ServerOptions(
        listen=("127.0.0.1", 0),
        cert_file=certificate,
        key_file=certificate.with_suffix(".key"),
        requestheader_client_ca_file=cluster.directory / "front-proxy-ca.crt",
        requestheader_allowed_names=("front-proxy-client",),
    )
    connection = Kubeconfig(cluster.kubeconfig_dict()).connection()
    server = MetricsServer(client, Scraper(client, tls_context(connection), resolution=RESOLUTION), options)
    with running(thread, server.run):
        cluster.api.wait_until(lambda: server.address[1])
        _register(cluster, *server.address)
        cluster.api.wait_for("apiservices", "v1beta1.metrics.k8s.io", "Available")
        cluster.api.wait_until(lambda: len(cluster.api.request("GET", NODES)["items"]) == 2)
        yield server


def _register(cluster: Cluster, address: str, port: int) -> None:
    """Endpoints may not be of this machine alone: a name leads there."""
    assert address == "127.0.0.1"
    meta = {"name": "metrics-server", "namespace": "kube-system"}
    spec = {"type": "ExternalName", "externalName": "localhost"}
    cluster.api.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
    cluster.api.create(
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "service": {"name": "metrics-server", "namespace": "kube-system", "port": port},
                "caBundle": base64.b64encode(cluster.ca.encode()).decode(),
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        }
    )
