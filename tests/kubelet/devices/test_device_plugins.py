"""Device plugins over real sockets: what the node offers, which containers get what, restarts of either side."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pinnace.apis.resources import NODES
from pinnace.cri.api import CDIDevice, Device, Mount
from pinnace.kubelet.devices.messages import POD_RESOURCES, RESOURCES
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.statistics import measures
from tests.kubelet.conftest import Start
from tests.kubelet.fake_runtime import FakeRuntime
from tests.kubelet.node_api import NodeApi
from tests.support.device_plugin import FakePlugin

Obj = dict[str, Any]
GPU = "vendor.example/gpu"


@pytest.fixture
def options(options: KubeletOptions) -> Iterator[KubeletOptions]:
    """With a directory whose sockets have short enough names."""
    with tempfile.TemporaryDirectory(prefix="pn-") as directory:
        options.root_dir = Path(directory)
        options.status_update_frequency = 0.05
        yield options


@pytest.fixture
async def plugin(options: KubeletOptions) -> AsyncIterator[FakePlugin]:
    devices = {"gpu-0": 0, "gpu-1": 1, "gpu-2": 0}
    made = FakePlugin(options.root_dir / "device-plugins", GPU, devices, pre_start_required=True)
    yield made
    await made.stop()


async def joined(api: NodeApi, plugin: FakePlugin) -> None:
    await api.until(lambda: (plugin.directory / "kubelet.sock").exists())
    await plugin.start()
    await offers(api, "3", "3")


async def offers(api: NodeApi, capacity: str | None, allocatable: str | None) -> None:
    def shown() -> tuple[Any, Any]:
        status = (api.find(NODES, "n1") or {}).get("status") or {}
        return status.get("capacity", {}).get(GPU), status.get("allocatable", {}).get(GPU)

    await api.until(lambda: shown() == (capacity, allocatable))


def using(count: int, name: str = "web", image: str = "web:1", **more: Any) -> Obj:
    amounts = {GPU: str(count)}
    return {"name": name, "image": image, "resources": {"limits": amounts, "requests": amounts}, **more}


async def test_a_container_gets_devices_with_all_they_need(
    api: NodeApi, runtime: FakeRuntime, start: Start, plugin: FakePlugin
) -> None:
    start()
    await joined(api, plugin)
    await api.add_pod("p", containers=[using(2, env=[{"name": "OWN", "value": "1"}])])
    await api.phase("p", "Running")
    [status] = runtime.by_name("web")
    config = runtime.configs[status.id]
    assert config.envs["FAKE_DEVICES"] == "gpu-0,gpu-1"
    assert config.envs["OWN"] == "1"
    assert config.devices == [Device(container_path="/dev/fake0", host_path="/dev/null", permissions="rw")]
    assert Mount(container_path="/plugin", host_path="/etc", readonly=True) in config.mounts
    assert config.annotations["fake"] == "yes"
    assert plugin.calls == [("allocate", ["gpu-0", "gpu-1"]), ("start", ["gpu-0", "gpu-1"])]


async def test_devices_of_init_containers_go_to_the_main_ones(
    api: NodeApi, runtime: FakeRuntime, start: Start, plugin: FakePlugin
) -> None:
    runtime.exits["job"] = 0
    start()
    await joined(api, plugin)
    await api.add_pod("p", initContainers=[using(2, "job", "job:1")], containers=[using(3)])
    await api.phase("p", "Running")
    allocated = [ids for call, ids in plugin.calls if call == "allocate"]
    assert allocated == [["gpu-0", "gpu-1"], ["gpu-0", "gpu-1", "gpu-2"]]


async def test_the_plugin_may_choose_and_describe_devices_in_files(
    api: NodeApi, runtime: FakeRuntime, start: Start, plugin: FakePlugin
) -> None:
    plugin.options["get_preferred_allocation_available"] = True
    plugin.cdi = True
    start()
    await joined(api, plugin)
    await api.add_pod("p", containers=[using(1)])
    await api.phase("p", "Running")
    [status] = runtime.by_name("web")
    assert runtime.configs[status.id].CDI_devices == [CDIDevice(name=f"{GPU}=gpu-2")]


async def test_sick_devices_are_not_given_to_anybody(
    api: NodeApi, runtime: FakeRuntime, start: Start, plugin: FakePlugin
) -> None:
    start()
    await joined(api, plugin)
    plugin.sicken("gpu-0", "gpu-1")
    await offers(api, "3", "1")
    await api.add_pod("p", containers=[using(1)])
    await api.phase("p", "Running")
    assert plugin.calls[0] == ("allocate", ["gpu-2"])
    await api.add_pod("q", containers=[using(1)])
    status = await api.phase("q", "Failed")
    assert status["reason"] == f"OutOf{GPU}"


async def test_what_the_plugin_refuses_fails_the_pod(
    api: NodeApi, runtime: FakeRuntime, start: Start, plugin: FakePlugin
) -> None:
    plugin.refuse = "no driver"
    start()
    await joined(api, plugin)
    await api.add_pod("p", containers=[using(1)])
    status = await api.phase("p", "Failed")
    assert status["reason"] == "UnexpectedAdmissionError"
    why = "rpc error: code = Unknown desc = no driver"
    assert status["message"] == f"Pod was rejected: Allocate failed due to {why}, which is unexpected"
    plugin.refuse = ""
    await api.add_pod("q", containers=[using(3)])
    await api.phase("q", "Running")


async def test_a_new_kubelet_remembers_who_holds_what(
    api: NodeApi, runtime: FakeRuntime, start: Start, plugin: FakePlugin
) -> None:
    first = start()
    await joined(api, plugin)
    await api.add_pod("p", containers=[using(2)])
    await api.phase("p", "Running")
    first.test_task.cancel()
    await asyncio.wait([first.test_task])
    await plugin.stop()
    start()
    await offers(api, "0", "0")
    again = FakePlugin(plugin.directory, GPU, plugin.devices)
    await again.start()
    try:
        await offers(api, "3", "3")
        await api.add_pod("q", containers=[using(1)])
        await api.phase("q", "Running")
        assert again.calls == [("allocate", ["gpu-2"])]
        [old] = [one for one in runtime.by_name("web") if runtime.configs[one.id].envs["FAKE_DEVICES"] != "gpu-2"]
        runtime.end(old.id, 1)
        await runtime.until(lambda: len(runtime.by_name("web")) == 3)
        newest = runtime.by_name("web")[-1]
        assert runtime.configs[newest.id].envs["FAKE_DEVICES"] == "gpu-0,gpu-1"
    finally:
        await again.stop()


async def test_devices_of_a_pod_that_has_ended_are_free(
    api: NodeApi, runtime: FakeRuntime, start: Start, plugin: FakePlugin
) -> None:
    runtime.exits["web"] = 0
    start()
    await joined(api, plugin)
    await api.add_pod("p", containers=[using(3)], restartPolicy="Never")
    await api.phase("p", "Succeeded")
    await api.add_pod("q", containers=[using(3)], restartPolicy="Never")
    await api.phase("q", "Succeeded")


async def test_a_plugin_that_goes_takes_its_devices_along(api: NodeApi, start: Start, plugin: FakePlugin) -> None:
    start()
    await joined(api, plugin)
    await plugin.stop()
    await offers(api, "3", "0")


async def test_a_plugin_of_another_version_is_refused(api: NodeApi, start: Start, plugin: FakePlugin) -> None:
    start()
    await api.until(lambda: (plugin.directory / "kubelet.sock").exists())
    with pytest.raises(grpc.RpcError) as caught:
        await plugin.register("v1alpha1")
    error: Any = caught.value
    assert error.details() == (
        'requested API version "v1alpha1" is not supported by kubelet. Supported version is ["v1beta1"]'
    )


async def test_agents_are_told_who_holds_what(
    api: NodeApi, start: Start, plugin: FakePlugin, options: KubeletOptions
) -> None:
    start()
    await joined(api, plugin)
    await api.add_pod("p", containers=[using(2)])
    await api.phase("p", "Running")
    counted = measures.pod_resources_requests, measures.pod_resources["Get"], measures.pod_resources_errors["Get"]
    before = [family.values.get(("v1",), 0) for family in counted]
    socket = options.root_dir / "pod-resources" / "kubelet.sock"
    channel = grpc.aio.insecure_channel(f"unix://{socket}", options=(("grpc.use_local_subchannel_pool", 1),))

    async def ask(method: str, request: str, answer: str, **fields: str) -> Any:
        call: Any = channel.unary_unary(
            f"/{POD_RESOURCES}/{method}", lambda message: message.SerializeToString(), RESOURCES[answer].FromString
        )
        return await call(RESOURCES[request](**fields), timeout=60)

    try:
        listed = await ask("List", "ListPodResourcesRequest", "ListPodResourcesResponse")
        [pod] = listed.pod_resources
        [container] = pod.containers
        assert (pod.name, pod.namespace, container.name) == ("p", "default", "web")
        assert [(one.resource_name, list(one.device_ids), one.topology.nodes[0].ID) for one in container.devices] == [
            (GPU, ["gpu-0"], 0),
            (GPU, ["gpu-1"], 1),
        ]
        whole = await ask("GetAllocatableResources", "AllocatableResourcesRequest", "AllocatableResourcesResponse")
        assert [list(one.device_ids) for one in whole.devices] == [["gpu-0"], ["gpu-1"], ["gpu-2"]]
        names = {"pod_name": "p", "pod_namespace": "default"}
        one = await ask("Get", "GetPodResourcesRequest", "GetPodResourcesResponse", **names)
        assert one.pod_resources == pod
        with pytest.raises(grpc.RpcError):
            await ask("Get", "GetPodResourcesRequest", "GetPodResourcesResponse", pod_name="q")
    finally:
        await channel.close(None)
    assert [family.values["v1",] - was for family, was in zip(counted, before, strict=True)] == [4, 2, 1]
