"""What the clients of a process tell of themselves, in the text that collectors read."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pinnace.client.https import HttpsTransport
from pinnace.client.kubeconfig import Connection
from pinnace.client.measures import LEADING, families
from pinnace.client.workqueue import WorkQueue
from pinnace.machinery.errors import ApiError
from pinnace.machinery.metrics import text
from pinnace.wire.http import Response
from pinnace.wire.server import serve


def told(**labels: str) -> dict[str, float]:
    """What is told under these labels, by name."""
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text(families()))
        for sample in family.samples
        if sample.labels == labels
    }


async def test_a_queue_tells_what_waits_and_what_is_worked_on() -> None:
    queue = WorkQueue("shop")
    for key in ("a", "b", "a"):
        queue.add(key)
    queue.add_after("c", 100)
    await queue.get()
    found = told(name="shop")
    assert (found["workqueue_depth"], found["workqueue_adds_total"], found["workqueue_retries_total"]) == (1, 2, 1)
    assert found["workqueue_queue_duration_seconds_count"] == 1
    assert found["workqueue_work_duration_seconds_count"] == 0
    assert found["workqueue_unfinished_work_seconds"] >= found["workqueue_longest_running_processor_seconds"] > 0
    queue.done("a")
    found = told(name="shop")
    assert found["workqueue_work_duration_seconds_count"] == 1
    assert found["workqueue_unfinished_work_seconds"] == 0
    queue.close()


async def test_requests_are_counted_by_host_method_and_code() -> None:
    server = await serve(lambda _: Response(200, (), b"{}"), [("127.0.0.1", 0)])
    host = f"127.0.0.1:{server.addresses[0][1]}"
    before = [figure(host) for figure in (_answered, _lost, _timed)]  # of an earlier test's server on this port
    transport = HttpsTransport(Connection(server=f"http://{host}"))
    await transport.request("GET", "/api")
    await server.close(0)
    with pytest.raises(ApiError):
        await transport.request("GET", "/api")
    await transport.close()
    after = [figure(host) for figure in (_answered, _lost, _timed)]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 2]


def _answered(host: str) -> float:
    return told(host=host, method="GET", code="200").get("rest_client_requests_total", 0)


def _lost(host: str) -> float:
    return told(host=host, method="GET", code="<error>").get("rest_client_requests_total", 0)


def _timed(host: str) -> float:
    return told(host=host, verb="GET").get("rest_client_request_duration_seconds_count", 0)


def test_a_lease_that_is_held_is_told() -> None:
    LEADING.set(1, "shop-lease")
    assert told(name="shop-lease")["leader_election_master_status"] == 1
