"""What a pod counts for on its node and in its quota while it is being resized."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis.core.pod_holding import holding, marks

Obj = dict[str, Any]


def pod(asked: str, granted: str = "", has: str = "", *conditions: Obj) -> Obj:
    container = {"name": "c", "resources": {"requests": {"cpu": asked}}}
    status: Obj = {"name": "c"}
    if granted:
        status["allocatedResources"] = {"cpu": granted}
    if has:
        status["resources"] = {"requests": {"cpu": has}}
    return {"spec": {"containers": [container]}, "status": {"containerStatuses": [status], "conditions": conditions}}


def held(obj: Obj) -> str:
    return str(holding(obj)["spec"]["containers"][0]["resources"]["requests"]["cpu"])


INFEASIBLE = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}
DEFERRED = {**INFEASIBLE, "reason": "Deferred"}


@pytest.mark.parametrize(
    ("obj", "cpu"),
    [
        (pod("1"), "1"),
        (pod("1", "1", "1"), "1"),
        (pod("2", "1", "1", DEFERRED), "2"),
        (pod("1", "1", "2"), "2"),
        (pod("1", "2", "1"), "2"),
        (pod("9", "2", "1", INFEASIBLE), "2"),
        (pod("1", "1000m", "500m"), "1"),
    ],
)
def test_the_most_of_what_is_asked_granted_and_had_counts(obj: Obj, cpu: str) -> None:
    assert held(obj) == cpu


def test_a_pod_that_is_not_resized_is_taken_as_it_is() -> None:
    obj = pod("1", "1", "1")
    assert holding(obj) is obj
    assert marks(obj) != marks(pod("1", "1", "2"))
    assert marks(obj) == marks(pod("2", "1", "1"))
