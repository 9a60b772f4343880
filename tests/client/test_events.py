"""Repeated events are counted, events alike are combined, and an object that goes on and on is heard less."""

from __future__ import annotations

from datetime import UTC, datetime

from pinnace.apis.resources import EVENTS
from pinnace.client.events import Correlator, EventRecorder, _Remark
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj
from tests.client.fake_api import FakeApi

POD: Obj = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "7"},
}


async def test_an_event_says_who_what_and_where() -> None:
    api = FakeApi()
    recorder = EventRecorder(api.client, "kubelet", "node-1")
    recorder.event(POD, "Normal", "Started", "Started container web", field_path="spec.containers{web}")
    await recorder.close()
    (event,) = api.all(EVENTS)
    assert event["metadata"]["namespace"] == "shop"
    assert event["metadata"]["name"].startswith("web.")
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "shop",
        "name": "web",
        "uid": "u-1",
        "resourceVersion": "7",
        "fieldPath": "spec.containers{web}",
    }
    assert (event["type"], event["reason"], event["message"]) == ("Normal", "Started", "Started container web")
    assert event["source"] == {"component": "kubelet", "host": "node-1"}
    assert event["count"] == 1
    assert event["firstTimestamp"] == event["lastTimestamp"]


async def test_repetitions_raise_the_count() -> None:
    api = FakeApi()
    recorder = EventRecorder(api.client, "kubelet")
    for _ in range(3):
        recorder.event(POD, "Warning", "BackOff", "Back-off restarting failed container")
    await recorder.close()
    (event,) = api.all(EVENTS)
    assert event["count"] == 3


async def test_a_repetition_of_an_event_that_expired_makes_a_new_one() -> None:
    api = FakeApi()
    recorder = EventRecorder(api.client, "kubelet")
    for _ in range(2):
        recorder.event(POD, "Warning", "BackOff", "again")
        await recorder.close()
        (event,) = api.all(EVENTS)
        await api.client.delete(EVENTS, event["metadata"]["name"], "shop")
    recorder.event(POD, "Warning", "BackOff", "again")
    await recorder.close()
    (event,) = api.all(EVENTS)
    assert event["count"] == 1


async def test_many_alike_are_combined() -> None:
    api = FakeApi()
    recorder = EventRecorder(api.client, "replicaset-controller")
    for number in range(15):
        recorder.event(POD, "Normal", "SuccessfulCreate", f"Created pod: web-{number}")
    await recorder.close()
    events = api.all(EVENTS)
    assert len(events) == 10
    assert events[-1]["message"] == "(combined from similar events): Created pod: web-14"
    assert events[-1]["count"] == 6


async def test_an_object_is_heard_at_most_25_times_in_a_row() -> None:
    api = FakeApi()
    recorder = EventRecorder(api.client, "kubelet")
    for number in range(40):
        recorder.event(POD, "Normal", f"Reason{number}", "said")
    await recorder.close()
    assert len(api.all(EVENTS)) == 25


async def test_a_refused_event_is_dropped() -> None:
    api = FakeApi()
    api.fail = lambda *_: ApiError(403, "Forbidden", "no")
    recorder = EventRecorder(api.client, "kubelet")
    recorder.event(POD, "Normal", "Started", "said")
    await recorder.close()
    assert api.all(EVENTS) == []
    assert len(api.requests) == 1


def test_events_of_long_ago_are_not_remembered_as_alike() -> None:
    correlator = Correlator()
    for number in range(100):
        involved = {"kind": "Pod", "name": f"p{number}"}
        remark = _Remark(involved, "Normal", "Started", "Started container web", datetime(2026, 1, 1, tzinfo=UTC))
        correlator.combine(remark, number * 10.0)

    assert len(correlator._alike) == 61  # of the last ten minutes
