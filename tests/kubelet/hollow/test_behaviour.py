"""What a pod on a hollow node does next."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pinnace.kubelet.hollow.behaviour import PREFIX, Behaviour, exit_code, next_step, usage
from pinnace.kubelet.hollow.status import Place
from pinnace.machinery.meta import Obj

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
PLACE = Place("198.18.0.1", "127.0.0.1")
SLOW = Behaviour(start=8.0, ready=3.0, run=20.0, stop=5.0)


def pod(policy: str = "Always", told: dict[str, str] | None = None, **spec: Any) -> Obj:
    return {
        "metadata": {
            "name": "p",
            "namespace": "default",
            "uid": "6f9d",
            "annotations": {f"{PREFIX}{name}": value for name, value in (told or {}).items()},
        },
        "spec": {"restartPolicy": policy, "nodeName": "n", "containers": [{"name": "c", "image": "i"}], **spec},
        "status": {"phase": "Pending"},
    }


def after(one: Obj, behaviour: Behaviour = SLOW) -> Obj:
    """The pod when its next step is taken."""
    step = next_step(one, behaviour)
    assert step is not None
    assert step.status is not None
    return {**one, "status": {**one["status"], **step.status(NOW, PLACE)}}


def condition(one: Obj, kind: str) -> str:
    return next(str(each["status"]) for each in reversed(one["status"]["conditions"]) if each["type"] == kind)


def test_pod_starts_after_its_time_more_or_less_and_becomes_ready_later() -> None:
    new = pod()
    step = next_step(new, SLOW)
    assert step is not None
    assert step.stage == "bound"
    assert 6.0 <= step.after < 10.0
    started = after(new)
    assert started["status"]["phase"] == "Running"
    assert started["status"]["podIP"] == PLACE.address
    assert started["status"]["hostIP"] == PLACE.host
    assert condition(started, "Ready") == "False"
    step = next_step(started, SLOW)
    assert step is not None
    assert (step.stage, step.after) == ("running 0", 3.0)
    ready = after(started)
    assert condition(ready, "Ready") == "True"
    assert ready["status"]["containerStatuses"][0]["ready"]


def test_pod_of_a_group_without_delays_is_ready_with_its_first_status() -> None:
    assert condition(after(pod(), Behaviour()), "Ready") == "True"


def test_pod_that_is_always_restarted_runs_for_ever() -> None:
    assert next_step(after(after(pod())), SLOW) is None


def test_pod_that_others_call_unready_says_again_that_it_is() -> None:
    one = after(after(pod()))
    disputed = {**one, "status": {**one["status"], "conditions": [{"type": "Ready", "status": "False"}]}}
    step = next_step(disputed, SLOW)
    assert step is not None
    assert step.stage == "disputed"
    assert condition(after(disputed), "Ready") == "True"


@pytest.mark.parametrize(
    ("policy", "code", "phase"),
    [("Never", "0", "Succeeded"), ("Never", "3", "Failed"), ("OnFailure", "0", "Succeeded")],
)
def test_pod_that_ends_gets_the_phase_of_its_exit_code(policy: str, code: str, phase: str) -> None:
    ended = after(after(after(pod(policy, {"exit-code": code}))))
    assert ended["status"]["phase"] == phase
    assert ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == int(code)
    assert next_step(ended, SLOW) is None


def test_failing_container_is_restarted_at_once_and_then_with_pauses_that_double() -> None:
    one = after(after(pod("OnFailure", {"exit-code": "1"})))
    one = after(one)
    assert one["status"]["phase"] == "Running"
    assert one["status"]["containerStatuses"][0]["restartCount"] == 1
    pauses = []
    for _ in range(7):
        one = after(one)
        assert one["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        step = next_step(one, SLOW)
        assert step is not None
        pauses.append(step.after)
        one = after(one)
    assert pauses == [10, 20, 40, 80, 160, 300, 300]
    assert one["status"]["containerStatuses"][0]["restartCount"] == 8


def test_run_seconds_make_containers_end_that_would_run_for_ever() -> None:
    one = after(after(pod("Always", {"run-seconds": "7"})))
    step = next_step(one, SLOW)
    assert step is not None
    assert step.after == 7
    assert after(one)["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 0


def test_active_deadline_ends_a_pod() -> None:
    one = after(after(pod(activeDeadlineSeconds=4)))
    ended = after(one)
    assert (ended["status"]["phase"], ended["status"]["reason"]) == ("Failed", "DeadlineExceeded")


@pytest.mark.parametrize(("grace", "seconds"), [(30, 5.0), (2, 2.0), (0, 0.0)])
def test_deleted_pod_goes_within_its_grace_period(grace: int, seconds: float) -> None:
    one = after(pod())
    one["metadata"] |= {"deletionTimestamp": "2026-05-01T12:00:30Z", "deletionGracePeriodSeconds": grace}
    step = next_step(one, SLOW)
    assert step is not None
    assert (step.after, step.status) == (seconds, None)


def test_deleted_pod_with_a_finalizer_tells_first_how_its_containers_ended() -> None:
    one = after(pod("Never"))
    one["metadata"] |= {
        "deletionTimestamp": "2026-05-01T12:00:30Z",
        "finalizers": ["batch.kubernetes.io/job-tracking"],
    }
    ended = after(one)
    assert ended["status"]["phase"] == "Failed"
    step = next_step(ended, SLOW)
    assert step is not None
    assert step.status is None


@pytest.mark.parametrize("told", ["", "soon", "-1", "nan", "inf"])
def test_annotation_that_is_no_time_counts_for_nothing(told: str) -> None:
    step = next_step(pod(told={"start-seconds": told}), Behaviour())
    assert step is not None
    assert step.after == 0


def test_annotations_say_what_a_pod_uses() -> None:
    assert usage(pod(told={"cpu": "2", "memory": "1Gi"}), SLOW) == ("2", "1Gi")
    assert usage(pod(told={"cpu": "much"}), SLOW) == (SLOW.cpu, SLOW.memory)


def test_share_of_pods_that_fail_is_what_was_asked_for() -> None:
    pods = [{**pod(), "metadata": {"uid": str(number)}} for number in range(2000)]
    failed = sum(exit_code(one, Behaviour(failure_rate=0.25)) for one in pods)
    assert 400 < failed < 600
