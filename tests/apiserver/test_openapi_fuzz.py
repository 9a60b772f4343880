"""Every operation of the served OpenAPI, with requests as nobody means them: no 5xx, no error in the log, no leak.

`PINNACE_FUZZ_SEED` and `PINNACE_FUZZ_ROUNDS` choose other requests and more of them.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from random import Random
from typing import Any

import structlog

from pinnace.wire.http import AnyResponse, Peer, Request, StreamingResponse
from tests.apiserver.conftest import TOKEN, Cluster
from tests.apiserver.wild import WORDS, Operation, Sent, Wild, operations
from tests.conformance.samples import SAMPLES

SEED = int(os.environ.get("PINNACE_FUZZ_SEED", "1"))
ROUNDS = int(os.environ.get("PINNACE_FUZZ_ROUNDS", "16"))  # requests for each operation
CONNECTING = ("/proxy", "/exec", "/attach", "/portforward", "/log")  # answered by others: 503 without them
POD = {"spec": {"containers": [{"name": "main", "image": "example.com/any", "ports": [{"containerPort": 80}]}]}}
RIGHT: dict[tuple[str, str], Any] = {
    ("v1", "Pod"): POD,
    ("v1", "Namespace"): {},
    **{(one.api_version, one.kind): one.body for one in SAMPLES},
}
GROWTH = 120 << 20  # bytes that the second half of the requests may add, objects and caches included


class Peerless:
    """The open end of a watch whose reader takes everything and goes away soon."""

    closed = False

    def write(self, data: bytes) -> None: ...

    def write_framed(self, chunk: bytes) -> None: ...

    async def drain(self) -> None: ...

    def on_close(self, callback: Any) -> None: ...


async def documents(cluster: Cluster) -> dict[str, Any]:
    listed = (await cluster.call("GET", "/openapi/v3")).json["paths"]
    return {path: (await cluster.call("GET", one["serverRelativeURL"])).json for path, one in listed.items()}


async def answer_to(cluster: Cluster, sent: Sent) -> AnyResponse:
    headers = {"authorization": f"Bearer {TOKEN}", **sent.headers}
    request = Request(sent.method, sent.path, sent.query, headers, sent.body, Peer("127.0.0.1"), sent.path)
    found = cluster.server.handle(request)
    return await found if asyncio.iscoroutine(found) else found  # type: ignore[return-value]


async def begin(answer: StreamingResponse) -> None:
    """Let a watch or a log begin, and take it away again."""
    running = asyncio.ensure_future(answer.run(Peerless()))
    for _ in range(3):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    if not running.cancelled() and running.exception() is not None:
        raise running.exception()  # type: ignore[misc]


async def fill(cluster: Cluster) -> None:
    """An object of every kind there is a sample of, so that requests find something."""
    for sample in SAMPLES:
        place = "/namespaces/default" if sample.namespaced else ""
        prefix = "/apis" if "/" in sample.api_version else "/api"
        body = {"apiVersion": sample.api_version, "kind": sample.kind, "metadata": {"name": "first"}, **sample.body}
        await cluster.call("POST", f"{prefix}/{sample.api_version}{place}/{sample.resource}", body)


async def attempt(cluster: Cluster, operation: Operation, sent: Sent) -> str:
    """What is wrong with the answer; empty if nothing is."""
    async with asyncio.timeout(60):
        answer = await answer_to(cluster, sent)
        if isinstance(answer, StreamingResponse):
            await begin(answer)
    body = getattr(answer, "body", b"")
    elsewhere = any(part in operation.path for part in CONNECTING)
    if answer.status >= 500 and not (elsewhere and answer.status in (502, 503, 504)):
        return f"{answer.status} {body!r} to {sent}"
    if answer.status >= 400 and body.startswith(b"{") and json.loads(body)["kind"] != "Status":
        return f"no Status but {body!r} to {sent}"
    return ""


async def test_no_operation_fails_whatever_is_sent(cluster: Cluster) -> None:
    served = await documents(cluster)
    told = [(one, document["components"]["schemas"]) for document in served.values() for one in operations(document)]
    assert len(told) > 600
    await fill(cluster)
    halfway, failures = 0, []
    with structlog.testing.capture_logs() as logs:
        for number in range(ROUNDS):
            if number == ROUNDS // 2:
                halfway = resident()
            for position, (operation, schemas) in enumerate(told):
                wild = Wild(Random(f"{SEED} {number} {position}"), schemas, RIGHT)
                wrong = await attempt(cluster, operation, wild.request(operation))
                if wrong:
                    failures.append(wrong)
            await fill(cluster)
    errors = [one for one in logs if one["log_level"] in ("error", "critical")]
    assert failures == []
    assert errors == []
    assert resident() - halfway < GROWTH


async def test_no_operation_fails_over_the_wire(cluster: Cluster) -> None:
    """The same with TLS and HTTP between, where a body may be cut off and a path is not decoded yet."""
    served = await documents(cluster)
    told = [(one, document["components"]["schemas"]) for document in served.values() for one in operations(document)]
    await fill(cluster)
    with structlog.testing.capture_logs() as logs:
        for number in range(600):
            chance = Random(f"{SEED} wire {number}")
            operation, schemas = chance.choice(told)
            sent = Wild(chance, schemas, RIGHT).request(operation)
            headers = {name.title(): value for name, value in sent.headers.items()}
            if chance.random() < 0.1:
                headers[chance.choice(("X", "Cookie", "Range", "If-Match", "Date", "Te"))] = chance.choice(WORDS) * 9
            target = sent.path + (f"?{sent.query}" if sent.query else "")
            async with asyncio.timeout(60):
                _, writer, status, _ = await cluster.open(sent.method, target, sent.body, headers)
            writer.close()
            elsewhere = any(part in operation.path for part in CONNECTING)
            assert status < 500 or (elsewhere and status in (502, 503, 504)), (status, sent)
    assert [one for one in logs if one["log_level"] in ("error", "critical")] == []


def resident() -> int:
    """Memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
