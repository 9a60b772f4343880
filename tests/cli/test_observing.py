"""What kube-controller-manager and kube-scheduler say of themselves, and to whom."""

from __future__ import annotations

from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pinnace.cli.observing import Observer
from pinnace.client.client import Client
from pinnace.machinery.features import FeatureGates
from pinnace.machinery.meta import GVR, Obj
from pinnace.wire.http import Peer, Request, Response
from pinnace.wire.zpages import ZPages

PAGES = ZPages(component="kube-scheduler", features=FeatureGates(37))


class Judge:
    """An API server that knows one token, whose bearer may read /metrics and /debug/pprof."""

    async def create(self, resource: GVR, obj: Obj, namespace: str = "") -> Obj:
        spec: dict[str, Any] = obj["spec"]
        if resource.resource == "tokenreviews":
            user = {"username": "prometheus", "groups": ["system:authenticated"]}
            return {"status": {"authenticated": True, "user": user} if spec["token"] == "good" else {}}
        asked = spec["nonResourceAttributes"]
        allowed = [{"path": path, "verb": "get"} for path in ("/metrics", "/debug/pprof", "/debug/pprof/heap")]
        return {"status": {"allowed": spec["user"] == "prometheus" and asked in allowed}}


async def ask(path: str, token: str = "", query: str = "", *, profiling: bool = True) -> Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    observer = Observer(cast(Client, Judge()), PAGES, profiling=profiling)
    answer = await observer.handle(Request("GET", path, query, headers, b"", Peer("")))
    assert isinstance(answer, Response)
    return answer


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/healthz/leaderElection"])
async def test_health_is_told_to_everybody(path: str) -> None:
    answer = await ask(path)
    assert (answer.status, answer.body) == (200, b"ok")


async def test_checks_are_named_to_who_asks() -> None:
    assert (await ask("/livez", query="verbose")).body == b"[+]ping ok\n[+]leaderElection ok\nlivez check passed\n"


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [("/metrics", "", 403), ("/metrics", "bad", 401), ("/metrics", "good", 200), ("/configz", "good", 403)],
)
async def test_metrics_are_told_to_whom_the_api_server_allows(path: str, token: str, status: int) -> None:
    answer = await ask(path, token)
    assert answer.status == status
    if status == 200:
        names = {family.name for family in text_string_to_metric_families(answer.body.decode())}
        assert {"process_cpu_seconds", "process_resident_memory_bytes", "kubernetes_build_info"} <= names


@pytest.mark.parametrize(
    ("path", "token", "profiling", "status"),
    [
        ("/debug/pprof", "", True, 403),
        ("/debug/pprof", "good", True, 200),
        ("/debug/pprof", "good", False, 404),
        ("/debug/pprof/heap", "good", True, 404),
    ],
)
async def test_what_they_do_is_told_to_whom_the_api_server_allows(
    path: str, token: str, profiling: bool, status: int
) -> None:
    assert (await ask(path, token, profiling=profiling)).status == status
