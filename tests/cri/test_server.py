"""The engine on a socket: every call of runtime.v1 by gRPC, as `crictl` makes them, and what only its answers tell."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from pinnace.cri.api import (
    ContainerConfig,
    ContainerMetadata,
    ImageSpec,
    LinuxContainerResources,
    LinuxPodSandboxConfig,
    PodSandboxConfig,
    PodSandboxMetadata,
)
from pinnace.cri.engine.engine import Engine, EngineOptions
from pinnace.cri.engine.network import NetworkOptions
from pinnace.cri.server import CriServer
from pinnace.cri.v1.convert import to_message
from pinnace.cri.v1.messages import IMAGE_METHODS, IMAGE_SERVICE, RUNTIME_METHODS, RUNTIME_SERVICE, message_class
from tests.support.images import busybox_archive

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="module")]

IMAGE = "docker.io/library/busybox:served"


class Client:
    """Calls by their names in runtime.v1, with the fields of their requests."""

    def __init__(self, path: Path) -> None:
        self._channel = grpc.aio.insecure_channel(f"unix://{path}")
        self.called: set[str] = set()

    async def __call__(self, method: str, **fields: Any) -> Any:
        self.called.add(method)
        service = IMAGE_SERVICE if method in IMAGE_METHODS else RUNTIME_SERVICE
        request = message_class(f"{method}Request")(**fields)
        answer = message_class(f"{method}Response").FromString
        call = self._channel.unary_unary(
            f"/{service}/{method}", request_serializer=lambda one: one.SerializeToString(), response_deserializer=answer
        )
        return await call(request, timeout=30)

    async def failure(self, method: str, **fields: Any) -> tuple[str, str]:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await self(method, **fields)
        return failed.value.code().name, failed.value.details() or ""

    async def close(self) -> None:
        await self._channel.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    directory = tmp_path_factory.mktemp("served")
    name = f"ps{os.getpid()}"
    network = NetworkOptions(bridge=name, table=name, subnets=(f"10.118.{os.getpid() % 256}.0/24",))
    handlers = {name: path for name in ("crun",) if (path := shutil.which(name))}
    engine = Engine(directory / "root", directory / "state", EngineOptions(network=network, handlers=handlers))
    engine.images.load_archive(busybox_archive(directory / "image.tar", IMAGE, User="1000"))
    await engine.start()
    server = CriServer(engine, engine, engine.inspection)
    await server.start(directory / "s")
    made = Client(directory / "s")
    try:
        yield made
        await made.close()
        await server.close()
    finally:
        await engine.destroy()


def config(name: str, **labels: str) -> PodSandboxConfig:
    return PodSandboxConfig(
        metadata=PodSandboxMetadata(name=name, uid=f"uid-{name}", namespace="default"),
        linux=LinuxPodSandboxConfig(cgroup_parent=f"/served-{os.getpid()}/{name}"),
        labels=labels,
    )


async def pod(client: Client, name: str, **labels: str) -> tuple[str, str]:
    return await run_pod(client, config(name, **labels))


async def run_pod(client: Client, configured: PodSandboxConfig) -> tuple[str, str]:
    """A sandbox and a running container of it."""
    asked, labels = to_message(configured), configured.labels
    sandbox = (await client("RunPodSandbox", config=asked)).pod_sandbox_id
    container = ContainerConfig(
        metadata=ContainerMetadata(name="c"),
        image=ImageSpec(image=IMAGE),
        command=["sleep", "1000"],
        labels=labels,
        stop_signal="SIGRTMIN+3",
    )
    made = await client("CreateContainer", pod_sandbox_id=sandbox, config=to_message(container), sandbox_config=asked)
    await client("StartContainer", container_id=made.container_id)
    return sandbox, made.container_id


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pods(client: Client) -> AsyncIterator[list[tuple[str, str]]]:
    """Two of them, of which the second was stopped."""
    made = [await pod(client, "a", app="one", tier="x"), await pod(client, "b", app="two", tier="x")]
    await client("StopPodSandbox", pod_sandbox_id=made[1][0])
    yield made
    for sandbox, _ in made:
        await client("StopPodSandbox", pod_sandbox_id=sandbox)
        await client("RemovePodSandbox", pod_sandbox_id=sandbox)
    for path in sorted(Path("/sys/fs/cgroup").glob(f"*/served-{os.getpid()}/**/"), reverse=True):
        path.rmdir()


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "ab"),
        ({"label_selector": {"app": "one"}}, "a"),
        ({"label_selector": {"tier": "x", "app": "two"}}, "b"),
        ({"label_selector": {"app": "three"}}, ""),
        ({"state": {"state": 0}}, "a"),
        ({"state": {"state": 1}}, "b"),
    ],
)
async def test_sandboxes_are_filtered(client: Client, pods: list[tuple[str, str]], wanted: Any, found: str) -> None:
    listed = (await client("ListPodSandbox", filter=wanted)).items

    assert sorted(one.metadata.name for one in listed) == list(found)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [0, 1]),
        ({"label_selector": {"app": "one"}}, [0]),
        ({"state": {"state": 1}}, [0]),
        ({"state": {"state": 2}}, [1]),
        ({"state": {"state": 0}}, []),
    ],
)
async def test_containers_are_filtered(
    client: Client, pods: list[tuple[str, str]], wanted: Any, found: list[int]
) -> None:
    listed = (await client("ListContainers", filter=wanted)).containers

    assert {one.id for one in listed} == {pods[index][1] for index in found}


async def test_ids_may_be_cut_short(client: Client, pods: list[tuple[str, str]]) -> None:
    (sandbox, container), *_ = pods

    assert (await client("PodSandboxStatus", pod_sandbox_id=sandbox[:13])).status.id == sandbox
    assert (await client("ContainerStatus", container_id=container[:13])).status.id == container
    (listed,) = (
        await client("ListContainers", filter={"id": container[:13], "pod_sandbox_id": sandbox[:13]})
    ).containers
    assert listed.id == container
    assert await client.failure("ContainerStatus", container_id="") == (
        "UNKNOWN",
        'an error occurred when try to find container "": Prefix can\'t be empty',
    )


async def test_verbose_answers_tell_what_tools_look_for(client: Client, pods: list[tuple[str, str]]) -> None:
    (sandbox, container), *_ = pods

    runtime = (await client("Status", verbose=True)).info
    pod_info = json.loads((await client("PodSandboxStatus", pod_sandbox_id=sandbox, verbose=True)).info["info"])
    info = json.loads((await client("ContainerStatus", container_id=container, verbose=True)).info["info"])
    image = json.loads((await client("ImageStatus", image={"image": IMAGE}, verbose=True)).info["info"])

    assert runtime["lastCNILoadStatus"] == "OK"
    assert "rootDir" in json.loads(runtime["config"])
    assert (pod_info["processStatus"], pod_info["config"]["metadata"]["name"]) == ("running", "a")
    assert len(pod_info["cniResult"]["Interfaces"]["eth0"]["IPConfigs"]) == 1
    assert (info["sandboxID"], info["snapshotKey"]) == (sandbox, container)
    assert Path(f"/proc/{info['pid']}/cmdline").read_bytes() == b"sleep\x001000\0"
    assert info["runtimeSpec"]["process"]["args"] == ["sleep", "1000"]
    assert image["chainID"].startswith("sha256:")
    assert image["imageSpec"]["config"]["User"] == "1000"
    assert (await client("ContainerStatus", container_id=container)).info == {}


async def test_statuses_tell_more_than_kubelets_ask(client: Client, pods: list[tuple[str, str]]) -> None:
    (sandbox, container), *_ = pods

    status = await client("PodSandboxStatus", pod_sandbox_id=sandbox)
    own = (await client("ContainerStatus", container_id=container)).status

    assert [one.id for one in status.containers_statuses] == [container]
    signal = own.DESCRIPTOR.fields_by_name["stop_signal"].enum_type.values_by_number[own.stop_signal].name
    assert signal == "SIGRTMINPLUS3"
    assert own.user.linux.uid == 1000


async def test_resources_of_a_pod_are_remembered(client: Client, pods: list[tuple[str, str]]) -> None:
    (sandbox, _), *_ = pods
    resources = to_message(LinuxContainerResources(cpu_shares=77, memory_swap_limit_in_bytes=5))

    await client("UpdatePodSandboxResources", pod_sandbox_id=sandbox, resources=resources)

    info = json.loads((await client("PodSandboxStatus", pod_sandbox_id=sandbox, verbose=True)).info["info"])
    assert info["config"]["linux"]["resources"]["cpu_shares"] == 77
    assert info["config"]["linux"]["overhead"] is None
    assert await client.failure("UpdatePodSandboxResources", pod_sandbox_id="x") == (
        "NOT_FOUND",
        "failed to find sandbox: not found",
    )


async def test_statistics_of_one(client: Client, pods: list[tuple[str, str]]) -> None:
    (sandbox, container), (stopped, ended) = pods

    assert (await client("ContainerStats", container_id=container)).stats.memory.working_set_bytes.value > 0
    assert (await client("PodSandboxStats", pod_sandbox_id=sandbox)).stats.linux.process.process_count.value > 0
    assert [one.attributes.id for one in (await client("ListContainerStats")).stats] == [container]
    assert [one.attributes.id for one in (await client("ListPodSandboxStats")).stats] == [sandbox]
    assert await client.failure("ContainerStats", container_id=ended) == ("UNKNOWN", "unexpected metrics response: []")
    code, words = await client.failure("PodSandboxStats", pod_sandbox_id=stopped)
    assert (code, words.endswith("is not in ready state: unavailable")) == ("UNAVAILABLE", True)


async def test_a_pod_without_a_cgroup_of_its_own_uses_what_its_containers_use(client: Client) -> None:
    """As `crictl runp` makes them: not what the whole machine uses."""
    bare = config("bare")
    bare.linux.cgroup_parent = ""
    sandbox, container = await run_pod(client, bare)

    told = (await client("PodSandboxStats", pod_sandbox_id=sandbox)).stats.linux

    assert [one.attributes.id for one in told.containers] == [container]
    assert told.cpu.usage_core_nano_seconds.value == told.containers[0].cpu.usage_core_nano_seconds.value > 0
    assert told.memory.working_set_bytes.value == told.containers[0].memory.working_set_bytes.value > 0
    await client("StopPodSandbox", pod_sandbox_id=sandbox)
    await client("RemovePodSandbox", pod_sandbox_id=sandbox)


async def test_metrics_are_described_and_given(client: Client, pods: list[tuple[str, str]]) -> None:
    (sandbox, container), *_ = pods

    described = {one.name: list(one.label_keys) for one in (await client("ListMetricDescriptors")).descriptors}
    (told,) = (await client("ListPodSandboxMetrics")).pod_metrics
    (own,) = told.container_metrics

    assert (told.pod_sandbox_id, own.container_id) == (sandbox, container)
    assert {one.name for one in own.metrics} <= set(described)
    for one in own.metrics:
        assert len(one.label_values) == len(described[one.name])
        assert list(one.label_values[:4]) == ["c", "a", "default", container]
    values = {one.name: one.value.value for one in own.metrics}
    assert values["container_memory_usage_bytes"] > 0
    assert values["container_processes"] == 1


async def test_a_handler_is_told_with_its_pod(client: Client) -> None:
    if shutil.which("crun") is None:
        pytest.skip("needs crun")
    asked = to_message(config("handled"))
    sandbox = (await client("RunPodSandbox", config=asked, runtime_handler="crun")).pod_sandbox_id

    assert (await client("PodSandboxStatus", pod_sandbox_id=sandbox)).status.runtime_handler == "crun"
    (listed,) = (await client("ListPodSandbox", filter={"id": sandbox})).items
    assert listed.runtime_handler == "crun"
    names = [one.name for one in (await client("Status")).runtime_handlers]
    assert names == ["", "crun", "pinnace", "runc"]
    await client("StopPodSandbox", pod_sandbox_id=sandbox)
    await client("RemovePodSandbox", pod_sandbox_id=sandbox)


async def test_every_call_is_answered(client: Client, pods: list[tuple[str, str]], tmp_path: Path) -> None:
    (sandbox, container), *_ = pods
    lost = (await client.failure("PullImage", image={"image": "127.0.0.1:1/a:1"}))[1]

    assert (await client("Version")).runtime_api_version == "v1"
    assert (await client("RuntimeConfig")).linux.cgroup_driver == 1  # cgroupfs
    await client("UpdateRuntimeConfig", runtime_config={"network_config": {"pod_cidr": ""}})
    assert (await client("ExecSync", container_id=container, cmd=["id", "-u"])).stdout == b"1000\n"
    for method in ("Exec", "Attach"):
        extra = {"cmd": ["ls"]} if method == "Exec" else {}
        assert (await client(method, container_id=container, stdout=True, **extra)).url.startswith("http://127.0.0.1:")
    assert (await client("PortForward", pod_sandbox_id=sandbox, port=[80])).url.startswith("http://127.0.0.1:")
    await client("UpdateContainerResources", container_id=container, linux={"cpu_shares": 99})
    await client("ReopenContainerLog", container_id=container)
    code, words = await client.failure("CheckpointContainer", container_id=container, location=str(tmp_path / "c"))
    assert (code, words) == ("UNIMPLEMENTED", "method CheckpointContainer not implemented")
    assert "connection refused" in lost
    assert [one.repo_tags[0] for one in (await client("ListImages", filter={"image": {"image": IMAGE}})).images] == [
        IMAGE
    ]
    usage = await client("ImageFsInfo")
    assert usage.image_filesystems[0].used_bytes.value > 0
    assert usage.container_filesystems == usage.image_filesystems
    await client("RemoveImage", image={"image": "nothing:1"})
    await client("StopContainer", container_id="nothing")
    await client("RemoveContainer", container_id="nothing")
    await client("RemovePodSandbox", pod_sandbox_id="nothing")
    for method in ("PodSandboxStatus", "PodSandboxStats", "UpdatePodSandboxResources"):
        await client(method, pod_sandbox_id=sandbox)
    for method in ("ContainerStatus", "ContainerStats"):
        await client(method, container_id=container)
    for method in (*(one for one in RUNTIME_METHODS if one.startswith("List")), "Status"):
        await client(method)
    await client("ImageStatus", image={"image": IMAGE})

    missing = {*RUNTIME_METHODS, *IMAGE_METHODS} - client.called
    assert missing == set()


async def test_what_lacks_its_name_is_refused(client: Client, pods: list[tuple[str, str]]) -> None:
    (sandbox, _), *_ = pods

    assert await client.failure("RunPodSandbox") == ("UNKNOWN", "sandbox config must include metadata")
    assert await client.failure("CreateContainer", pod_sandbox_id=sandbox) == (
        "UNKNOWN",
        "container config must include metadata",
    )
    assert await client.failure("ImageStatus") == ("UNKNOWN", 'can not resolve "" locally: ambiguous digest string')
