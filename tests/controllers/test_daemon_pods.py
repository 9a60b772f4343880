"""Where a DaemonSet's pods belong, and how they are replaced: the rules, as tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pinnace.controllers.daemon_pods import by_node, fit, limits, make_pod, manage, roll, status_of, target_node
from pinnace.controllers.daemonset import FailureBackoff
from pinnace.machinery.meta import Obj, name_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NEW, OLD = "new", "old"


def daemon_set(spec: Obj | None = None, **strategy: Any) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": "agent",
            "namespace": "default",
            "uid": "u",
            "generation": 2,
            "annotations": {"deprecated.daemonset.template.generation": "7"},
        },
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [], **(spec or {})}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, **strategy}},
        },
    }


def node(name: str, *taints: str, **labels: str) -> Obj:
    """Taints are written `key:effect`."""
    found = [dict(zip(("key", "effect"), taint.split(":"), strict=True)) for taint in taints]
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": found}}


def pod(
    name: str, on: str, digest: str = NEW, *, ready: bool = True, phase: str = "Running", going: bool = False
) -> Obj:
    metadata: Obj = {"name": name, "namespace": "default", "uid": name, "labels": {"controller-revision-hash": digest}}
    if going:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": "2025-12-31T00:00:00Z"}
    return {"metadata": metadata, "spec": {"nodeName": on}, "status": {"phase": phase, "conditions": [condition]}}


def names(pods: list[Obj]) -> list[str]:
    return [name_of(one) for one in pods]


AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]
        }
    }
}


@pytest.mark.parametrize(
    ("spec", "on", "expected"),
    [
        ({}, node("a"), (True, True)),
        ({"nodeName": "a"}, node("a"), (True, True)),
        ({"nodeName": "b"}, node("a"), (False, False)),
        ({"nodeSelector": {"color": "green"}}, node("a", color="green"), (True, True)),
        ({"nodeSelector": {"color": "green"}}, node("a", color="blue"), (False, False)),
        ({"affinity": AFFINITY}, node("a", disk="ssd"), (True, True)),
        ({"affinity": AFFINITY}, node("a"), (False, False)),
        ({}, node("a", "node.kubernetes.io/unschedulable:NoSchedule"), (True, True)),
        ({}, node("a", "node.kubernetes.io/not-ready:NoExecute"), (True, True)),
        ({}, node("a", "node.kubernetes.io/network-unavailable:NoSchedule"), (False, True)),
        ({"hostNetwork": True}, node("a", "node.kubernetes.io/network-unavailable:NoSchedule"), (True, True)),
        ({}, node("a", "mine:NoSchedule"), (False, True)),
        ({}, node("a", "mine:NoExecute"), (False, False)),
        ({}, node("a", "mine:PreferNoSchedule"), (True, True)),
        ({"tolerations": [{"operator": "Exists"}]}, node("a", "mine:NoExecute"), (True, True)),
    ],
)
def test_nodes_that_fit(spec: Obj, on: Obj, expected: tuple[bool, bool]) -> None:
    """Conformance: "DaemonSet-NodeSelection" """
    assert fit(daemon_set(spec), on) == expected


def test_a_pod_is_bound_for_its_node() -> None:
    made = make_pod(daemon_set({"affinity": AFFINITY, "nodeSelector": {"disk": "ssd"}}), "a", "abc")
    assert made["metadata"]["generateName"] == "agent-"
    assert made["metadata"]["labels"] == {
        "app": "agent",
        "controller-revision-hash": "abc",
        "pod-template-generation": "7",
    }
    assert target_node(made) == "a"
    (term,) = made["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term == {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}
    assert [one["key"].partition("/")[2] for one in made["spec"]["tolerations"]] == [
        "not-ready",
        "unreachable",
        "disk-pressure",
        "memory-pressure",
        "pid-pressure",
        "unschedulable",
    ]


@pytest.mark.parametrize(
    ("nodes", "pods", "surge", "come", "go"),
    [
        ([node("a"), node("b")], [pod("p", "a")], 0, ["b"], []),
        ([node("a")], [pod("p", "a"), pod("q", "a")], 0, [], ["q"]),
        ([node("a")], [pod("p", "a", phase="Failed")], 0, [], ["p"]),
        ([node("a")], [pod("p", "a", phase="Succeeded")], 0, [], ["p"]),
        ([node("a")], [pod("p", "a", going=True)], 0, [], []),
        ([node("a")], [pod("p", "a", going=True)], 1, ["a"], []),
        ([node("a")], [pod("p", "a", phase="Failed", going=True)], 0, ["a"], []),
        ([node("a", "mine:NoSchedule")], [pod("p", "a")], 0, [], []),
        ([node("a", "mine:NoExecute")], [pod("p", "a")], 0, [], ["p"]),
        ([], [pod("p", "a")], 0, [], []),
        ([node("a")], [pod("p", "a", OLD), pod("q", "a")], 1, [], ["p"]),
        ([node("a")], [pod("p", "a", OLD), pod("q", "a", ready=False)], 1, [], []),
        ([node("a")], [pod("p", "a", OLD, ready=False), pod("q", "a", ready=False)], 1, [], ["p"]),
    ],
)
def test_one_pod_on_every_node(nodes: list[Obj], pods: list[Obj], surge: int, come: list[str], go: list[str]) -> None:
    """Conformance: "DaemonSet-Creation", "DaemonSet-FailedPodCreation" """
    strategy: Obj = {"maxSurge": surge, "maxUnavailable": 0} if surge else {}
    step = manage(daemon_set(**strategy), nodes, by_node(pods), NEW, NOW, lambda _: False)
    assert (step.nodes, names(step.doomed)) == (come, go)


def test_a_failed_pod_is_left_for_a_while() -> None:
    step = manage(daemon_set(), [node("a")], by_node([pod("p", "a", phase="Failed")]), NEW, NOW, lambda _: True)
    assert (step.nodes, step.doomed) == ([], [])
    backoff = FailureBackoff()
    pauses = []
    for _ in range(12):
        backoff.failed("d", "a", 0.0)
        pauses.append(backoff.left("d", "a", 0.0))
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    assert backoff.left("d", "b", 0.0) == 0
    backoff.forget("d")
    assert backoff.left("d", "a", 0.0) == 0


NODES = [node(name) for name in "abcd"]


@pytest.mark.parametrize(
    ("strategy", "pods", "come", "go"),
    [
        ({}, [pod("a", "a", OLD), pod("b", "b", OLD)], [], ["a"]),
        ({"maxUnavailable": "50%"}, [pod(one, one, OLD) for one in "abcd"], [], ["a", "b"]),
        ({"maxUnavailable": "30%"}, [pod(one, one, OLD) for one in "abcd"], [], ["a", "b"]),
        ({}, [pod("a", "a", ready=False), pod("b", "b", OLD)], [], []),
        ({}, [pod("a", "a", OLD, going=True), pod("b", "b", OLD)], [], []),
        ({}, [pod("a", "a", OLD), pod("b", "b", OLD, ready=False)], [], ["b"]),
        ({}, [pod("a", "a"), pod("b", "b")], [], []),
        ({"maxUnavailable": 0, "maxSurge": 1}, [pod("a", "a", OLD), pod("b", "b", OLD)], ["a"], []),
        ({"maxUnavailable": 0, "maxSurge": 1}, [pod("a", "a", OLD), pod("a2", "a"), pod("b", "b", OLD)], ["b"], ["a"]),
        ({"maxUnavailable": 0, "maxSurge": 1}, [pod("a", "a", OLD), pod("a2", "a", ready=False)], [], []),
        ({"maxUnavailable": 0, "maxSurge": 1}, [pod("a", "a", OLD), pod("b", "b", OLD, ready=False)], ["b", "a"], []),
    ],
)
def test_pods_are_replaced_step_by_step(strategy: Obj, pods: list[Obj], come: list[str], go: list[str]) -> None:
    """Conformance: "DaemonSet-RollingUpdate" """
    step = roll(daemon_set(**strategy), NODES, by_node(pods), NEW, NOW)
    assert (step.nodes, names(step.doomed)) == (come, go)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [({}, (0, 1)), ({"maxUnavailable": 0}, (0, 1)), ({"maxUnavailable": "1%"}, (0, 1)), ({"maxSurge": "26%"}, (2, 1))],
)
def test_limits_are_rounded_up(strategy: Obj, expected: tuple[int, int]) -> None:
    assert limits(daemon_set(**strategy), 4) == expected


def test_the_status_counts_nodes() -> None:
    nodes = [*NODES, node("tainted", "mine:NoSchedule")]
    pods = [pod("a", "a"), pod("b", "b", OLD), pod("c", "c", ready=False), pod("t", "tainted")]
    assert status_of(daemon_set(), nodes, by_node(pods), NEW, NOW) == {
        "desiredNumberScheduled": 4,
        "currentNumberScheduled": 3,
        "numberMisscheduled": 1,
        "numberReady": 2,
        "numberAvailable": 2,
        "numberUnavailable": 2,
        "updatedNumberScheduled": 2,
        "observedGeneration": 2,
    }
