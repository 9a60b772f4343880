"""What the proxy tells of itself on its port for metrics, to whoever reaches it: /metrics, /healthz, /proxyMode.

Paths and words are kube-proxy's
(https://kubernetes.io/docs/reference/command-line-tools-reference/kube-proxy/, `--metrics-bind-address`).
"""

from __future__ import annotations

from pinnace.client import measures
from pinnace.machinery import metrics
from pinnace.machinery.features import FeatureGates
from pinnace.wire.http import Request, Response
from pinnace.wire.process_metrics import process_families

_TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))


class Observer:
    def __init__(self, features: FeatureGates) -> None:
        process = process_families(f"v1.{features.minor}.0", features.table())
        self._families = [*process, *measures.families()]

    def handle(self, request: Request) -> Response:
        if request.path == "/metrics":
            return Response(200, (("Content-Type", metrics.TEXT),), metrics.text(self._families).encode())
        if request.path in ("/healthz", "/proxyMode"):
            return Response(200, _TEXT, b"ok" if request.path == "/healthz" else b"nftables")
        return Response(404, _TEXT, b"404 page not found\n")
