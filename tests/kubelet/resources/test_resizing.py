"""Pods that are resized as they run, told by what the API shows and what the runtime is asked to do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pinnace.apis.resources import PODS
from pinnace.cri.api import LinuxContainerResources
from tests.kubelet.conftest import Start
from tests.kubelet.fake_runtime import FakeRuntime
from tests.kubelet.node_api import NodeApi

Obj = dict[str, Any]


def web(cpu: str, memory: str = "1Mi", **more: Any) -> Obj:
    requests = {"cpu": cpu, "memory": memory}
    return {"name": "web", "image": "web:1", "resources": {"requests": requests, "limits": {"memory": "2Mi"}}, **more}


async def resize(api: NodeApi, name: str, container: Obj) -> None:
    api.change_spec(name, containers=[container])


def conditions(api: NodeApi, name: str) -> dict[str, Obj]:
    found = api.status_of(f"default/{name}").get("conditions") or ()
    return {one["type"]: one for one in found if one["type"].startswith("PodResize")}


def shown_cpu(api: NodeApi, name: str) -> str:
    [status] = api.status_of(f"default/{name}")["containerStatuses"]
    return str(status["resources"]["requests"]["cpu"])


async def test_a_running_container_gets_more(api: NodeApi, runtime: FakeRuntime, start: Start) -> None:
    start()
    await api.add_pod("p", containers=[web("100m")])
    await api.phase("p", "Running")
    await resize(api, "p", web("200m"))
    await api.hears('ResizeCompleted: Pod resize completed: {"containers":[{"name":"web"')
    await api.until(lambda: shown_cpu(api, "p") == "200m" and not conditions(api, "p"))
    [changed] = [limits for _, limits in runtime.updates]
    assert changed == LinuxContainerResources(cpu_shares=204)
    [status] = runtime.by_name("web")
    assert status.state.value == "CONTAINER_RUNNING"
    assert api.status_of("default/p")["containerStatuses"][0]["allocatedResources"]["cpu"] == "200m"


async def test_a_policy_restarts_the_container(api: NodeApi, runtime: FakeRuntime, start: Start) -> None:
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    start()
    await api.add_pod("p", containers=[web("100m", resizePolicy=policy)])
    await api.phase("p", "Running")
    await resize(api, "p", web("200m", resizePolicy=policy))
    await api.hears("Killing: Container web resize requires restart")
    await api.hears("ResizeCompleted")
    await api.container("p", lambda one: one.get("restartCount") == 1 and "running" in one["state"])
    assert shown_cpu(api, "p") == "200m"
    assert runtime.updates == []


async def test_what_does_not_fit_waits_until_another_pod_ends(
    api: NodeApi, runtime: FakeRuntime, start: Start, options: Any
) -> None:
    options.capacity = {"cpu": "1"}
    start()
    await api.add_pod("other", containers=[{**web("600m"), "name": "other"}])
    await api.add_pod("p", containers=[web("100m")])
    await api.phase("p", "Running")
    await resize(api, "p", web("800m"))
    await api.until(lambda: "PodResizePending" in conditions(api, "p"))
    pending = conditions(api, "p")["PodResizePending"]
    assert (pending["status"], pending["reason"], pending["observedGeneration"]) == ("True", "Deferred", 2)
    text = "Node didn't have enough resource: cpu, requested: 800, used: 600, capacity: 1000"
    assert pending["message"] == text
    await api.hears(f'"generation":2,"error":"{text}"}}')
    assert shown_cpu(api, "p") == "100m"
    await api.client.delete(PODS, "other", "default", grace_period_seconds=1)
    await api.until(lambda: shown_cpu(api, "p") == "800m" and not conditions(api, "p"))


async def test_what_can_never_fit_is_infeasible(api: NodeApi, start: Start) -> None:
    start()
    await api.add_pod("p", containers=[web("100m")])
    await api.phase("p", "Running")
    await resize(api, "p", web("1000"))
    await api.hears("ResizeInfeasible: Pod resize Infeasible: ")
    await api.until(lambda: conditions(api, "p").get("PodResizePending", {}).get("reason") == "Infeasible")
    await resize(api, "p", web("100m"))
    await api.until(lambda: not conditions(api, "p"))


async def test_a_new_kubelet_knows_what_was_granted(
    api: NodeApi, runtime: FakeRuntime, start: Start, options: Any
) -> None:
    options.capacity = {"cpu": "1"}
    first = start()
    await api.add_pod("other", containers=[{**web("600m"), "name": "other"}])
    await api.add_pod("p", containers=[web("100m")])
    await api.phase("p", "Running")
    first.test_task.cancel()
    await asyncio.wait([first.test_task])
    await resize(api, "p", web("800m"))
    start()
    await api.until(lambda: "PodResizePending" in conditions(api, "p"))
    assert shown_cpu(api, "p") == "100m"
    assert runtime.updates == []
    await resize(api, "p", web("300m"))
    await api.until(lambda: shown_cpu(api, "p") == "300m" and not conditions(api, "p"))


async def test_what_failed_is_told_and_tried_again(
    api: NodeApi, runtime: FakeRuntime, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pinnace.cri.api import CriError

    monkeypatch.setattr("pinnace.kubelet.sync.pod_worker.RETRY", 0.05)
    start()
    await api.add_pod("p", containers=[web("100m")])
    await api.phase("p", "Running")
    runtime.fail["update_container_resources"] = CriError("UNKNOWN", "no")
    await resize(api, "p", web("200m"))
    await api.until(lambda: conditions(api, "p").get("PodResizeInProgress", {}).get("reason") == "Error")
    assert conditions(api, "p")["PodResizeInProgress"]["message"] == "rpc error: code = Unknown desc = no"
    await api.hears("ResizeError: Pod resize error: ")
    del runtime.fail["update_container_resources"]
    await api.until(lambda: shown_cpu(api, "p") == "200m" and not conditions(api, "p"))


async def test_a_pod_with_resources_of_its_own_shows_them(api: NodeApi, start: Start) -> None:
    whole = {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}
    start()
    await api.add_pod("p", containers=[{"name": "web", "image": "web:1"}], resources=whole)
    status = await api.phase("p", "Running")
    assert (status["resources"], status["allocatedResources"]) == (whole, {"cpu": "100m"})
    assert status["qosClass"] == "Burstable"


async def test_what_is_left_of_a_pod_is_not_resized(api: NodeApi, runtime: FakeRuntime, start: Start) -> None:
    first = start()
    await api.add_pod("p", containers=[web("100m")])
    await api.phase("p", "Running")
    first.test_task.cancel()
    await asyncio.wait([first.test_task])
    pod = api.find(PODS, "default/p") or {}
    pod["metadata"].pop("finalizers", None)
    await api.client.delete(PODS, "p", "default", grace_period_seconds=0)
    start()
    await runtime.until(lambda: not runtime.containers)
    assert not [one for one in api.told() if "Resize" in one]


async def test_containers_without_limits_grow_with_the_pod(api: NodeApi, runtime: FakeRuntime, start: Start) -> None:
    def whole(cpu: str) -> Obj:
        return {"requests": {"cpu": "100m"}, "limits": {"cpu": cpu}}

    start()
    await api.add_pod("p", containers=[{"name": "web", "image": "web:1"}], resources=whole("200m"))
    await api.phase("p", "Running")
    api.change_spec("p", resources=whole("400m"))
    await api.hears("ResizeCompleted")
    await api.until(lambda: api.status_of("default/p")["resources"] == whole("400m"))
    [status] = runtime.by_name("web")
    assert (status.resources or LinuxContainerResources()).cpu_quota == 40_000
