"""Restart policies and rules of single containers, told by what runs and what the API shows."""

from __future__ import annotations

from typing import Any

from tests.kubelet.conftest import Start
from tests.kubelet.fake_runtime import FakeRuntime
from tests.kubelet.node_api import NodeApi

RULE = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}


async def test_a_container_has_a_restart_policy_of_its_own(api: NodeApi, runtime: FakeRuntime, start: Start) -> None:
    start()
    again = {"name": "web", "image": "web:1", "restartPolicy": "Never", "restartPolicyRules": [RULE]}
    await api.add_pod("p", containers=[again], restartPolicy="Never")
    await api.phase("p", "Running")
    runtime.end(runtime.by_name("web")[0].id, 42)
    await runtime.until(lambda: len(runtime.by_name("web")) == 2 and runtime.running() == ["web"])
    await api.container("p", lambda one: one.get("restartCount") == 1 and "running" in one["state"])
    runtime.end(runtime.by_name("web")[-1].id, 1)
    await api.phase("p", "Failed")


async def test_an_init_container_is_tried_again_where_its_rules_say_so(
    api: NodeApi, runtime: FakeRuntime, start: Start
) -> None:
    runtime.exits["job"] = 42
    start()
    init = {"name": "job", "image": "job:1", "restartPolicy": "Never", "restartPolicyRules": [RULE]}
    await api.add_pod("p", initContainers=[init], containers=[{"name": "web", "image": "web:1"}], restartPolicy="Never")
    await runtime.until(lambda: len(runtime.by_name("job")) == 2)
    runtime.exits["job"] = 1
    for status in runtime.by_name("job"):
        runtime.end(status.id, 1)
    assert api.status_of("default/p")["phase"] == "Pending"


async def test_a_rule_starts_all_of_the_pod_anew(api: NodeApi, runtime: FakeRuntime, start: Start) -> None:
    runtime.exits["job"] = 0
    start()
    init, other = {"name": "job", "image": "job:1"}, {"name": "other", "image": "web:1"}
    await api.add_pod("p", initContainers=[init], containers=[trigger(), other], restartPolicy="Never")
    await api.phase("p", "Running")
    [sandbox] = runtime.sandboxes
    first = {one.id for one in runtime.containers.values()}
    runtime.end(runtime.by_name("web")[0].id, 42)
    await runtime.until(lambda: set(runtime.running()) == {"web", "other"} and not first & set(runtime.containers))
    assert [one.metadata.attempt for one in runtime.containers.values()] == [1, 1, 1]
    assert list(runtime.sandboxes) == [sandbox]
    await api.until(
        lambda: (
            [one["restartCount"] for one in api.status_of("default/p")["containerStatuses"]] == [1, 1]
            and api.status_of("default/p")["phase"] == "Running"
            and restarting(api) == ("False", "")
        )
    )


async def test_that_all_of_a_pod_begins_anew_is_told(api: NodeApi, runtime: FakeRuntime, start: Start) -> None:
    """By a condition that is there from the beginning; preStop hooks are not run."""
    start()
    hook = {"preStop": {"exec": {"command": ["farewell"]}}}
    other = {"name": "other", "image": "web:1", "lifecycle": hook}
    await api.add_pod("p", containers=[trigger(), other], restartPolicy="Never")
    await api.phase("p", "Running")
    assert restarting(api) == ("False", "")
    runtime.stop_hangs = True
    runtime.end(runtime.by_name("web")[0].id, 42)
    await api.until(lambda: restarting(api) == ("True", "RestartAllContainersStarted"))
    await runtime.until(lambda: "stop_container other 2" in runtime.calls)
    assert not any("farewell" in call for call in runtime.calls)


def trigger() -> dict[str, Any]:
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    return {"name": "web", "image": "web:1", "restartPolicy": "Never", "restartPolicyRules": [rule]}


def restarting(api: NodeApi) -> tuple[str, str]:
    """The condition's status and reason."""
    conditions = api.status_of("default/p").get("conditions") or ()
    found = next((one for one in conditions if one["type"] == "AllContainersRestarting"), {})
    return found.get("status", ""), found.get("reason", "")


async def test_one_container_that_runs_on_keeps_the_pod_running(
    api: NodeApi, runtime: FakeRuntime, start: Start
) -> None:
    start()
    job = {"name": "job", "image": "job:1", "restartPolicy": "Never"}
    await api.add_pod("p", containers=[{"name": "web", "image": "web:1"}, job])
    await api.phase("p", "Running")
    runtime.end(runtime.by_name("job")[0].id, 3)
    await api.until(
        lambda: any("terminated" in one["state"] for one in api.status_of("default/p")["containerStatuses"])
    )
    assert api.status_of("default/p")["phase"] == "Running"
    assert len(runtime.by_name("job")) == 1
