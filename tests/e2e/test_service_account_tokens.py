"""What every pod finds of its service account: a token of its own, the cluster's authority, its namespace."""

from __future__ import annotations

import base64
import json

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import SLEEP, Obj, container, pod
from tests.e2e.tables import Row, surprises
from tests.e2e.test_pod_inside import shell, start

pytestmark = [pytest.mark.e2e, pytest.mark.root]

MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


def test_tokens_are_mounted(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Service Account Tokens Must AutoMount" """
    account: Obj = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}
    start(cluster, namespace, account, pod("p", container("c", SLEEP), serviceAccountName="robot"))
    told = shell(cluster, namespace, "p", f"cd {MOUNT}; cat namespace; echo; cat token; echo; cat ca.crt")
    name, token, authority = told.split("\n", 2)
    config = cluster.json("-n", namespace, "get", "configmap", "kube-root-ca.crt")
    assert (name, authority) == (namespace, config["data"]["ca.crt"])
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    uid = cluster.json("-n", namespace, "get", "pod", "p")["metadata"]["uid"]
    assert claims["sub"] == f"system:serviceaccount:{namespace}:robot"
    assert claims["kubernetes.io"]["pod"] == {"name": "p", "uid": uid}
    who = cluster.kubectl("auth", "whoami", f"--token={token}", "-o", "json", "--kubeconfig=/dev/null",
                          f"--server={server(cluster)}", "--insecure-skip-tls-verify")  # fmt: skip
    assert json.loads(who.stdout)["status"]["userInfo"]["username"] == claims["sub"]


def server(cluster: Cluster) -> str:
    [found] = json.loads(cluster.kubectl("config", "view", "-o", "json").stdout)["clusters"]
    address: str = found["cluster"]["server"]
    return address


def test_tokens_belong_to_whom_the_pod_runs_as(cluster: Cluster, namespace: str) -> None:
    """Conformance: "TokenRequestProjection should mount a projected volume with token using TokenRequest API." """
    token = {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 3600}}
    volumes = {"v": {"projected": {"sources": [token], "defaultMode": 0o644}}}

    def row(says: str, **context: int) -> Row:
        script = "test -s /v/token && stat -Lc '%a %u:%g' /v/token"
        return Row(script=script, says=[says], volumes=volumes, spec={"securityContext": context})

    rows = {
        "root": row("644 0:0"),
        "user": row("600 1000:0", runAsUser=1000),
        "group": row("640 0:10000", fsGroup=10000),
        "both": row("640 0:10000", runAsUser=1000, fsGroup=10000),
    }
    assert surprises(cluster, namespace, rows) == {}
