"""Pod statuses: phases, conditions and what may be written over what."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pinnace.kubelet.runtime.status import primary_first
from pinnace.kubelet.status.container import Report, Waiting
from pinnace.kubelet.status.pod import (
    merge,
    pod_status,
    rejected_status,
    status_patch,
    with_conditions_of_others,
)
from pinnace.kubelet.sync.compute import Health, restarts
from tests.kubelet.sync.test_compute import box, container, pod, status

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def report(wanted, **more):
    return Report(
        now=NOW,
        host_ips=["192.0.2.7"],
        restarts=lambda one, state: restarts(wanted, one, state.exit_code),
        **more,
    )


def shown(wanted, runtime, before=None, **more):
    return pod_status(wanted, runtime, before or {}, report(wanted, **more))


@pytest.mark.parametrize(
    ("wanted", "runtime", "phase"),
    [
        (pod("a"), status([]), "Pending"),
        (pod("a"), status([box()], container("a", "CREATED")), "Pending"),
        (pod("a"), status([box()], container("a", "RUNNING")), "Running"),
        (pod("a", "b"), status([box()], container("a", "RUNNING")), "Pending"),
        (pod("a", "b"), status([box()], container("a", "RUNNING"), container("b", "EXITED", 1)), "Running"),
        (pod("a"), status([box()], container("a", "EXITED", 0)), "Running"),
        (pod("a", policy="OnFailure"), status([box()], container("a", "EXITED", 0)), "Succeeded"),
        (pod("a", policy="OnFailure"), status([box()], container("a", "EXITED", 1)), "Running"),
        (pod("a", policy="Never"), status([box()], container("a", "EXITED", 0)), "Succeeded"),
        (pod("a", policy="Never"), status([box()], container("a", "EXITED", 1)), "Failed"),
        (pod("a", init=("i",)), status([box()], container("i", "RUNNING")), "Pending"),
        (pod("a", init=("i",), policy="Never"), status([box()], container("i", "EXITED", 1)), "Failed"),
        (pod("a", init=("i",)), status([box()], container("i", "EXITED", 1)), "Pending"),
        (pod("a", init=("s",)), status([box()], container("s", "RUNNING")), "Pending"),
        (
            pod("a", init=("s",), policy="Never"),
            status([box()], container("s", "RUNNING"), container("a", "EXITED", 0)),
            "Succeeded",
        ),
    ],
)
def test_phase(wanted, runtime, phase):
    assert shown(wanted, runtime)["phase"] == phase


def test_a_pod_has_one_address_of_each_family_its_nodes_first():
    ips = ["10.0.0.1", "fd00::1", "10.0.0.2"]
    assert primary_first(ips, "192.0.2.7") == ["10.0.0.1", "fd00::1"]
    assert primary_first(ips, "2001:db8::7") == ["fd00::1", "10.0.0.1"]
    assert primary_first(["fd00::1"], "192.0.2.7") == ["fd00::1"]


def test_addresses_of_both_families_are_shown():
    found = shown(pod("a"), status([box(ips=("10.0.0.1", "fd00::1"))], container("a", "RUNNING")))
    assert (found["podIP"], found["podIPs"]) == ("10.0.0.1", [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}])


def test_conditions_of_a_pod_that_starts():
    found = shown(pod("a", init=("i",)), status([box()], container("i", "RUNNING")))
    conditions = {one["type"]: (one["status"], one.get("reason"), one.get("message")) for one in found["conditions"]}
    unready = ("False", "ContainersNotReady", "containers with unready status: [a]")
    assert conditions == {
        "PodReadyToStartContainers": ("True", None, None),
        "Initialized": ("False", "ContainersNotInitialized", "containers with incomplete status: [i]"),
        "Ready": unready,
        "ContainersReady": unready,
        "PodScheduled": ("True", None, None),
    }


def test_readiness_gates():
    wanted = pod("a")
    wanted["spec"]["readinessGates"] = [{"conditionType": "x/up"}]
    runtime = status([box()], container("a", "RUNNING"))
    ready = next(one for one in shown(wanted, runtime)["conditions"] if one["type"] == "Ready")
    assert ready["reason"] == "ReadinessGatesNotReady"
    assert ready["message"] == 'corresponding condition of pod readiness gate "x/up" does not exist.'
    gate = {"type": "x/up", "status": "False"}
    ready = next(one for one in shown(wanted, runtime, {"conditions": [gate]})["conditions"] if one["type"] == "Ready")
    assert ready["message"] == 'the status of pod readiness gate "x/up" is not "True", but False'
    found = shown(wanted, runtime, {"conditions": [{"type": "x/up", "status": "True"}]})
    assert next(one for one in found["conditions"] if one["type"] == "Ready")["status"] == "True"
    assert found["conditions"][-1]["type"] == "x/up"


def test_transition_time_changes_with_the_status_alone():
    wanted, runtime = pod("a"), status([box()], container("a", "RUNNING"))
    old = {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    older = {"type": "Initialized", "status": "False", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    found = shown(wanted, runtime, {"conditions": [old, older]})
    times = {one["type"]: one["lastTransitionTime"] for one in found["conditions"]}
    assert times["Ready"] == "2020-01-01T00:00:00Z"
    assert times["Initialized"] == "2026-01-01T00:00:00Z"


def test_waiting_reason_of_a_container_to_be_restarted():
    wanted, runtime = pod("a"), status([box()], container("a", "EXITED", 7))
    found = shown(wanted, runtime, waiting={"a": Waiting("CrashLoopBackOff", "back-off")})
    (one,) = found["containerStatuses"]
    assert one["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    assert one["lastState"]["terminated"]["exitCode"] == 7
    ended = shown(wanted, runtime, waiting={"a": Waiting("CrashLoopBackOff", "x")}, terminating=True)
    assert ended["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7


def test_last_state_survives_the_removal_of_the_instance():
    runtime = status([box()], container("a", "RUNNING", attempt=2))
    terminated = {"exitCode": 3, "containerID": "pinnace://a1"}
    before = {"containerStatuses": [{"name": "a", "state": {"running": {}}, "lastState": {"terminated": terminated}}]}
    (one,) = shown(pod("a"), runtime, before)["containerStatuses"]
    assert one["lastState"]["terminated"] == terminated
    assert one["restartCount"] == 2


def test_container_that_was_lost():
    before = {"containerStatuses": [{"name": "a", "state": {"running": {}}, "restartCount": 4}]}
    (one,) = shown(pod("a"), status([]), before)["containerStatuses"]
    assert one["state"]["waiting"]["reason"] == "ContainerCreating"
    assert one["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert one["restartCount"] == 5


def test_startup_probe_holds_started_and_ready_back():
    runtime = status([box()], container("a", "RUNNING"))
    (one,) = shown(pod("a"), runtime, health={"a0": Health(started=False)})["containerStatuses"]
    assert (one["started"], one["ready"]) == (False, False)


def test_terminal_phase_waits_for_the_last_process_and_stays():
    done = {"phase": "Succeeded", "reason": "x"}
    assert merge({"phase": "Running"}, done, alive=True) == {"phase": "Running"}
    assert merge({"phase": "Running"}, done, alive=False) == done
    assert merge({"phase": "Failed"}, {"phase": "Running"}, alive=True)["phase"] == "Failed"


def test_patch_names_what_changed_alone():
    ready = {"type": "Ready", "status": "True"}
    known = {**ready, "message": "m"}
    gate = {"type": "x/up", "status": "True"}
    before = {"phase": "Pending", "reason": "r", "conditions": [known, gate], "podIPs": [{"ip": "10.0.0.1"}]}
    after = {"phase": "Running", "conditions": [{**ready, "status": "False"}, gate], "podIPs": [{"ip": "10.0.0.2"}]}
    assert status_patch({"metadata": {"uid": "u"}}, before, after) == {
        "metadata": {"uid": "u"},
        "status": {
            "phase": "Running",
            "reason": None,
            "conditions": [{"type": "Ready", "status": "False", "message": None}],
            "podIPs": [{"ip": "10.0.0.2"}, {"$patch": "replace"}],
        },
    }
    assert status_patch({"metadata": {"uid": "u"}}, after, after) is None


def test_conditions_of_others_are_theirs():
    ready, restarted = {"type": "Ready", "status": "True"}, {"type": "x/up", "status": "True"}
    own = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
    foreign = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    decided = {"phase": "Running", "conditions": [ready, {**restarted, "status": "False"}, {"type": "x/gone"}]}
    found = {"phase": "Pending", "conditions": [{**ready, "status": "False"}, restarted, foreign]}
    now = with_conditions_of_others(decided, found)
    assert now == {"phase": "Running", "conditions": [ready, restarted, foreign]}
    ended = {**decided, "conditions": [ready, own]}
    assert with_conditions_of_others(ended, found)["conditions"] == [ready, own, restarted]
    patch = {"phase": "Running", "conditions": [ready]}
    assert status_patch({"metadata": {"uid": "u"}}, found, decided) == {"metadata": {"uid": "u"}, "status": patch}


def test_a_container_that_could_not_be_started_began_in_1970():
    never = container("a", "EXITED", 128)
    never.started_at = 0
    [found] = shown(pod("a", policy="Never"), status([box()], never))["containerStatuses"]
    assert found["state"]["terminated"]["startedAt"] == "1970-01-01T00:00:00Z"


def test_rejected_pod():
    before = {"conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "x/mine", "status": "True"}]}
    found = rejected_status(pod("a"), "OutOfcpu", "why", before, report(pod("a")))
    assert (found["phase"], found["reason"], found["message"]) == ("Failed", "OutOfcpu", "why")
    assert found["conditions"] == [{"type": "x/mine", "status": "True"}]
