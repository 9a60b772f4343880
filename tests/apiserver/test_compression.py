"""gzip for large answers, as kube-apiserver compresses them."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest

from pinnace.apiserver import compression
from pinnace.apiserver.compression import compressed
from pinnace.wire.http import Response
from tests.apiserver.conftest import Cluster, config_map

BIG, HUGE = b"0123456789abcdef" * 10_000, b"0123456789abcdef" * 100_000


async def packed(body: bytes, accepted: str | None = "gzip") -> Response:
    headers = {} if accepted is None else {"accept-encoding": accepted}
    answer = compressed(headers, Response(200, (("Content-Type", "application/json"),), body))
    return answer if isinstance(answer, Response) else await answer


@pytest.mark.parametrize("body", [BIG, HUGE])
@pytest.mark.parametrize("accepted", ["gzip", "deflate, gzip", "gzip,deflate,br"])
async def test_large_answers_are_compressed_for_who_takes_it(body: bytes, accepted: str) -> None:
    answer = await packed(body, accepted)
    assert gzip.decompress(answer.body) == body
    assert answer.headers[1:] == (("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))


@pytest.mark.parametrize("accepted", [None, "", "identity", "gzip;q=0", "x-gzip"])
async def test_answers_are_left_alone_for_who_does_not(accepted: str | None) -> None:
    assert (await packed(BIG, accepted)).body is BIG


async def test_small_answers_are_left_alone() -> None:
    body = b"x" * (128 << 10)
    assert (await packed(body)).body is body


async def test_what_was_compressed_once_is_not_compressed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    body, times = bytes(bytearray(HUGE)), []
    compress = compression._compress
    monkeypatch.setattr(compression, "_compress", lambda data: times.append(1) or compress(data))
    answers = await asyncio.gather(*(packed(body) for _ in range(5)))
    answers.append(await packed(body))
    assert len(times) == 1
    assert {answer.body for answer in answers} == {answers[0].body}


async def test_lists_are_compressed_and_watches_are_not(cluster: Cluster) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    for number in range(4):
        await cluster.request("POST", path, config_map(f"c-{number}", v="x" * 50_000))
    asked = {"Accept-Encoding": "gzip"}
    answer = await cluster.call("GET", path, headers=asked)
    assert (answer.headers["content-encoding"], answer.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert len(json.loads(gzip.decompress(answer.body))["items"]) == 4
    assert "content-encoding" not in (await cluster.call("GET", f"{path}/c-0", headers=asked)).headers
    _, writer, status, headers = await cluster.open("GET", f"{path}?watch=true", headers=asked)
    writer.close()
    assert (status, headers.get("content-encoding")) == (200, None)
