"""Events in both of their groups."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.machinery.meta import format_micro_time, utc_now
from pinnace.testing import Api, ApiError

CORE = "v1/events"
NEW = "events.k8s.io/v1/events"


def core_event(name: str, namespace: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "labels": labels},
        "message": "This is a test event",
        "reason": "Test",
        "type": "Normal",
        "count": 1,
        "involvedObject": {"namespace": namespace, "kind": "Pod", "name": "any"},
    }


def new_event(name: str, namespace: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "labels": labels},
        "eventTime": format_micro_time(utc_now()),
        "reportingController": "test-controller",
        "reportingInstance": "test-node",
        "action": "Do",
        "reason": "Test",
        "type": "Normal",
        "note": "This is a test event",
        "regarding": {"kind": "Pod", "name": "any", "namespace": namespace},
    }


def series(count: int) -> dict[str, Any]:
    return {"count": count, "lastObservedTime": format_micro_time(utc_now())}


def names(api: Api, resource: str, namespace: str, **selectors: str) -> list[str]:
    return [one["metadata"]["name"] for one in api.list(resource, namespace, **selectors)]


def test_a_core_event_lives(api: Api, namespace: str) -> None:
    """Conformance: "Event resource lifecycle", "Event, manage lifecycle of an Event" """
    api.create(core_event("one", namespace, testevent="constant"), namespace)
    assert names(api, CORE, "", labels="testevent=constant") == ["one"]
    patched = api.patch(CORE, "one", {"message": "This is a test event - patched"}, namespace)
    assert patched["message"] == "This is a test event - patched"
    body = api.get(CORE, "one", namespace)
    body["series"] = series(100)
    api.update(body)
    assert api.get(CORE, "one", namespace)["series"]["count"] == 100
    api.delete(CORE, "one", namespace)
    assert names(api, CORE, "", labels="testevent=constant") == []


def test_core_events_are_deleted_together(api: Api, namespace: str) -> None:
    """Conformance: "Event, delete a collection" """
    for number in range(3):
        api.create(core_event(f"test-event-{number}", namespace, testevent="set"), namespace)
    path = f"/api/v1/namespaces/{namespace}/events"
    assert len(names(api, CORE, namespace, labels="testevent=set")) == 3
    api.request("DELETE", path, params={"labelSelector": "testevent=set"})
    assert names(api, CORE, namespace, labels="testevent=set") == []


def test_a_new_event_lives(api: Api, namespace: str) -> None:
    """Conformance: "New Event resource lifecycle, testing a single event" """
    api.create(new_event("one", namespace), namespace)
    assert "one" in names(api, NEW, "")
    assert names(api, NEW, namespace, fields="reportingController=test-controller") == ["one"]
    patch = {"series": series(2)}
    assert (
        api.patch(NEW, "one", patch, namespace, content_type="application/strategic-merge-patch+json")["series"][
            "count"
        ]
        == 2
    )
    body = api.get(NEW, "one", namespace)
    body["series"] = series(100)
    assert api.update(body)["series"]["count"] == 100
    api.delete(NEW, "one", namespace)
    assert "one" not in names(api, NEW, "")


def test_new_events_are_deleted_together(api: Api, namespace: str) -> None:
    """Conformance: "New Event resource lifecycle, testing a list of events" """
    for number in range(4):
        api.create(new_event(f"test-event-{number}", namespace, testevent="set"), namespace)
    api.create(new_event("other", namespace), namespace)
    assert len(names(api, NEW, namespace, labels="testevent=set")) == 4
    path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
    api.request("DELETE", path, params={"labelSelector": "testevent=set"})
    assert names(api, NEW, namespace) == ["other"]


@pytest.mark.parametrize(("written", "read"), [(CORE, NEW), (NEW, CORE)])
def test_an_event_is_the_same_in_both_groups(api: Api, namespace: str, written: str, read: str) -> None:
    make = core_event if written == CORE else new_event
    api.create(make("one", namespace), namespace)
    found = api.get(read, "one", namespace)
    assert found["apiVersion"] == read.rpartition("/")[0]
    assert found.get("note", found.get("message")) == "This is a test event"
    assert found.get("regarding", found.get("involvedObject"))["name"] == "any"


def test_each_group_selects_by_its_own_words(api: Api, namespace: str) -> None:
    api.create(new_event("one", namespace), namespace)
    assert names(api, NEW, namespace, fields="regarding.name=any,reportingController=test-controller") == ["one"]
    assert names(api, CORE, namespace, fields="involvedObject.name=any,reportingComponent=test-controller") == ["one"]
    assert names(api, NEW, namespace, fields="regarding.name!=any") == []
    for resource, field in ((NEW, "involvedObject.name"), (CORE, "regarding.name")):
        with pytest.raises(ApiError, match=f"field label not supported: {field}"):
            names(api, resource, namespace, fields=f"{field}=any")
