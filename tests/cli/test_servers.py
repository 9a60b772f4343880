"""Every server alone, as a process of its own, by its original name: together they are a cluster that runs pods."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pinnace.apis.resources import DEPLOYMENTS, ENDPOINT_SLICES, LEASES, PODS, SERVICES
from pinnace.cli.container_runtime import make_engine
from pinnace.client.client import Client
from pinnace.client.https import HttpsTransport
from pinnace.client.kubeconfig import load
from pinnace.machinery.meta import Obj, get_in, name_of
from tests.support.images import busybox_archive
from tests.support.ports import free_port
from tests.support.site import LIMIT, PINNACE, Site, open_site, until

pytestmark = pytest.mark.root

IMAGE = "busybox:servers"
QUICK_LEASE = (
    "--leader-elect-lease-duration=2s",
    "--leader-elect-renew-deadline=1500ms",
    "--leader-elect-retry-period=200ms",
)


@pytest.fixture
def site() -> Iterator[Site]:
    with open_site() as made:
        yield made


def held_by(name: str, pid: int) -> Callable[[Obj], bool]:
    def check(lease: Obj) -> bool:
        holder = str(get_in(lease, "spec", "holderIdentity", default=""))
        return name_of(lease) == name and holder.endswith(f"_{pid}")

    return check


async def one_leads_and_another_takes_over(client: Client, site: Site, server: str, *flags: str) -> None:
    leader = site.start(server, *flags, *QUICK_LEASE)
    await until(client, LEASES, "kube-system", held_by(server, leader.pid))
    other = site.start(server, *flags, *QUICK_LEASE)
    leader.send_signal(signal.SIGKILL)
    await until(client, LEASES, "kube-system", held_by(server, other.pid))
    assert other.poll() is None


def deployment() -> Obj:
    serve = "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 8080 -h /www"
    container: Obj = {"name": "web", "image": IMAGE, "command": ["sh", "-c", serve], "imagePullPolicy": "Never"}
    container["readinessProbe"] = {"httpGet": {"port": 8080}, "periodSeconds": 1}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
            },
        },
    }


SERVICE: Obj = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
}


def has_a_ready_endpoint(endpoint_slice: Obj) -> bool:
    ours = endpoint_slice["metadata"].get("labels", {}).get("kubernetes.io/service-name") == "web"
    return ours and any(one["conditions"]["ready"] for one in endpoint_slice.get("endpoints", []))


@contextmanager
def proxied(site: Site, cluster_ip: str) -> Iterator[None]:
    """kube-proxy, from when its rules know an address until they are cleaned up."""
    kubeconfig = f"--kubeconfig={site.kubeconfig('proxy')}"
    environment = os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin"}
    with subprocess.Popen(["nft", "monitor"], stdout=subprocess.PIPE, env=environment) as monitor:
        assert monitor.stdout is not None
        healthz = f"--healthz-bind-address=127.0.0.1:{free_port()}"
        proxy = site.start("kube-proxy", kubeconfig, "--hostname-override=alone", healthz, "--metrics-bind-address=")
        try:
            for line in monitor.stdout:
                if cluster_ip.encode() in line:
                    break
            monitor.terminate()
            yield
        finally:
            proxy.terminate()
            proxy.wait(LIMIT)
            subprocess.run([PINNACE, "kube-proxy", "--cleanup"], check=True)


async def fetch(address: str, port: int = 8080) -> bytes:
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection(address, port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer


def is_ready(pod: Obj) -> bool:
    conditions = get_in(pod, "status", "conditions", default=[])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


OWN_ACCOUNTS = "--use-service-account-credentials=true"


async def test_servers_started_one_by_one_are_a_cluster(site: Site) -> None:
    engine = make_engine(site.engine_dir)
    engine.images.load_archive(busybox_archive(site.directory / "image.tar", IMAGE))
    site.start_api_server()
    client = Client(HttpsTransport(load(site.kubeconfig("admin"))))
    try:
        manager = f"--kubeconfig={site.kubeconfig('controller-manager')}"
        root_ca = f"--root-ca-file={site.pki}/ca.crt"
        await one_leads_and_another_takes_over(client, site, "kube-controller-manager", manager, root_ca, OWN_ACCOUNTS)
        scheduler = f"--kubeconfig={site.kubeconfig('scheduler')}"
        await one_leads_and_another_takes_over(client, site, "kube-scheduler", scheduler)
        site.start_kubelet()
        await client.create(DEPLOYMENTS, deployment())

        pod = await until(client, PODS, "default", is_ready)
        answer = await fetch(pod["status"]["podIP"])

        service = await client.create(SERVICES, SERVICE)
        await until(client, ENDPOINT_SLICES, "default", has_a_ready_endpoint)
        with proxied(site, service["spec"]["clusterIP"]):
            through_service = await fetch(service["spec"]["clusterIP"], 80)

        assert (answer[-6:], through_service[-6:]) == (b"hello\n", b"hello\n")
        assert pod["spec"]["nodeName"] == "alone"
        await client.delete(DEPLOYMENTS, "web", "default")
    finally:
        await client.transport.close()


def test_a_port_in_use_ends_the_server_with_one_line(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = subprocess.run(
            [PINNACE, "kube-apiserver", "--bind-address=127.0.0.1", f"--secure-port={taken.getsockname()[1]}",
             f"--etcd-servers=sqlite://{site.directory}/x.db", f"--cert-dir={site.directory}"],
            capture_output=True, text=True, check=False, timeout=LIMIT,
        )  # fmt: skip

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("Error: kube-apiserver cannot start: ")
    assert "Traceback" not in result.stderr
