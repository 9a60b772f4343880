"""Which ended containers are removed, and which stay to be looked at."""

from __future__ import annotations

import pytest

from pinnace.cri.api import ContainerMetadata, ContainerState, ContainerStatus, ImageSpec
from pinnace.kubelet.runtime.gc import beyond_all, dead_containers
from pinnace.kubelet.runtime.status import PodRuntimeStatus

RUNNING, EXITED = ContainerState.RUNNING, ContainerState.EXITED


def pod(name: str, *states: ContainerState) -> PodRuntimeStatus:
    """A pod with one container `name`, instances from the newest; the oldest was made at 1."""
    made = [
        ContainerStatus(
            id=f"{name}{len(states) - place}",
            metadata=ContainerMetadata(name=name),
            state=state,
            created_at=len(states) - place,
            image=ImageSpec(image="x"),
            image_ref="x",
        )
        for place, state in enumerate(states)
    ]
    return PodRuntimeStatus(name, containers=made)


@pytest.mark.parametrize(
    ("states", "keep", "gone"),
    [
        ((RUNNING, EXITED, EXITED, EXITED), 1, ["a2", "a1"]),
        ((EXITED, EXITED, EXITED), 1, ["a1"]),
        ((EXITED, EXITED, EXITED), 0, ["a2", "a1"]),
        ((EXITED,), 0, []),
        ((EXITED, EXITED, EXITED), -1, []),
    ],
)
def test_old_instances_of_a_container(states, keep, gone):
    assert [one.id for one in dead_containers(pod("a", *states), keep)] == gone


def test_containers_that_are_young_stay():
    assert [one.id for one in dead_containers(pod("a", EXITED, EXITED, EXITED), 0, created_before=2)] == ["a1"]


@pytest.mark.parametrize(
    ("most", "gone"),
    [
        (-1, set()),
        (5, set()),
        (4, {"a1"}),
        (2, {"a1", "a2", "b1"}),
        (1, {"a1", "a2", "b1", "b2"}),
        (0, {"a1", "a2", "b1", "b2", "a3"}),
    ],
)
def test_the_oldest_of_all_go_first_and_the_newest_of_each_last(most, gone):
    pods = [pod("a", EXITED, EXITED, EXITED), pod("b", EXITED, EXITED), pod("c", RUNNING)]
    assert {one.id for one in beyond_all(pods, most)} == gone
