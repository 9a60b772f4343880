"""What must change for a pod: a table of what the runtime has and what is to be done."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.cri.api import (
    ContainerMetadata,
    ContainerState,
    ContainerStatus,
    ImageSpec,
    PodSandboxMetadata,
    PodSandboxState,
    PodSandboxStatus,
)
from pinnace.kubelet.pods import ANNOTATION_HASH, ANNOTATION_RESTART_COUNT, LABEL_CONTAINER_NAME, container_hash
from pinnace.kubelet.runtime.status import PodRuntimeStatus
from pinnace.kubelet.sync.compute import Actions, Health, compute_actions

IMAGE = "web:1"


def pod(*names: str, policy: str = "Always", init: tuple[str, ...] = (), deleting: bool = False) -> dict[str, Any]:
    """Init containers whose name begins with `s` are sidecars."""
    inits = [{"name": name, "image": IMAGE, **({"restartPolicy": "Always"} if name[0] == "s" else {})} for name in init]
    metadata: dict[str, Any] = {"name": "p", "namespace": "d", "uid": "u"}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    containers = [{"name": name, "image": IMAGE} for name in names or ("a",)]
    return {"metadata": metadata, "spec": {"restartPolicy": policy, "containers": containers, "initContainers": inits}}


def box(attempt: int = 0, *, ready: bool = True, ips: tuple[str, ...] = ("10.0.0.1",)) -> PodSandboxStatus:
    return PodSandboxStatus(
        id=f"box{attempt}",
        metadata=PodSandboxMetadata(name="p", uid="u", namespace="d", attempt=attempt),
        state=PodSandboxState.READY if ready else PodSandboxState.NOTREADY,
        created_at=attempt + 1,
        ips=list(ips),
    )


def container(name: str, state: str, code: int = 0, *, attempt: int = 0, image: str = IMAGE) -> ContainerStatus:
    return ContainerStatus(
        id=f"{name}{attempt}",
        metadata=ContainerMetadata(name=name, attempt=attempt),
        state=ContainerState[state],
        created_at=attempt + 1,
        exit_code=code,
        image=ImageSpec(image=image),
        image_ref=image,
        labels={LABEL_CONTAINER_NAME: name},
        annotations={
            ANNOTATION_HASH: container_hash({"name": name, "image": image}),
            ANNOTATION_RESTART_COUNT: str(attempt),
        },
    )


def status(boxes: list[PodSandboxStatus], *containers: ContainerStatus) -> PodRuntimeStatus:
    newest = boxes[0].id if boxes else ""
    return PodRuntimeStatus("u", "p", "d", boxes, list(containers), {one.id: newest for one in containers})


@pytest.mark.parametrize(
    ("wanted", "runtime", "expected"),
    [
        pytest.param(pod("a", "b"), status([]), {"create_sandbox": True, "start": ["a", "b"]}, id="new pod"),
        pytest.param(
            pod("a", init=("i", "j")), status([]), {"create_sandbox": True, "start_init": ["i"]}, id="init first"
        ),
        pytest.param(pod("a"), status([box()], container("a", "RUNNING")), {}, id="nothing to do"),
        pytest.param(pod("a"), status([box()]), {"start": ["a"]}, id="sandbox without container"),
        pytest.param(
            pod("a"),
            status([box(ready=False)], container("a", "EXITED", 137)),
            {"kill_pod": True, "create_sandbox": True, "attempt": 1, "start": ["a"]},
            id="sandbox gone",
        ),
        pytest.param(
            pod("a", policy="Never"),
            status([box(ready=False)], container("a", "EXITED", 137)),
            {"kill_pod": True, "attempt": 1},
            id="sandbox gone, never restarted",
        ),
        pytest.param(
            pod("a"),
            status([box(ips=())]),
            {"kill_pod": True, "create_sandbox": True, "attempt": 1, "start": ["a"]},
            id="sandbox without address",
        ),
        pytest.param(pod("a"), status([box()], container("a", "EXITED", 0)), {"start": ["a"]}, id="Always restarts"),
        pytest.param(
            pod("a", policy="OnFailure"),
            status([box()], container("a", "EXITED", 0)),
            {"kill_pod": True},
            id="OnFailure: done",
        ),
        pytest.param(
            pod("a", policy="OnFailure"),
            status([box()], container("a", "EXITED", 1)),
            {"start": ["a"]},
            id="OnFailure: failed",
        ),
        pytest.param(
            pod("a", "b", policy="Never"),
            status([box()], container("a", "EXITED", 1), container("b", "RUNNING")),
            {},
            id="Never: one still runs",
        ),
        pytest.param(
            pod("a", policy="Never"), status([box()], container("a", "EXITED", 1)), {"kill_pod": True}, id="Never: done"
        ),
        pytest.param(
            pod("a", deleting=True), status([box()], container("a", "EXITED", 1)), {"kill_pod": True}, id="deleting"
        ),
        pytest.param(
            pod("a", init=("i", "j")),
            status([box()], container("i", "EXITED", 0)),
            {"start_init": ["j"]},
            id="next init container",
        ),
        pytest.param(pod("a", init=("i",)), status([box()], container("i", "RUNNING")), {}, id="init runs"),
        pytest.param(
            pod("a", init=("i",)), status([box()], container("i", "EXITED", 0)), {"start": ["a"]}, id="init done"
        ),
        pytest.param(
            pod("a", init=("i",)),
            status([box()], container("i", "EXITED", 1)),
            {"start_init": ["i"]},
            id="init failed: again",
        ),
        pytest.param(
            pod("a", init=("i",), policy="Never"),
            status([box()], container("i", "EXITED", 1)),
            {"kill_pod": True},
            id="init failed: never again",
        ),
        pytest.param(
            pod("a", init=("s", "i")),
            status([box()], container("s", "RUNNING")),
            {"start_init": ["i"]},
            id="sidecar runs: next",
        ),
        pytest.param(
            pod("a", init=("s", "i")),
            status([box()], container("s", "EXITED", 1), container("i", "RUNNING")),
            {"start_init": ["s"]},
            id="sidecar ended while a later one runs",
        ),
        pytest.param(
            pod("a", init=("s",)),
            status([box()], container("s", "EXITED", 1), container("a", "RUNNING")),
            {"start_init": ["s"]},
            id="sidecar ended beside the main container",
        ),
        pytest.param(
            pod("a", init=("s",), policy="Never"),
            status([box()], container("s", "RUNNING"), container("a", "EXITED", 0)),
            {"kill_pod": True},
            id="main container done: sidecar not needed",
        ),
    ],
)
def test_actions(wanted, runtime, expected):
    found = compute_actions(wanted, runtime, {})
    assert found == Actions(**{"attempt": found.attempt, **expected})
    if "attempt" in expected:
        assert found.attempt == expected["attempt"]


@pytest.mark.parametrize(
    ("health", "message"),
    [
        (Health(live=False), "Container a failed liveness probe, will be restarted"),
        (Health(started=False, startup_failed=True), "Container a failed startup probe, will be restarted"),
    ],
)
def test_probes_that_fail_replace_the_container(health, message):
    found = compute_actions(pod("a"), status([box()], container("a", "RUNNING")), {"a0": health})
    assert [kill.message for kill in found.kill] == [message]
    assert found.start == ["a"]


def test_liveness_without_restart():
    runtime = status([box()], container("a", "RUNNING"))
    found = compute_actions(pod("a", policy="Never"), runtime, {"a0": Health(live=False)})
    assert found.kill[0].message == "Container a failed liveness probe"
    assert not found.start


def test_another_image_replaces_the_container():
    found = compute_actions(pod("a"), status([box()], container("a", "RUNNING", image="web:2")), {})
    assert found.kill[0].message == "Container a definition changed, will be restarted"
    assert found.start == ["a"]


def test_sidecar_that_has_not_started_holds_the_next_back():
    runtime = status([box()], container("s", "RUNNING"))
    assert not compute_actions(pod("a", init=("s", "i")), runtime, {"s0": Health(started=False)})


@pytest.mark.parametrize(
    ("rule", "code", "restarted"),
    [
        ({"operator": "In", "values": [42]}, 42, True),
        ({"operator": "In", "values": [42]}, 1, False),
        ({"operator": "NotIn", "values": [42]}, 1, True),
    ],
)
def test_restart_rules_of_a_container(rule, code, restarted):
    wanted = pod("a", "b", policy="Never")
    wanted["spec"]["containers"][0].update(
        restartPolicy="Never", restartPolicyRules=[{"action": "Restart", "exitCodes": rule}]
    )
    found = compute_actions(wanted, status([box()], container("a", "EXITED", code), container("b", "RUNNING")), {})
    assert found.start == (["a"] if restarted else [])
