"""When the kubelet asks for another token of a pod, and what it does when it gets none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from pinnace.client.client import Client
from pinnace.kubelet.volumes.tokens import Tokens
from pinnace.machinery.errors import ApiError, unavailable
from pinnace.machinery.meta import GVR, Obj, format_time

HOUR, DAY = 3600, 24 * 3600
JITTER = 10  # seconds before a token is due from which on it may be renewed


class Issuer:
    """Makes tokens `token-1`, `token-2`, … of the lives that are asked for, as long as it is there."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.there = True
        self.asked: list[Obj] = []
        self.tokens = Tokens(cast(Client, self), lambda: self.now)

    async def create(self, _resource: GVR, request: Obj, namespace: str, *, name: str, subresource: str) -> Obj:
        if not self.there:
            raise unavailable("gone")
        assert (namespace, subresource) == ("default", "token")
        self.asked.append({"account": name, **request["spec"]})
        expires = self.now + timedelta(seconds=request["spec"]["expirationSeconds"])
        return {"status": {"token": f"token-{len(self.asked)}", "expirationTimestamp": format_time(expires)}}

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    async def get(self, uid: str = "u1", audience: str = "", seconds: int = HOUR, **spec: Any) -> str:
        metadata = {"name": "p", "namespace": "default", "uid": uid}
        return await self.tokens.get({"metadata": metadata, "spec": spec}, audience, seconds)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.mark.parametrize(
    ("life", "due"),
    [(HOUR, 0.8 * HOUR), (DAY, 0.8 * DAY), (7 * DAY, DAY), (600, 480)],
    ids=["hour", "day", "week", "ten minutes"],
)
async def test_a_token_is_renewed_after_four_fifths_of_its_life_or_a_day(issuer: Issuer, life: int, due: float) -> None:
    assert await issuer.get(seconds=life) == "token-1"
    issuer.wait(due - JITTER - 1)
    assert await issuer.get(seconds=life) == "token-1"
    issuer.wait(JITTER + 2)
    assert await issuer.get(seconds=life) == "token-2"


async def test_a_token_is_bound_to_its_pod(issuer: Issuer) -> None:
    await issuer.get(audience="vault", serviceAccountName="robot")
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u1"}
    wanted = {"account": "robot", "audiences": ["vault"], "expirationSeconds": HOUR, "boundObjectRef": bound}
    assert issuer.asked == [wanted]


async def test_pods_audiences_and_lives_have_tokens_of_their_own(issuer: Issuer) -> None:
    asked: list[dict[str, Any]] = [{}, {"uid": "u2"}, {"audience": "vault"}, {"seconds": DAY}]
    first = [await issuer.get(**one) for one in asked]
    assert first == ["token-1", "token-2", "token-3", "token-4"]
    assert [await issuer.get(**one) for one in asked] == first
    issuer.tokens.forget("u1")
    assert [await issuer.get(uid="u2"), await issuer.get()] == ["token-2", "token-5"]


async def test_a_token_that_cannot_be_renewed_is_used_to_its_end(issuer: Issuer) -> None:
    assert await issuer.get() == "token-1"
    issuer.there = False
    issuer.wait(0.9 * HOUR)
    assert await issuer.get() == "token-1"
    issuer.wait(0.1 * HOUR)
    with pytest.raises(ApiError, match="gone"):
        await issuer.get()
    issuer.there = True
    assert await issuer.get() == "token-2"
