"""A new node makes itself known by a bootstrap token, and becomes somebody by the certificate that it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pinnace.cli import kubelet_credentials
from pinnace.client.kubeconfig import read
from tests.e2e.conftest import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.root]

ID, SECRET = "07401b", "f395accd246ae52d"
GROUP = "system:bootstrappers:new-nodes"
NODE = "newcomer"


def binding(name: str, role: str, group: str) -> dict[str, Any]:
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    }


@pytest.fixture
def token(cluster: Cluster) -> Iterator[str]:
    """A token whose bearers may ask for a node's certificate, and get it without being looked at."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"bootstrap-token-{ID}", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": ID,
            "token-secret": SECRET,
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": GROUP,
        },
    }
    approval = "system:certificates.k8s.io:certificatesigningrequests:nodeclient"
    cluster.apply(
        secret,
        binding("new-nodes-ask", "system:node-bootstrapper", GROUP),
        binding("new-nodes-approved", approval, GROUP),
    )
    yield f"{ID}.{SECRET}"
    cluster.kubectl("delete", "secret", "-n", "kube-system", f"bootstrap-token-{ID}")
    cluster.kubectl("delete", "clusterrolebinding", "new-nodes-ask", "new-nodes-approved")


def test_a_bootstrap_token_leads_to_a_nodes_certificate(cluster: Cluster, token: str, tmp_path: Path) -> None:
    found = read(cluster.kubeconfig)
    context = found.context(found.current_context) or {}
    found.set_user("tls-bootstrap", {"token": token})
    found.set_context("bootstrap", cluster=context["cluster"], user="tls-bootstrap", namespace="default")
    found.use_context("bootstrap")
    first, own = tmp_path / "bootstrap-kubelet.conf", tmp_path / "kubelet.conf"
    found.write(first)
    assert who(cluster, first) == f"system:bootstrap:{ID}"

    flags = {"bootstrap_kubeconfig": first, "kubeconfig": own, "cert_dir": tmp_path / "pki"}
    assert kubelet_credentials.is_needed(flags)

    async def ask() -> None:
        async with asyncio.timeout(60):
            await kubelet_credentials.bootstrap(flags, NODE)

    asyncio.run(ask())
    assert not kubelet_credentials.is_needed(flags)
    assert who(cluster, own) == f"system:node:{NODE}"
    [request] = [
        one
        for one in cluster.json("get", "certificatesigningrequests")["items"]
        if one["spec"]["username"] == f"system:bootstrap:{ID}"
    ]
    [condition] = request["status"]["conditions"]
    assert (condition["type"], condition["reason"]) == ("Approved", "AutoApproved")


def who(cluster: Cluster, kubeconfig: Path) -> str:
    """Whom the API server takes somebody with this kubeconfig for."""
    told = cluster.kubectl(
        "--kubeconfig", str(kubeconfig), "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"
    )
    return told.stdout
