"""A guestbook: what visitors write through the frontend is stored by a primary and read from its replicas."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import container, pod
from tests.support.manifests import deployment

pytestmark = [pytest.mark.e2e, pytest.mark.root]

LIMIT = 120.0  # seconds that anything may take
PORT = 6379

# Every part is a web server whose pages are shell scripts; services find each other by name.
_SERVE = "mkdir -p /www/cgi-bin && cd /www/cgi-bin && {pages} && chmod +x * && exec httpd -f -p {port} -h /www"
_PAGE = "printf '#!/bin/sh\\nprintf \"Content-Type: text/plain\\\\r\\\\n\\\\r\\\\n\"\\n%s\\n' '{script}' > {name}"

PRIMARY = _SERVE.format(
    pages=" && ".join(
        (
            _PAGE.format(name="set", script='echo "$QUERY_STRING" >> /www/entries; echo Updated'),
            _PAGE.format(name="get", script="cat /www/entries 2>/dev/null"),
        )
    ),
    port=PORT,
)
REPLICA = (
    f"(while :; do wget -q -O /tmp/new http://agnhost-primary:{PORT}/cgi-bin/get && mv /tmp/new /tmp/entries;"
    " sleep 1; done) & "
) + _SERVE.format(pages=_PAGE.format(name="get", script="cat /tmp/entries 2>/dev/null"), port=PORT)
FRONTEND = _SERVE.format(
    pages=" && ".join(
        (
            _PAGE.format(name="set", script=f'wget -q -O - "http://agnhost-primary:{PORT}/cgi-bin/set?$QUERY_STRING"'),
            _PAGE.format(name="get", script=f"wget -q -O - http://agnhost-replica:{PORT}/cgi-bin/get"),
        )
    ),
    port=80,
)


def part(name: str, script: str, replicas: int, port: int) -> list[dict[str, Any]]:
    """A Deployment and the Service before it."""
    tier = "frontend" if name == "frontend" else "backend"
    labels = {"app": name, "tier": tier}
    ready = {"httpGet": {"path": "/cgi-bin/get", "port": port}, "periodSeconds": 1}
    template = pod(name, container("main", script, ports=[{"containerPort": port}], readinessProbe=ready))
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": labels},
            "spec": {"selector": labels, "ports": [{"port": port}]},
        },
        deployment(name, replicas, template["spec"], tier=tier),
    ]


def test_a_guestbook_keeps_what_is_written_to_it(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Kubectl, guestbook application" """
    items = [
        *part("agnhost-primary", PRIMARY, 1, PORT),
        *part("agnhost-replica", REPLICA, 2, PORT),
        *part("frontend", FRONTEND, 3, 80),
    ]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=manifest)
    for name in ("agnhost-primary", "agnhost-replica", "frontend"):
        cluster.kubectl("-n", namespace, "rollout", "status", f"deployment/{name}", "--timeout=120s")

    frontend = f"/api/v1/namespaces/{namespace}/services/frontend/proxy/cgi-bin"
    assert cluster.kubectl("get", "--raw", f"{frontend}/get").stdout == ""
    entries = ["value=TestEntry", "value=Another"]
    for entry in entries:
        assert cluster.kubectl("get", "--raw", f"{frontend}/set?{entry}").stdout.strip() == "Updated"
    end = time.monotonic() + LIMIT
    while (read := cluster.kubectl("get", "--raw", f"{frontend}/get").stdout.split()) != entries:
        assert time.monotonic() < end, f"the replicas say {read}"

    cluster.kubectl("-n", namespace, "delete", "--grace-period=0", "--force", "-f", "-", stdin=manifest)
    cluster.kubectl("-n", namespace, "wait", "--for=delete", "pod", "--all", "--timeout=120s")
    left = cluster.json("-n", namespace, "get", "deployments,services,pods")["items"]
    assert left == []
