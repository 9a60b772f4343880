"""Tokens sign the cluster's description while they last."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import jwt
import pytest

from pinnace.apis.resources import CONFIG_MAPS, SECRETS
from pinnace.controllers.bootstrap_tokens import (
    BootstrapSigner,
    TokenCleaner,
    detached_signature,
    expires_in,
    signed_data,
    signing_token,
)
from pinnace.machinery.meta import Obj
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import running

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PAST, FUTURE = "2025-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


def token(name: str = "", **changed: str) -> Obj:
    fields = {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-signing": "true",
        **{key.replace("_", "-"): value for key, value in changed.items()},
    }
    data = {key: base64.b64encode(value.encode()).decode() for key, value in fields.items() if value}
    metadata = {"name": name or f"bootstrap-token-{fields['token-id']}", "namespace": "kube-system"}
    kind = {"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token"}
    return {**kind, "metadata": metadata, "data": data}


@pytest.mark.parametrize(
    ("secret", "signs"),
    [
        (token(), True),
        (token(expiration=FUTURE), True),
        (token(expiration=PAST), False),
        (token(expiration="tomorrow"), False),
        (token(usage_bootstrap_signing=""), False),
        (token(token_id="ABCDEF"), False),
        (token(token_secret="short"), False),
        (token("other"), False),
        ({**token(), "type": "Opaque"}, False),
    ],
)
def test_which_tokens_sign(secret: Obj, signs: bool) -> None:
    assert (signing_token(secret, NOW) is not None) is signs


@pytest.mark.parametrize(("text", "left"), [("", None), ("2026-01-01T00:01:00Z", 60.0), ("soon", 0.0)])
def test_when_tokens_expire(text: str, left: float | None) -> None:
    assert expires_in(token(expiration=text), NOW) == left


def test_the_signature_is_one_that_others_can_check() -> None:
    """By the library that reads it in full, content put back between the dots."""
    signature = detached_signature("content", "abcdef", "0123456789abcdef0123456789abcdef")
    head, empty, tail = signature.split(".")
    assert empty == ""
    whole = f"{head}.{base64.urlsafe_b64encode(b'content').rstrip(b'=').decode()}.{tail}"
    found = jwt.api_jws.decode_complete(whole, "0123456789abcdef0123456789abcdef", algorithms=["HS256"])
    assert (found["payload"], found["header"]) == (b"content", {"alg": "HS256", "kid": "abcdef"})


def test_signatures_of_others_go() -> None:
    data = {"kubeconfig": "x", "jws-kubeconfig-gone00": "old", "note": "kept"}
    found = signed_data(data, [("abcdef", "0123456789abcdef")])
    assert set(found) == {"kubeconfig", "note", "jws-kubeconfig-abcdef"}
    assert signed_data({"jws-kubeconfig-gone00": "old"}, [("abcdef", "0123456789abcdef")]) == {}


async def test_the_description_is_signed_while_there_is_a_token() -> None:
    api = FakeApi()
    info = {"metadata": {"name": "cluster-info", "namespace": "kube-public"}, "data": {"kubeconfig": "x"}}
    await api.client.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", **info})

    def data() -> dict[str, str]:
        found: dict[str, str] = (api.find(CONFIG_MAPS, "kube-public/cluster-info") or {})["data"]
        return found

    async with running(api, BootstrapSigner):
        await api.client.create(SECRETS, token())
        await api.until(lambda: "jws-kubeconfig-abcdef" in data())
        changed = {**(api.find(CONFIG_MAPS, "kube-public/cluster-info") or {})}
        before = data()["jws-kubeconfig-abcdef"]
        changed["data"] = {**changed["data"], "kubeconfig": "y"}
        await api.client.update(CONFIG_MAPS, changed)
        await api.until(lambda: data()["jws-kubeconfig-abcdef"] != before)
        await api.client.delete(SECRETS, "bootstrap-token-abcdef", "kube-system")
        await api.until(lambda: data() == {"kubeconfig": "y"})


async def test_expired_tokens_are_deleted() -> None:
    api = FakeApi()
    await api.client.create(SECRETS, token(expiration=PAST))
    await api.client.create(SECRETS, token(token_id="123456", expiration=FUTURE))
    async with running(api, TokenCleaner):
        await api.until(lambda: len(api.all(SECRETS)) == 1)
    assert api.find(SECRETS, "kube-system/bootstrap-token-123456") is not None
