"""What kube-controller-manager and kube-scheduler say of themselves, and to whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from prometheus_client.parser import text_string_to_metric_families

from pinnace.cli.delegated import Access
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


ACCESS = Access(tokens=cast(Client, Judge()), rights=cast(Client, Judge()), open_paths=("/open/*",))


async def ask(path: str, token: str = "", query: str = "", *, profiling: bool = True) -> Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    observer = Observer(ACCESS, PAGES, profiling=profiling)
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


async def test_open_paths_are_for_everybody() -> None:
    assert (await ask("/open/x")).status == 404
    assert (await ask("/other")).status == 403


@pytest.mark.parametrize(("believes", "status"), [(True, 403), (False, 401)])
async def test_certificates_name_who_asks_where_their_authority_is_given(believes: bool, status: int) -> None:
    access = Access(tokens=cast(Client, Judge()), rights=cast(Client, Judge()), believes_certificates=believes)
    certificate = certificate_of("somebody")
    headers = {"authorization": "Bearer bad"}
    refused = await access.refused(Request("GET", "/metrics", "", headers, b"", Peer("", certificate)))
    assert refused is not None
    assert refused.status == status
    if believes:
        assert refused.body == b'forbidden: User "somebody" cannot get path "/metrics"\n'


def certificate_of(name: str) -> bytes:
    """A certificate for a name, as DER; it has signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + timedelta(days=1))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
