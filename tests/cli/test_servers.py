"""Every server alone, as a process of its own, by its original name: together they are a cluster that runs pods."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pinnace.apis.resources import DEPLOYMENTS, ENDPOINT_SLICES, LEASES, PODS, SERVICES
from pinnace.cli.kubelet import make_engine
from pinnace.client.client import Client
from pinnace.client.https import HttpsTransport
from pinnace.client.kubeconfig import load
from pinnace.cluster.teardown import unmount_below
from pinnace.kubeadm.certs import ClusterNames, ensure_certificates
from pinnace.machinery.meta import GVR, Obj, get_in, name_of, utc_now
from tests.support.images import busybox_archive

pytestmark = pytest.mark.root

PINNACE = Path(sys.executable).with_name("pinnace")
LIMIT = 60.0  # seconds
IMAGE = "busybox:servers"
QUICK_LEASE = (
    "--leader-elect-lease-duration=2s",
    "--leader-elect-renew-deadline=1500ms",
    "--leader-elect-retry-period=200ms",
)


class Site:
    """A directory, a PKI, and servers started from links with their original names."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pki = directory / "pki"
        self.engine_dir = directory / "engine"
        self.processes: list[subprocess.Popen[bytes]] = []
        ensure_certificates(self.pki, ClusterNames("alone", "127.0.0.1", "10.98.0.0/16"), utc_now())
        self.port, self.kubelet_port = _free_port(), _free_port()

    def kubeconfig(self, user: str) -> Path:
        file = self.directory / f"{user}.conf"
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": str(self.pki / "ca.crt")}
        certificate = {
            "client-certificate": str(self.pki / f"{user}.crt"),
            "client-key": str(self.pki / f"{user}.key"),
        }
        document = {
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": certificate}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        file.write_text(json.dumps(document))
        return file

    def start(self, server: str, *flags: str) -> subprocess.Popen[bytes]:
        """Start a server and wait until it says that it is ready, as to systemd."""
        link = self.directory / server
        if not link.exists():
            link.symlink_to(PINNACE)
        number = len(self.processes)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            address = self.directory / f"ready{number}"
            ready.bind(str(address))
            ready.settimeout(LIMIT)
            with (self.directory / f"{server}-{number}.log").open("wb") as log:
                process = subprocess.Popen(
                    [link, *flags], stderr=log, stdout=log, env=os.environ | {"NOTIFY_SOCKET": str(address)}
                )
            self.processes.append(process)
            assert ready.recv(64) == b"READY=1"
        return process

    def start_api_server(self) -> None:
        pki = self.pki
        self.start(
            "kube-apiserver",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--advertise-address=127.0.0.1",
            f"--etcd-servers=sqlite://{self.directory}/state.db",
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            f"--client-ca-file={pki}/ca.crt",
            f"--service-account-signing-key-file={pki}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--service-cluster-ip-range=10.98.0.0/16",
            f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
            f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
            f"--kubelet-certificate-authority={pki}/ca.crt",
        )

    def start_kubelet(self) -> None:
        config = self.directory / "kubelet.yaml"
        config.write_text(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
            f"podLogsDir: {self.directory}/pods\nport: 1\nmaxPods: 7\n"
        )
        self.start(
            "kubelet",
            f"--kubeconfig={self.kubeconfig('kubelet-client')}",
            f"--config={config}",
            "--hostname-override=alone",
            "--node-ip=127.0.0.1",
            "--address=127.0.0.1",
            f"--port={self.kubelet_port}",
            f"--root-dir={self.directory}/node",
            f"--tls-cert-file={self.pki}/kubelet.crt",
            f"--tls-private-key-file={self.pki}/kubelet.key",
            f"--client-ca-file={self.pki}/ca.crt",
            "--pod-cidr=10.99.7.0/24",
            "--node-labels=disk=fast",
            "--cgroup-root=/pinnace-test-servers",
            f"--container-runtime-endpoint=pinnace://{self.engine_dir}",
        )

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.engine_dir.exists():
            asyncio.run(self._destroy_engine())
        unmount_below(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)

    async def _destroy_engine(self) -> None:
        engine = make_engine(self.engine_dir)
        await engine.start()
        await engine.destroy()
        shutil.rmtree(engine.state, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site(Path(tempfile.mkdtemp(prefix="pn-", dir="/var/tmp")))
    try:
        yield made
    finally:
        made.close()


async def until(client: Client, resource: GVR, namespace: str, check: Callable[[Obj], Any]) -> Obj:
    """The first object that passes, now or as it changes."""
    async with asyncio.timeout(LIMIT):
        while True:
            listed = await client.list(resource, namespace)
            for obj in listed["items"]:
                if check(obj):
                    return obj
            version = listed["metadata"]["resourceVersion"]
            async for event in client.watch(resource, namespace, resource_version=version):
                if event["type"] in ("ADDED", "MODIFIED") and check(event["object"]):
                    found: Obj = event["object"]
                    return found


def held_by(name: str, *pids: int) -> Callable[[Obj], bool]:
    def check(lease: Obj) -> bool:
        holder = str(get_in(lease, "spec", "holderIdentity", default=""))
        return name_of(lease) == name and any(holder.endswith(f"_{pid}") for pid in pids)

    return check


async def one_leads_and_another_takes_over(client: Client, site: Site, server: str, *flags: str) -> None:
    both = [site.start(server, *flags, *QUICK_LEASE) for _ in range(2)]
    lease = await until(client, LEASES, "kube-system", held_by(server, *(one.pid for one in both)))
    leader = next(one for one in both if held_by(server, one.pid)(lease))
    (other,) = (one for one in both if one is not leader)
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
        healthz = f"--healthz-bind-address=127.0.0.1:{_free_port()}"
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


async def test_servers_started_one_by_one_are_a_cluster(site: Site) -> None:
    engine = make_engine(site.engine_dir)
    engine.images.load_archive(busybox_archive(site.directory / "image.tar", IMAGE))
    site.start_api_server()
    client = Client(HttpsTransport(load(site.kubeconfig("admin"))))
    try:
        manager = f"--kubeconfig={site.kubeconfig('controller-manager')}"
        root_ca = f"--root-ca-file={site.pki}/ca.crt"
        await one_leads_and_another_takes_over(client, site, "kube-controller-manager", manager, root_ca)
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
