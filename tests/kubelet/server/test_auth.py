"""Who is let in by the kubelet's server, and what its requests are called where that is decided."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pinnace.apis.resources import SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS
from pinnace.kubelet.server.auth import Attributes, ServerAuth, attributes
from pinnace.machinery.errors import internal
from pinnace.wire.http import Peer, Request


@pytest.mark.parametrize(
    ("method", "path", "fine", "verb", "subresources"),
    [
        ("GET", "/stats/summary", True, "get", ("stats",)),
        ("GET", "/metrics/cadvisor", True, "get", ("metrics",)),
        ("GET", "/logs/messages", True, "get", ("log",)),
        ("POST", "/checkpoint/ns/p/c", True, "create", ("checkpoint",)),
        ("GET", "/pods", True, "get", ("pods", "proxy")),
        ("GET", "/runningpods/", True, "get", ("pods", "proxy")),
        ("GET", "/healthz", True, "get", ("healthz", "proxy")),
        ("GET", "/configz", True, "get", ("configz", "proxy")),
        ("GET", "/statusz", False, "get", ("statusz", "proxy")),
        ("GET", "/pods", False, "get", ("proxy",)),
        ("POST", "/exec/ns/p/c", True, "create", ("proxy",)),
        ("GET", "/containerLogs/ns/p/c", True, "get", ("proxy",)),
        ("DELETE", "/podsandmore", True, "delete", ("proxy",)),
    ],
)
def test_what_a_request_is_called(method, path, fine, verb, subresources):
    """The subresources of KEP-2862 come before `proxy`, which allows everything."""
    assert attributes(method, path, "n1", fine_grained=fine) == Attributes(verb, "n1", subresources)


def client_certificate(name: str, group: str) -> bytes:
    """DER of a certificate that names a user and a group."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


class Reviews:
    """An API server that knows two tokens and who may do what."""

    def __init__(self) -> None:
        self.tokens = {"good": {"username": "ann", "groups": ["dev"], "extra": {"a": ["b"]}}}
        self.allowed = {("ann", "pods")}
        self.asked: list[dict[str, Any]] = []
        self.broken = False

    async def create(self, resource, obj):
        if self.broken:
            raise internal("no")
        assert "metadata" in obj  # the client looks for a namespace there
        self.asked.append(obj["spec"])
        spec = obj["spec"]
        if resource == TOKEN_REVIEWS:
            user = self.tokens.get(spec["token"])
            return {"status": {"authenticated": user is not None, "user": user}}
        assert resource == SUBJECT_ACCESS_REVIEWS
        return {"status": {"allowed": (spec["user"], spec["resourceAttributes"]["subresource"]) in self.allowed}}


@pytest.fixture
def gate(options):
    options.authentication_webhook, options.authorization_mode = True, "Webhook"
    reviews, now = Reviews(), [0.0]
    return ServerAuth(reviews, options, lambda: now[0]), reviews, now, options  # type: ignore[arg-type]


def request(path: str, token: str = "", certificate: bytes | None = None) -> Request:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return Request("GET", path, "", headers, b"", Peer("192.0.2.9", certificate))


async def test_a_token_and_what_it_allows(gate):
    door, reviews, _, _ = gate
    assert await door.refusal(request("/pods", "good")) is None
    assert await door.refusal(request("/exec/a/b/c", "good")) == (
        403,
        "Forbidden (user=ann, verb=get, resource=nodes, subresource(s)=[proxy])\n",
    )
    assert await door.refusal(request("/metrics", "good")) == (
        403,
        "Forbidden (user=ann, verb=get, resource=nodes, subresource(s)=[metrics])\n",
    )
    review = reviews.asked[1]
    assert (review["groups"], review["extra"]) == (["dev"], {"a": ["b"]})
    assert review["resourceAttributes"] == {
        "verb": "get",
        "version": "v1",
        "resource": "nodes",
        "subresource": "pods",
        "name": "n1",
    }


async def test_what_proxy_allows_all_is_allowed(gate):
    door, reviews, _, _ = gate
    reviews.allowed = {("ann", "proxy")}
    assert await door.refusal(request("/pods", "good")) is None
    assert [one["resourceAttributes"]["subresource"] for one in reviews.asked[1:]] == ["pods", "proxy"]


@pytest.mark.parametrize("shown", [request("/pods"), request("/pods", "bad")])
async def test_who_is_nobody(gate, shown):
    assert await gate[0].refusal(shown) == (401, "Unauthorized")


async def test_anonymous_where_that_is_allowed(gate):
    door, reviews, _, options = gate
    options.anonymous_auth = True
    assert await door.refusal(request("/healthz")) == (
        403,
        "Forbidden (user=system:anonymous, verb=get, resource=nodes, subresource(s)=[healthz proxy])\n",
    )
    reviews.allowed = {("system:anonymous", "healthz")}
    options.unauthorized_cache_ttl = 0
    assert await door.refusal(request("/pods", "bad")) == (401, "Unauthorized")


async def test_a_certificate(gate):
    door, reviews, _, _ = gate
    der = client_certificate("kube-apiserver", "masters")
    await door.refusal(request("/pods", certificate=der))
    assert (reviews.asked[0]["user"], reviews.asked[0]["groups"]) == (
        "kube-apiserver",
        ["masters", "system:authenticated"],
    )


async def test_answers_count_for_a_while(gate):
    door, reviews, now, _ = gate
    for _ in range(3):
        await door.refusal(request("/pods", "good"))
    assert len(reviews.asked) == 2
    now[0] = 121.0  # a token's time is over, the verdict's is not
    await door.refusal(request("/pods", "good"))
    assert len(reviews.asked) == 3
    now[0] = 301.0
    await door.refusal(request("/pods", "good"))
    assert len(reviews.asked) == 5


async def test_nobody_is_let_in_while_the_api_server_does_not_answer(gate):
    door, reviews, _, _ = gate
    await door.refusal(request("/pods", "good"))
    reviews.broken = True
    assert (await door.refusal(request("/pods", "other")))[0] == 401
    assert (await door.refusal(request("/stats/summary", "good")))[0] == 500


async def test_everybody_known_where_nobody_decides(gate):
    door, reviews, _, options = gate
    options.authorization_mode = "AlwaysAllow"
    assert await door.refusal(request("/pods", certificate=b"verified")) is None
    assert await door.refusal(request("/pods")) == (401, "Unauthorized")
    assert reviews.asked == []
