"""A Deployment's status says how far its rollout is: available, progressing, complete, or stuck."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pinnace.controllers.deployment_status import (
    check_again_in,
    counted,
    is_complete,
    pause_condition,
    rolled_out,
)
from pinnace.machinery.meta import Obj, format_time

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
BEFORE = format_time(NOW - timedelta(seconds=100))
NO_DEADLINE = 2**31 - 1


def deployment(replicas: int = 3, *, deadline: int | None = 600, paused: bool = False, **status: Any) -> Obj:
    return {
        "metadata": {"name": "web", "generation": 2},
        "spec": {
            "replicas": replicas,
            "paused": paused,
            "progressDeadlineSeconds": deadline,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
        },
        "status": status,
    }


def replica_set(name: str, replicas: int, available: int | None = None, **status: Any) -> Obj:
    ready = replicas if available is None else available
    counts = {"replicas": replicas, "readyReplicas": ready, "availableReplicas": ready}
    return {"metadata": {"name": name}, "spec": {"replicas": replicas}, "status": {**counts, **status}}


def progressing(reason: str, status: str = "True", updated: str = BEFORE) -> list[Obj]:
    said = {"type": "Progressing", "status": status, "reason": reason, "message": ""}
    return [{**said, "lastUpdateTime": updated, "lastTransitionTime": BEFORE}]


def said_of(status: Obj, kind: str) -> tuple[str, str, str] | None:
    found = [(one["status"], one["reason"], one["message"]) for one in status["conditions"] if one["type"] == kind]
    return found[0] if found else None


@pytest.mark.parametrize(
    ("available", "status", "reason", "message"),
    [
        (3, "True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        (2, "True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        (1, "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."),
    ],
)
def test_it_is_available_with_all_but_max_unavailable(available: int, status: str, reason: str, message: str) -> None:
    new = replica_set("web-new", 3, available)
    assert said_of(counted(deployment(), new, [new], NOW), "Available") == (status, reason, message)


def test_the_counts_are_sums_over_its_sets() -> None:
    old, new = replica_set("web-old", 2, 1), replica_set("web-new", 2, 1)
    status = counted(deployment(collisionCount=1), new, [old, new], NOW)
    del status["conditions"]
    assert status == {
        "observedGeneration": 2,
        "replicas": 4,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "unavailableReplicas": 2,
        "collisionCount": 1,
    }


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ([replica_set("a", 1, terminatingReplicas=2), replica_set("b", 1, terminatingReplicas=0)], 2),
        ([replica_set("a", 1, terminatingReplicas=0)], 0),
        ([replica_set("a", 1, terminatingReplicas=2), replica_set("b", 1)], None),
    ],
)
def test_terminating_pods_are_summed_up_where_every_set_counts_them(sets: list[Obj], expected: int | None) -> None:
    assert counted(deployment(), sets[0], sets, NOW).get("terminatingReplicas") == expected


COMPLETE = {"updatedReplicas": 3, "replicas": 3, "availableReplicas": 3, "observedGeneration": 2}


@pytest.mark.parametrize(
    ("changed", "complete"),
    [
        ({}, True),
        ({"replicas": 4}, False),
        ({"updatedReplicas": 2}, False),
        ({"availableReplicas": 2}, False),
        ({"observedGeneration": 1}, False),
    ],
)
def test_a_rollout_is_complete_when_only_new_pods_are_left_and_available(changed: Obj, complete: bool) -> None:
    assert is_complete(deployment(), {**COMPLETE, **changed}) is complete


@pytest.mark.parametrize(
    ("old", "available", "elapsed", "expected"),
    [
        # the status before, available pods now, seconds since the last progress; what Progressing says
        ({}, 3, 0, ("True", "NewReplicaSetAvailable", 'ReplicaSet "web-new" has successfully progressed.')),
        ({"updatedReplicas": 2}, 1, 0, ("True", "ReplicaSetUpdated", 'ReplicaSet "web-new" is progressing.')),
        ({"updatedReplicas": 3, "replicas": 3, "readyReplicas": 1, "availableReplicas": 1}, 1, 599, None),
        (
            {"updatedReplicas": 3, "replicas": 3, "readyReplicas": 1, "availableReplicas": 1},
            1,
            601,
            ("False", "ProgressDeadlineExceeded", 'ReplicaSet "web-new" has timed out progressing.'),
        ),
    ],
)
def test_what_progressing_says(old: Obj, available: int, elapsed: int, expected: tuple[str, str, str] | None) -> None:
    last = format_time(NOW - timedelta(seconds=elapsed))
    conditions = progressing("ReplicaSetUpdated", updated=last)
    new = replica_set("web-new", 3, available)
    status = rolled_out(deployment(conditions=conditions, **old), new, [new], NOW)
    assert said_of(status, "Progressing") == (expected or ("True", "ReplicaSetUpdated", ""))


def test_progress_restarts_the_deadline_and_is_no_transition() -> None:
    new = replica_set("web-new", 3, 1)
    old = deployment(conditions=progressing("ReplicaSetUpdated"), updatedReplicas=2)
    found = next(one for one in rolled_out(old, new, [new], NOW)["conditions"] if one["type"] == "Progressing")
    assert (found["lastUpdateTime"], found["lastTransitionTime"]) == (format_time(NOW), BEFORE)


def test_without_a_deadline_nothing_is_said_of_progress() -> None:
    new = replica_set("web-new", 3, 1)
    old = deployment(deadline=NO_DEADLINE, conditions=progressing("ReplicaSetUpdated"))
    assert said_of(rolled_out(old, new, [new], NOW), "Progressing") is None


def test_a_complete_rollout_stays_complete_when_pods_are_lost_later() -> None:
    new = replica_set("web-new", 3, 1)
    old = deployment(conditions=progressing("NewReplicaSetAvailable", updated=format_time(NOW - timedelta(days=1))))
    assert said_of(rolled_out(old, new, [new], NOW), "Progressing") == ("True", "NewReplicaSetAvailable", "")


def test_the_failure_of_the_new_set_is_the_deployments() -> None:
    def failing(name: str, message: str) -> Obj:
        failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
        return replica_set(name, 1, conditions=[{**failure, "lastTransitionTime": BEFORE}])

    old, new = failing("web-old", "old"), failing("web-new", "new")
    status = rolled_out(deployment(), new, [old, new], NOW)
    assert said_of(status, "ReplicaFailure") == ("True", "FailedCreate", "new")
    healthy = replica_set("web-new", 3)
    again = deployment(conditions=status["conditions"])
    assert said_of(rolled_out(again, healthy, [healthy], NOW), "ReplicaFailure") is None


@pytest.mark.parametrize(
    ("paused", "before", "expected"),
    [
        (True, [], ("Unknown", "DeploymentPaused", "Deployment is paused")),
        (True, progressing("ReplicaSetUpdated"), ("Unknown", "DeploymentPaused", "Deployment is paused")),
        (True, progressing("DeploymentPaused", "Unknown"), None),
        (False, progressing("DeploymentPaused", "Unknown"), ("Unknown", "DeploymentResumed", "Deployment is resumed")),
        (False, progressing("ReplicaSetUpdated"), None),
        (True, progressing("ProgressDeadlineExceeded", "False"), None),
    ],
)
def test_a_pause_and_its_end_are_told(paused: bool, before: list[Obj], expected: tuple[str, str, str] | None) -> None:
    found = pause_condition(deployment(paused=paused, conditions=before), NOW)
    assert (found and (found["status"], found["reason"], found["message"])) == expected
    assert pause_condition(deployment(paused=paused, deadline=NO_DEADLINE, conditions=before), NOW) is None


@pytest.mark.parametrize(
    ("reason", "status", "seconds"),
    [
        ("ReplicaSetUpdated", "True", 501),
        ("NewReplicaSetCreated", "True", 501),
        ("NewReplicaSetAvailable", "True", None),
        ("ProgressDeadlineExceeded", "False", None),
        ("DeploymentResumed", "Unknown", 501),
        ("FailedCreate", "False", 501),
    ],
)
def test_a_rollout_under_way_is_looked_at_when_it_would_be_late(
    reason: str, status: str, seconds: float | None
) -> None:
    assert check_again_in(deployment(), {"conditions": progressing(reason, status)}, NOW) == seconds
