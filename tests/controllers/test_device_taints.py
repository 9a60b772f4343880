"""Pods leave tainted devices, as soon as their claims tolerate them no longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pinnace.apis.device_selection import rule_selects
from pinnace.apis.resources import DEVICE_TAINT_RULES, PODS, RESOURCE_CLAIMS
from pinnace.controllers.device_taint_eviction import DeviceTaintEvictionController
from pinnace.controllers.device_taints import (
    Device,
    evicted_at,
    pending,
    progress,
    published_taints,
    selected,
    tolerates,
)
from pinnace.machinery.meta import Obj, format_time
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import conditions, messages, running

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GPU = Device("gpu.example.com", "n1", "gpu-0")
BAD = {"key": "broken", "value": "yes", "effect": "NoExecute"}


def sliced(*taints: Obj, generation: int = 1, device: str = "gpu-0") -> Obj:
    devices = [{"name": device, "taints": list(taints)}]
    pool = {"name": "n1", "generation": generation}
    return {"metadata": {"name": f"s{generation}"}, "spec": {"driver": GPU.driver, "pool": pool, "devices": devices}}


def rule(taint: Obj = BAD, **selector: str) -> Obj:
    spec: Obj = {"taint": taint, "deviceSelector": selector}
    kind = {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceTaintRule"}
    return {**kind, "metadata": {"name": "rule"}, "spec": spec}


def claim(*tolerations: Obj, **status: Any) -> Obj:
    result = {"driver": GPU.driver, "pool": GPU.pool, "device": GPU.name, "tolerations": list(tolerations)}
    allocation = {"allocation": {"devices": {"results": [result]}}}
    metadata = {"name": "c", "namespace": "default"}
    kind = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim"}
    return {**kind, "metadata": metadata, "spec": {}, "status": {**allocation, **status}}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({}, True),
        ({"driver": "gpu.example.com"}, True),
        ({"driver": "gpu.example.com", "pool": "n1", "device": "gpu-0"}, True),
        ({"driver": "other"}, False),
        ({"pool": "n2"}, False),
        ({"device": "gpu-1"}, False),
    ],
)
def test_which_devices_a_rule_taints(selector: dict[str, Any], expected: bool) -> None:
    assert rule_selects(rule(**selector), *GPU) is expected


def test_a_rule_without_selector_taints_nothing() -> None:
    assert not rule_selects({"spec": {"taint": {}}}, *GPU)


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "broken", "operator": "Exists"}, True),
        ({"key": "broken", "value": "yes"}, True),
        ({"key": "broken", "value": "no"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"operator": "Exists", "effect": "NoSchedule"}, False),
    ],
)
def test_what_is_tolerated(toleration: Obj, expected: bool) -> None:
    assert tolerates(toleration, BAD) is expected


def test_the_newest_generation_of_a_pool_counts() -> None:
    assert published_taints([sliced(BAD, generation=1), sliced(generation=2)]) == {}
    assert published_taints([sliced(BAD, generation=2), sliced(generation=1)]) == {GPU: [BAD]}


SINCE = {**BAD, "timeAdded": format_time(NOW - timedelta(seconds=10))}
FOREVER, MINUTE = {"operator": "Exists"}, {"operator": "Exists", "tolerationSeconds": 60}


@pytest.mark.parametrize(
    ("owner", "slices", "rules", "left"),
    [
        (claim(), [sliced()], [], None),
        (claim(), [sliced(BAD)], [], 0),
        (claim(), [sliced({**BAD, "effect": "NoSchedule"})], [], None),
        (claim(), [sliced({**BAD, "effect": "None"})], [], None),
        (claim(FOREVER), [sliced(BAD)], [], None),
        (claim(MINUTE), [sliced(SINCE)], [], 50),
        (claim(MINUTE), [], [rule(SINCE)], 50),
        (claim(FOREVER, MINUTE), [sliced(SINCE)], [], 50),
        (claim(), [], [rule(SINCE, pool="n2")], None),
        (claim(), [sliced(BAD, device="gpu-1")], [], None),
    ],
)
def test_when_users_must_go(owner: Obj, slices: list[Obj], rules: list[Obj], left: float | None) -> None:
    due = evicted_at(owner, published_taints(slices), rules, NOW)
    assert (None if due is None else (due - NOW).total_seconds()) == left


def going(*namespaces: str) -> list[Obj]:
    return [{"metadata": {"name": f"p{number}", "namespace": one}} for number, one in enumerate(namespaces)]


@pytest.mark.parametrize(
    ("effect", "to_go", "evicted", "status", "reason", "message"),
    [
        ("NoExecute", [], 0, "False", "NotStarted", ""),
        ("NoExecute", going("a"), 0, "True", "PodsPendingEviction", "1 pod needs to be evicted in 1 namespace."),
        (
            "NoExecute",
            going("a", "b"),
            1,
            "True",
            "PodsPendingEviction",
            "2 pods need to be evicted in 2 different namespaces. 1 pod evicted since starting the controller.",
        ),
        ("NoExecute", [], 2, "False", "Completed", "2 pods evicted since starting the controller."),
        ("NoSchedule", [], 0, "False", "OtherEffect", "Eviction only happens for the NoExecute effect."),
        (
            "None",
            going("a"),
            0,
            "False",
            "NoEffect",
            (
                "3 published devices selected. 1 allocated device selected. 1 pod would be evicted in 1 namespace if"
                " the effect was NoExecute. This information will not be updated again. Recreate the DeviceTaintRule"
                " to trigger an update."
            ),
        ),
    ],
)
def test_a_rule_tells_how_far_its_eviction_is(
    effect: str, to_go: list[Obj], evicted: int, status: str, reason: str, message: str
) -> None:
    found = progress(rule({**BAD, "effect": effect}), to_go, evicted, (3, 1), NOW)
    assert (found["type"], found["status"], found["reason"]) == ("EvictionInProgress", status, reason)
    assert found["message"] == message


def test_which_devices_and_pods_a_rule_is_about() -> None:
    user = {"metadata": {"name": "user", "namespace": "default", "uid": "u"}}
    held = claim(reservedFor=[{"resource": "pods", "name": "user", "uid": "u"}])
    assert selected(rule(), [sliced(), sliced(generation=2)], [held]) == (1, 1)
    assert pending(rule({**BAD, "effect": "None"}), [held], {"default": [user]}, NOW) == [user]
    tolerant = claim(FOREVER, reservedFor=[{"resource": "pods", "name": "user", "uid": "u"}])
    assert pending(rule(), [tolerant], {"default": [user]}, NOW) == []


async def test_users_of_a_tainted_device_are_evicted() -> None:
    api = FakeApi()
    for name in ("user", "other"):
        metadata = {"name": name, "namespace": "default", "finalizers": ["keep/me"]}
        await api.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}})
    uid = (api.find(PODS, "default/user") or {})["metadata"]["uid"]
    await api.client.create(RESOURCE_CLAIMS, claim(reservedFor=[{"resource": "pods", "name": "user", "uid": uid}]))
    async with running(api, DeviceTaintEvictionController):
        await api.client.create(DEVICE_TAINT_RULES, rule())
        gone = lambda: "deletionTimestamp" in (api.find(PODS, "default/user") or {})["metadata"]  # noqa: E731
        await api.until(gone)
        await api.until(lambda: "Marking for deletion" in messages(api, "DeviceTaintManagerEviction"))
        done = ("False", "Completed", "1 pod evicted since starting the controller.")
        await api.until(lambda: conditions(api.find(DEVICE_TAINT_RULES, "rule")).get("EvictionInProgress") == done)
    (found,) = (api.find(PODS, "default/user") or {})["status"]["conditions"]
    assert (found["type"], found["reason"]) == ("DisruptionTarget", "DeletionByDeviceTaintManager")
    assert "deletionTimestamp" not in (api.find(PODS, "default/other") or {})["metadata"]
