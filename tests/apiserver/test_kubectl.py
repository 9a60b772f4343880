"""The server as a real `kubectl` sees it, over TLS with a client certificate."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.apiserver.conftest import Cluster
from tests.support.kubectl import kubectls

KUBECTL = next(iter(kubectls()[-1:]), "")

pytestmark = pytest.mark.skipif(not KUBECTL, reason="needs kubectl")

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: nginx:1.27
        ports: [{containerPort: 80}]
"""


@pytest.fixture
def kubeconfig(cluster: Cluster, tmp_path: Path) -> Path:
    pki = cluster.pki
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "c", "cluster": {"server": cluster.url, "certificate-authority": str(pki / "ca.crt")}},
        ],
        "users": [
            {
                "name": "u",
                "user": {"client-certificate": str(pki / "admin.crt"), "client-key": str(pki / "admin.key")},
            },
        ],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


async def kubectl(kubeconfig: Path, *words: str, stdin: str = "", fails: bool = False, editor: str = "") -> str:
    """What kubectl prints; an exit code other than expected fails the test with what it said."""
    home = {"KUBECONFIG": str(kubeconfig), "HOME": str(kubeconfig.parent), "PATH": "/usr/bin:/bin"}
    process = await asyncio.create_subprocess_exec(
        KUBECTL,
        *words,
        env={**home, "KUBE_EDITOR": editor} if editor else home,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
    text = out.decode() + err.decode()
    assert (process.returncode != 0) == fails, text
    return text


async def test_a_day_with_kubectl(kubeconfig: Path) -> None:
    assert "Server Version: v1." in await kubectl(kubeconfig, "version")
    assert "kube-node-lease" in await kubectl(kubeconfig, "get", "namespaces")

    assert "deployment.apps/web created" in await kubectl(kubeconfig, "apply", "-f", "-", stdin=DEPLOYMENT)
    assert "deployment.apps/web unchanged" in await kubectl(kubeconfig, "apply", "-f", "-", stdin=DEPLOYMENT)
    changed = DEPLOYMENT.replace("nginx:1.27", "nginx:1.28")
    assert "deployment.apps/web configured" in await kubectl(kubeconfig, "apply", "-f", "-", stdin=changed)
    assert "deployment.apps/web scaled" in await kubectl(kubeconfig, "scale", "deployment/web", "--replicas=5")
    path = "{.spec.replicas} {.metadata.generation} {.spec.template.spec.containers[0].image}"
    assert await kubectl(kubeconfig, "get", "deploy", "web", "-o", f"jsonpath={path}") == "5 3 nginx:1.28"

    assert "labeled" in await kubectl(kubeconfig, "label", "deploy", "web", "tier=front")
    assert "annotated" in await kubectl(kubeconfig, "annotate", "deploy", "web", "note=hi")
    assert "web" in await kubectl(kubeconfig, "get", "deploy", "-l", "tier=front")
    assert "No resources found" in await kubectl(kubeconfig, "get", "deploy", "-l", "tier=back")
    assert "Replicas:" in await kubectl(kubeconfig, "describe", "deploy", "web")

    assert "service/web exposed" in await kubectl(kubeconfig, "expose", "deploy", "web", "--port=80")
    assert "10." in await kubectl(kubeconfig, "get", "svc", "web", "-o", "jsonpath={.spec.clusterIP}")
    assert "configmap/c created" in await kubectl(kubeconfig, "create", "configmap", "c", "--from-literal=a=b")
    assert "a: b" in await kubectl(kubeconfig, "get", "cm", "c", "-o", "yaml")
    assert "patched" in await kubectl(kubeconfig, "patch", "cm", "c", "-p", '{"data":{"a":"c"}}')

    assert "NAME" in await kubectl(kubeconfig, "api-resources")
    assert "apps/v1" in await kubectl(kubeconfig, "api-versions")
    assert "KIND:" in await kubectl(kubeconfig, "explain", "pod.spec.containers")
    assert "yes" in await kubectl(kubeconfig, "auth", "can-i", "create", "pods")
    assert "kubernetes-admin" in await kubectl(kubeconfig, "auth", "whoami")
    assert (await kubectl(kubeconfig, "create", "token", "default")).count(".") == 2
    assert await kubectl(kubeconfig, "get", "--raw", "/readyz") == "ok"

    gone = await kubectl(kubeconfig, "get", "cm", "none", fails=True)
    assert 'Error from server (NotFound): configmaps "none" not found' in gone
    twice = await kubectl(kubeconfig, "create", "configmap", "c", fails=True)
    assert 'configmaps "c" already exists' in twice

    assert 'configmap "c" deleted' in await kubectl(kubeconfig, "delete", "cm", "c")
    assert "deleted" in await kubectl(kubeconfig, "delete", "-f", "-", "--wait=true", stdin=DEPLOYMENT)
    assert "No resources found" in await kubectl(kubeconfig, "get", "deploy")


async def test_kubectl_watches(cluster: Cluster, kubeconfig: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        KUBECTL,
        *("get", "configmaps", "--watch", "--output-watch-events"),
        env={"KUBECONFIG": str(kubeconfig), "HOME": str(kubeconfig.parent)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        from tests.apiserver.conftest import config_map

        await cluster.request("POST", "/api/v1/namespaces/default/configmaps", config_map("seen", a="b"))
        async with asyncio.timeout(60):
            lines = [(await process.stdout.readline()).decode() for _ in range(2)]
        assert lines[0].split() == ["EVENT", "NAME", "DATA", "AGE"]
        assert lines[1].split()[:2] == ["ADDED", "seen"]
    finally:
        process.kill()
        await process.wait()
