"""Room for critical pods: who makes it, and what is said."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis.resources import NODES
from pinnace.kubelet.admission.preemption import lacking, victims
from pinnace.kubelet.admission.rules import admit
from pinnace.machinery.meta import Obj

CRITICAL = 2_000_000_000
WEB = {"name": "web", "image": "web:1"}


def pod(name: str, cpu: str = "", *, limit: bool = False, priority: int = 0, **metadata: Any) -> Obj:
    resources: Obj = {"requests": {"cpu": cpu}} if cpu else {}
    if limit:
        whole = {"cpu": cpu, "memory": "1Mi"}
        resources = {"requests": whole, "limits": whole}
    spec = {"priority": priority, "containers": [{"name": "c", "resources": resources}]}
    return {"metadata": {"name": name, "namespace": "default", "uid": name, **metadata}, "spec": spec}


WANTED = pod("critical", "1", priority=CRITICAL)


@pytest.mark.parametrize(
    ("others", "pods", "missing"),
    [
        ([], "10", {}),
        ([pod("a", "500m")], "10", {}),
        ([pod("a", "1500m")], "10", {"cpu": 500}),
        ([pod("a"), pod("b")], "2", {"pods": 1}),
        ([pod("a", "2")], "1", {"cpu": 1000, "pods": 1}),
    ],
)
def test_what_is_missing(others, pods, missing):
    assert lacking(WANTED, others, {"cpu": "2", "memory": "1Gi", "pods": pods}) == missing


@pytest.mark.parametrize(
    ("others", "missing", "chosen"),
    [
        pytest.param([pod("a", "1")], {"cpu": 500}, ["a"], id="one that frees enough"),
        pytest.param([pod("much", "2"), pod("enough", "600m")], {"cpu": 500}, ["enough"], id="no more than needed"),
        pytest.param([pod("a", "300m"), pod("b", "300m")], {"cpu": 500}, ["a", "b"], id="several"),
        pytest.param([pod("best"), pod("burstable", "1")], {"pods": 1}, ["best"], id="the lowest class first"),
        pytest.param(
            [pod("guaranteed", "1", limit=True), pod("burstable", "1")],
            {"cpu": 500},
            ["burstable"],
            id="guaranteed last",
        ),
        pytest.param(
            [pod("guaranteed", "1", limit=True), pod("burstable", "300m")],
            {"cpu": 500},
            ["guaranteed"],
            id="one of a better class where the worse ones do not suffice",
        ),
        pytest.param([pod("a", "300m")], {"cpu": 500}, None, id="none where all would not do"),
        pytest.param([pod("other", "1", priority=CRITICAL)], {"cpu": 500}, None, id="critical ones stay"),
        pytest.param([pod("less", "1", priority=CRITICAL - 1)], {"cpu": 500}, ["less"], id="those that are not"),
        pytest.param(
            [pod("static", "1", priority=CRITICAL, annotations={"kubernetes.io/config.source": "file"})],
            {"cpu": 500},
            None,
            id="static ones stay",
        ),
    ],
)
def test_who_makes_room(others, missing, chosen):
    found = victims(WANTED, others, missing)
    assert (found and sorted(one["metadata"]["name"] for one in found)) == chosen


@pytest.mark.parametrize(
    ("labels", "system", "reason", "message"),
    [
        ({}, None, None, ""),
        ({}, "linux", None, ""),
        ({"kubernetes.io/os": "linux"}, None, None, ""),
        ({}, "windows", "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"),
        (
            {"kubernetes.io/os": "windows"},
            None,
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        ),
    ],
)
def test_pods_of_another_operating_system_are_refused(labels, system, reason, message):
    one = pod("p", labels=labels)
    if system:
        one["spec"]["os"] = {"name": system}
    node = {"metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux"}}, "spec": {}}
    node["status"] = {"allocatable": {"pods": "10"}}
    refusal = admit(one, [], node)
    assert (refusal and refusal.reason) == reason
    if refusal is not None:
        assert refusal.message == f"Pod was rejected: {message}"


async def test_a_critical_pod_gets_room(api, runtime, options, start):
    options.max_pods = 1
    start()
    await api.until(lambda: api.find(NODES, "n1"))
    await api.add_pod("usual", containers=[WEB])
    await api.phase("usual", "Running")
    await api.add_pod("critical", containers=[{**WEB, "name": "critical"}], priority=CRITICAL)
    status = await api.phase("usual", "Failed")
    assert (status["reason"], status["message"]) == ("Preempting", "Preempted in order to admit critical pod")
    condition = next(one for one in status["conditions"] if one["type"] == "DisruptionTarget")
    assert condition["message"] == "Pod was preempted by Kubelet to accommodate a critical pod."
    await api.phase("critical", "Running")
    await api.hears("Preempting: Preempted in order to admit critical pod")
    stopped, started = (runtime.calls.index(call) for call in ("stop_container web 30", "start_container critical"))
    assert stopped < started


async def test_others_are_refused(api, options, start):
    options.max_pods = 1
    start()
    await api.until(lambda: api.find(NODES, "n1"))
    await api.add_pod("first", containers=[WEB])
    await api.phase("first", "Running")
    await api.add_pod("second", containers=[WEB])
    assert (await api.phase("second", "Failed"))["reason"] == "OutOfpods"
    assert api.status_of("default/first")["phase"] == "Running"
