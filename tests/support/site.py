"""A site: a directory with a PKI, and servers that are started one by one as processes, by their original names."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pinnace.cli.container_runtime import make_engine
from pinnace.client.client import Client
from pinnace.cluster.teardown import unmount_below
from pinnace.kubeadm.certs import ClusterNames, ensure_certificates
from pinnace.machinery.meta import GVR, Obj, utc_now
from tests.support.ports import free_port

PINNACE = Path(sys.executable).with_name("pinnace")
LIMIT = 60.0  # seconds
SERVICES = "10.117.0.0/16"  # beyond what `pinnace start` chooses from for the clusters beside


class Site:
    """A directory, a PKI, and servers started from links with their original names."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pki = directory / "pki"
        self.node_dir = directory  # of what pods write
        self.engine_dir = directory / "runtime"
        self.cgroup_root = f"/pinnace-test-{directory.name}"
        self.processes: list[subprocess.Popen[bytes]] = []
        ensure_certificates(self.pki, ClusterNames("alone", "127.0.0.1", SERVICES), utc_now())
        self.port, self.kubelet_port = free_port(), free_port()
        self.pod_cidr = f"10.{150 + self.port // 256 % 10}.{self.port % 256}.0/24"  # as good as no other site's

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

    def start_api_server(self) -> subprocess.Popen[bytes]:
        pki = self.pki
        return self.start(
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
            f"--service-cluster-ip-range={SERVICES}",
            f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
            f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
            f"--kubelet-certificate-authority={pki}/ca.crt",
        )

    def start_kubelet(self, endpoint: str = "", *flags: str) -> subprocess.Popen[bytes]:
        """On the container runtime at an endpoint, the embedded engine's by default."""
        config = self.directory / "kubelet.yaml"
        config.write_text(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
            f"podLogsDir: {self.node_dir}/pods\nport: 1\nmaxPods: 7\n"
            "authorization:\n  mode: AlwaysAllow\n"
        )
        return self.start(
            "kubelet",
            f"--kubeconfig={self.kubeconfig('kubelet-client')}",
            f"--config={config}",
            "--hostname-override=alone",
            "--node-ip=127.0.0.1",
            "--address=127.0.0.1",
            f"--port={self.kubelet_port}",
            f"--root-dir={self.node_dir}/node",
            f"--tls-cert-file={self.pki}/kubelet.crt",
            f"--tls-private-key-file={self.pki}/kubelet.key",
            f"--client-ca-file={self.pki}/ca.crt",
            f"--pod-cidr={self.pod_cidr}",
            "--node-labels=disk=fast",
            f"--cgroup-root={self.cgroup_root}",
            f"--container-runtime-endpoint={endpoint or f'pinnace://{self.engine_dir}'}",
            *flags,
        )

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.engine_dir.exists():
            asyncio.run(self._destroy_engine())
        for path in sorted(self.cgroups("**/"), reverse=True):
            with suppress(OSError):  # of pods that another runtime still runs
                path.rmdir()  # pods' were the kubelet's to remove, those of their qualities are kept
        unmount_below(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)

    def cgroups(self, below: str) -> list[Path]:
        """Those of the kubelet that fit a pattern, in every hierarchy."""
        where = Path("/sys/fs/cgroup")
        return [*where.glob(f"{self.cgroup_root[1:]}/{below}"), *where.glob(f"*{self.cgroup_root}/{below}")]

    async def _destroy_engine(self) -> None:
        engine = make_engine(self.engine_dir)
        await engine.start()
        await engine.destroy()
        shutil.rmtree(engine.state, ignore_errors=True)


@contextmanager
def open_site() -> Iterator[Site]:
    """A site that is closed in the end."""
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
            items: list[Obj] = listed["items"]
            for obj in items:
                if check(obj):
                    return obj
            version = listed["metadata"]["resourceVersion"]
            async for event in client.watch(resource, namespace, resource_version=version):
                if event["type"] in ("ADDED", "MODIFIED") and check(event["object"]):
                    found: Obj = event["object"]
                    return found
