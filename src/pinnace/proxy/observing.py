"""What the proxy tells of itself on its port for metrics, to whoever reaches it: /metrics, /healthz, /proxyMode,
/configz, the pages of `wire.zpages` and, where it is told to, /debug/pprof/.

Paths and words are kube-proxy's
(https://kubernetes.io/docs/reference/command-line-tools-reference/kube-proxy/, `--metrics-bind-address`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from pinnace.client import measures
from pinnace.machinery import metrics
from pinnace.machinery.features import FeatureGates
from pinnace.machinery.meta import Obj
from pinnace.machinery.metrics import Family
from pinnace.wire import profiling
from pinnace.wire.http import Request, Response
from pinnace.wire.process_metrics import process_families
from pinnace.wire.zpages import ZPages

CONFIGURATION = "kubeproxy.config.k8s.io"
_TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))
_NOT_FOUND = Response(404, _TEXT, b"404 page not found\n")
_PATHS = ("/configz", "/debug", "/flagz", "/healthz", "/metrics", "/proxyMode", "/statusz")


class Observer:
    def __init__(
        self,
        features: FeatureGates,
        families: Iterable[Family] = (),
        *,
        flags: Mapping[str, str] | None = None,
        configuration: Callable[[], Obj] = dict,
        profiled: bool = False,
    ) -> None:
        process = process_families(f"v1.{features.minor}.0", features.table())
        self._families = [*process, *measures.families(), *families]
        self._profiled = profiled
        self._pages = ZPages(
            component="kube-proxy",
            features=features,
            flags=flags or {},
            configuration=(CONFIGURATION, configuration),
            paths=_PATHS,
            debug_flags=profiled,
        )

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        if request.path == "/metrics":
            return Response(200, (("Content-Type", metrics.TEXT),), metrics.text(self._families).encode())
        if request.path in ("/healthz", "/proxyMode"):
            return Response(200, _TEXT, b"ok" if request.path == "/healthz" else b"nftables")
        found = self._pages.answer(request)
        if found is None and self._profiled and f"{request.path}/".startswith(profiling.BELOW):
            return profiling.answer(request) or _NOT_FOUND
        return found or _NOT_FOUND
