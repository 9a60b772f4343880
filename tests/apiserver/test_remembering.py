"""What clients make the server remember has an end."""

from __future__ import annotations

import asyncio

import pytest

from pinnace.apiserver.server import _end_chores
from pinnace.wire.http import Peer, Request
from tests.apiserver.conftest import TOKEN, Cluster


async def test_long_paths_are_answered_and_not_kept(cluster: Cluster) -> None:
    path = cluster.server._path
    kept = len(path._parsed), len(path._metrics._requests)
    for number in range(50):
        target = f"/apis/{'x' * 100_000}{number}/v1/things"
        request = Request("GET", target, "", {"authorization": f"Bearer {TOKEN}"}, b"", Peer("127.0.0.1"))
        answer = cluster.server.handle(request)
        assert getattr(answer, "status", 404) == 404
    assert len(path._parsed) == kept[0]
    assert len(path._metrics._requests) <= kept[1] + 1


async def test_a_chore_that_failed_does_not_keep_the_others_from_ending() -> None:
    async def fail() -> None:
        raise RuntimeError("broken")

    chores = [asyncio.create_task(fail()), asyncio.create_task(asyncio.Event().wait())]
    await asyncio.wait(chores[:1])
    await _end_chores(chores)  # type: ignore[arg-type] # what they return does not matter
    assert all(chore.done() for chore in chores)


@pytest.mark.parametrize("said", [{"groups": "abc"}, {"groups": 5}, {"extra": [1]}, {"extra": {"k": None}}])
def test_an_answer_of_another_shape_is_no_user(said: dict[str, object]) -> None:
    from pinnace.apiserver.authentication.token_webhook import TokenWebhook

    webhook = TokenWebhook.__new__(TokenWebhook)
    webhook._audiences = ()
    with pytest.raises(ValueError, match=r"list of texts|no map"):
        webhook._known({"status": {"authenticated": True, "user": {"username": "ann", **said}}}, ())
