"""What a kubelet relies on, of every runtime: the embedded engine in process, the same over its socket, containerd."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pinnace.cri.api import (
    AttachRequest,
    ContainerConfig,
    ContainerEventType,
    ContainerMetadata,
    ContainerState,
    ContainerStatus,
    CriError,
    ExecRequest,
    ImageService,
    ImageSpec,
    LinuxContainerConfig,
    LinuxContainerResources,
    LinuxContainerSecurityContext,
    LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext,
    Mount,
    NamespaceMode,
    NamespaceOption,
    PodSandboxConfig,
    PodSandboxMetadata,
    PodSandboxState,
    RuntimeService,
)
from pinnace.cri.engine.engine import Engine, EngineOptions
from pinnace.cri.engine.images.store import ImageStore
from pinnace.cri.engine.network import NetworkOptions
from pinnace.cri.remote import RemoteImageService, RemoteRuntimeService
from pinnace.cri.server import CriServer
from tests.support.containerd import Containerd, missing
from tests.support.images import busybox_archive

pytestmark = pytest.mark.root

IMAGE = "docker.io/library/busybox:contract"
LIMIT = 30.0
_numbers = itertools.count()


@dataclass
class Subject:
    """A runtime under test."""

    name: str
    runtime: RuntimeService
    images: ImageService
    directory: Path

    def sandbox_config(self, **fields: Any) -> PodSandboxConfig:
        number = next(_numbers)
        security = fields.pop("security", None)
        linux = LinuxPodSandboxConfig(cgroup_parent=f"/cri-contract-{os.getpid()}/pod{number}")
        if security is not None:
            linux.security_context = security
        return PodSandboxConfig(
            metadata=PodSandboxMetadata(name=f"pod{number}", uid=f"uid{number}", namespace="default"),
            **{"hostname": f"host{number}", "log_directory": str(self.directory / "logs"), **fields},
            linux=linux,
        )

    async def create(self, sandbox: str, config: PodSandboxConfig, *command: str, **fields: Any) -> str:
        container = ContainerConfig(
            metadata=ContainerMetadata(name=fields.pop("name", "c")),
            image=ImageSpec(image=IMAGE),
            command=list(command),
            **{"log_path": f"{sandbox[:12]}.log", **fields},
        )
        return await self.runtime.create_container(sandbox, container, config)

    async def start(self, *command: str, **fields: Any) -> str:
        """A container in a sandbox of its own; its id."""
        config = self.sandbox_config()
        sandbox = await self.runtime.run_pod_sandbox(config)
        container = await self.create(sandbox, config, *command, **fields)
        await self.runtime.start_container(container)
        return container

    async def ended(self, container: str) -> ContainerStatus:
        async with asyncio.timeout(LIMIT):
            while True:
                status = await self.runtime.container_status(container)
                if status.state is ContainerState.EXITED:
                    return status
                await asyncio.sleep(0.02)  # not every runtime tells

    async def output(self, container: str) -> str:
        path = Path((await self.runtime.container_status(container)).log_path)
        return "".join(line.split(" ", 3)[3] for line in path.read_text().splitlines(keepends=True))

    def unknown_command(self, name: str) -> str:
        """What is said, as a pattern, of one that is not there."""
        if self.name == "engine on crun":
            return rf"executable file `{name}` not found in \$PATH"
        if name.startswith("/"):
            return f"stat {name}: no such file or directory"
        return rf'exec: "{name}": executable file not found in \$PATH'

    async def clear(self) -> None:
        for sandbox in await self.runtime.list_pod_sandbox():
            await self.runtime.stop_pod_sandbox(sandbox.id)
            await self.runtime.remove_pod_sandbox(sandbox.id)
        assert await self.runtime.list_containers() == []
        assert await self.runtime.list_pod_sandbox() == []


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid():
        pytest.skip("needs root")
    return busybox_archive(tmp_path_factory.mktemp("image") / "busybox.tar", IMAGE)


@pytest.fixture(scope="module")
def store(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageStore]:
    store = ImageStore(tmp_path_factory.mktemp("store"))
    store.load_archive(archive)
    yield store
    shutil.rmtree(store.root, ignore_errors=True)


@pytest.fixture(scope="module")
def containerd(archive: Path) -> Iterator[Containerd]:
    if missing():
        pytest.skip(missing())
    made = Containerd(Path(tempfile.mkdtemp(prefix="pn-cri-", dir="/var/tmp")), 2)
    try:
        made.start()
        made.load(busybox_archive(made.directory / "pause.tar", "pause:test", command=("sleep", "2147483647")))
        made.load(archive)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module", autouse=True)
def no_stray_cgroups() -> Iterator[None]:
    """Pods' cgroups are their runtime's to remove or their kubelet's; what they were in is ours."""
    yield
    for path in sorted(Path("/sys/fs/cgroup").glob(f"*/cri-contract-{os.getpid()}/**/"), reverse=True):
        path.rmdir()


@pytest.fixture(params=["engine", "engine over its socket", "engine on runc", "engine on crun", "containerd"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    if request.param == "containerd":
        containerd = request.getfixturevalue("containerd")
        runtime, images = RemoteRuntimeService(containerd.endpoint), RemoteImageService(containerd.endpoint)
        made = Subject(request.param, runtime, images, tmp_path)
        yield made
        await made.clear()
        await runtime.close()
        await images.close()
        return
    number = next(_numbers)
    name = f"pc{os.getpid()}x{number}"
    network = NetworkOptions(
        bridge=name[:15], table=name, subnets=(f"10.{120 + os.getpid() % 30}.{number % 256}.0/24",)
    )
    oci_runtime = ""
    program = request.param.removeprefix("engine on ")
    if program in ("runc", "crun"):
        oci_runtime = shutil.which(program) or ""
        if not oci_runtime:
            pytest.skip(f"needs {program}")
    options = EngineOptions(network=network, oci_runtime=oci_runtime)
    engine = Engine(tmp_path / "root", tmp_path / "state", options, images=request.getfixturevalue("store"))
    await engine.start()
    try:
        if request.param != "engine over its socket":
            made = Subject(request.param, engine, engine, tmp_path)
            yield made
            await made.clear()
            return
        server = CriServer(engine, engine, engine.inspection)
        await server.start(tmp_path / "s")
        endpoint = f"unix://{tmp_path}/s"
        runtime, images = RemoteRuntimeService(endpoint), RemoteImageService(endpoint)
        made = Subject(request.param, runtime, images, tmp_path)
        yield made
        await made.clear()
        await runtime.close()
        await images.close()
        await server.close()
    finally:
        await engine.destroy()


async def test_it_says_what_it_is_and_that_it_is_ready(subject: Subject) -> None:
    version = await subject.runtime.version()
    conditions = {one.type: one.status for one in await subject.runtime.status()}

    assert version.runtime_name == ("containerd" if subject.name == "containerd" else "pinnace")
    assert version.runtime_version
    assert conditions == {"RuntimeReady": True, "NetworkReady": True}
    features = await subject.runtime.features()
    handlers = [] if subject.name == "containerd" else ["", "pinnace", "runc"]  # containerd tells them from 1.7 on
    assert [one.name for one in features.handlers] == handlers
    assert features.supplemental_groups_policy == (subject.name != "containerd")


async def test_a_sandbox_lives_from_run_to_remove(subject: Subject) -> None:
    config = subject.sandbox_config(labels={"app": "x"}, annotations={"note": "y"})
    sandbox = await subject.runtime.run_pod_sandbox(config)

    status = await subject.runtime.pod_sandbox_status(sandbox)
    assert (status.state, status.metadata) == (PodSandboxState.READY, config.metadata)
    assert (status.labels, status.annotations) == (config.labels, config.annotations)
    assert len(status.ips) == 1
    assert status.created_at > 0

    for _ in range(2):
        await subject.runtime.stop_pod_sandbox(sandbox)
    (listed,) = await subject.runtime.list_pod_sandbox()
    assert (listed.id, listed.state) == (sandbox, PodSandboxState.NOTREADY)

    for _ in range(2):
        await subject.runtime.remove_pod_sandbox(sandbox)
    with pytest.raises(CriError) as error:
        await subject.runtime.pod_sandbox_status(sandbox)
    assert error.value.code == "NOT_FOUND"


async def test_a_container_goes_through_its_states(subject: Subject) -> None:
    config = subject.sandbox_config()
    sandbox = await subject.runtime.run_pod_sandbox(config)
    container = await subject.create(
        sandbox, config, "sh", "-c", "echo out $WHO; exit 7", envs={"WHO": "me"}, labels={"a": "b"}
    )
    created = await subject.runtime.container_status(container)
    await subject.runtime.start_container(container)
    status = await subject.ended(container)

    assert created.state is ContainerState.CREATED
    assert (status.exit_code, status.reason) == (7, "Error")
    assert status.created_at < min(
        status.started_at, status.finished_at
    )  # the end may be seen before the start was told
    assert await subject.output(container) == "out me\n"
    (listed,) = await subject.runtime.list_containers()
    assert (listed.id, listed.pod_sandbox_id, listed.state) == (container, sandbox, ContainerState.EXITED)
    assert (listed.labels, listed.metadata.name) == ({"a": "b"}, "c")
    for _ in range(2):
        await subject.runtime.remove_container(container)
    assert await subject.runtime.list_containers() == []


async def test_stop_kills_what_does_not_end(subject: Subject) -> None:
    container = await subject.start("sleep", "1000")

    await subject.runtime.stop_container(container, 1)
    await subject.runtime.stop_container(container, 1)

    status = await subject.runtime.container_status(container)
    assert (status.state, status.exit_code) == (ContainerState.EXITED, 137)


async def test_stopping_a_sandbox_ends_its_containers(subject: Subject) -> None:
    container = await subject.start("sleep", "1000")
    (listed,) = await subject.runtime.list_containers()

    await subject.runtime.stop_pod_sandbox(listed.pod_sandbox_id)

    assert (await subject.ended(container)).exit_code == 137


async def test_commands_run_inside(subject: Subject) -> None:
    container = await subject.start("sleep", "1000")

    answer = await subject.runtime.exec_sync(container, ["sh", "-c", "echo out; echo err >&2; exit 3"], 10)

    assert (answer.stdout, answer.stderr, answer.exit_code) == (b"out\n", b"err\n", 3)
    with pytest.raises(CriError) as late:
        await subject.runtime.exec_sync(container, ["sleep", "100"], 1)
    assert late.value.code == "DEADLINE_EXCEEDED"
    with pytest.raises(CriError, match=subject.unknown_command("nope")):
        await subject.runtime.exec_sync(container, ["nope"], 10)


async def test_sessions_are_carried_by_urls(subject: Subject) -> None:
    container = await subject.start("sleep", "1000")
    (listed,) = await subject.runtime.list_containers()

    urls = [
        await subject.runtime.exec(ExecRequest(container_id=container, cmd=["ls"])),
        await subject.runtime.attach(AttachRequest(container_id=container)),
        await subject.runtime.port_forward(listed.pod_sandbox_id, [80]),
    ]

    assert [url.split("/")[3] for url in urls] == ["exec", "attach", "portforward"]
    assert all(url.startswith("http://127.0.0.1:") for url in urls)


async def test_files_of_the_host_are_mounted(subject: Subject) -> None:
    (subject.directory / "data").mkdir()
    (subject.directory / "data" / "file").write_text("from outside\n")
    volume = Mount(container_path="/data", host_path=str(subject.directory / "data"), readonly=True)
    container = await subject.start("sh", "-c", "cat /data/file; touch /data/new || echo denied", mounts=[volume])

    await subject.ended(container)

    assert "from outside\n" in await subject.output(container)
    assert not (subject.directory / "data" / "new").exists()


async def test_users_and_limits_are_enforced(subject: Subject) -> None:
    linux = LinuxContainerConfig(
        resources=LinuxContainerResources(memory_limit_in_bytes=64 << 20),
        security_context=LinuxContainerSecurityContext(run_as_user=1000, run_as_group=2000, supplemental_groups=[3000]),
    )
    container = await subject.start("sh", "-c", "id -u; id -g; id -G", linux=linux)

    await subject.ended(container)

    assert (await subject.output(container)).split() == ["1000", "2000", "2000", "3000"]


async def test_limits_change_while_it_runs(subject: Subject) -> None:
    container = await subject.start("sleep", "1000")

    await subject.runtime.update_container_resources(container, LinuxContainerResources(cpu_shares=512))

    resources = (await subject.runtime.container_status(container)).resources
    assert resources is None or resources.cpu_shares == 512


async def test_the_log_goes_on_in_a_new_file_after_rotation(subject: Subject) -> None:
    container = await subject.start("sh", "-c", "sleep 1000")
    path = Path((await subject.runtime.container_status(container)).log_path)
    path.rename(path.with_suffix(".old"))
    await subject.runtime.reopen_container_log(container)

    assert path.exists()
    assert path.with_suffix(".old").exists()


async def test_a_pod_may_share_its_processes(subject: Subject) -> None:
    options = NamespaceOption(pid=NamespaceMode.POD)
    config = subject.sandbox_config(security=LinuxSandboxSecurityContext(namespace_options=options))
    sandbox = await subject.runtime.run_pod_sandbox(config)
    linux = LinuxContainerConfig(security_context=LinuxContainerSecurityContext(namespace_options=options))
    first = await subject.create(sandbox, config, "sleep", "4321", linux=linux)
    second = await subject.create(sandbox, config, "ps", "-o", "args", name="d", log_path="d.log", linux=linux)
    await subject.runtime.start_container(first)
    await subject.runtime.start_container(second)

    await subject.ended(second)

    assert "sleep 4321" in await subject.output(second)


async def test_what_is_wrong_is_refused(subject: Subject) -> None:
    config = subject.sandbox_config()
    sandbox = await subject.runtime.run_pod_sandbox(config)
    broken = await subject.create(sandbox, config, "/no/such")

    with pytest.raises(CriError, match=subject.unknown_command("/no/such")):
        await subject.runtime.start_container(broken)
    status = await subject.runtime.container_status(broken)
    assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 128, "StartError")
    with pytest.raises(CriError) as unknown:
        await subject.runtime.container_status("nothing")
    assert unknown.value.code == "NOT_FOUND"
    with pytest.raises(CriError, match='no runtime for "strange" is configured'):
        await subject.runtime.run_pod_sandbox(subject.sandbox_config(), "strange")


async def test_images_are_found_by_name_and_id(subject: Subject) -> None:
    (listed,) = [one for one in await subject.images.list_images() if IMAGE in one.repo_tags]

    assert await subject.images.image_status(ImageSpec(image=listed.id)) == listed
    assert await subject.images.image_status(ImageSpec(image=IMAGE)) == listed
    assert await subject.images.image_status(ImageSpec(image="docker.io/library/nothing:1")) is None
    assert (await subject.images.image_fs_info())[0].mountpoint.startswith("/")
    await subject.images.remove_image(ImageSpec(image="docker.io/library/nothing:1"))


async def test_pods_are_counted(subject: Subject) -> None:
    await subject.start("sleep", "1000")

    (pod,) = await subject.runtime.list_pod_sandbox_stats()
    (container,) = await subject.runtime.list_container_stats()

    assert pod.interfaces[0].name == "eth0"
    assert pod.memory_working_set_bytes > 0
    assert pod.containers[0].id == container.id


async def test_events_tell_what_happens(subject: Subject) -> None:
    """A containerd before 1.7 tells only what nobody asked it to do: the end of containers."""
    events = subject.runtime.get_container_events()
    following = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    while not following.done():  # a stream over a socket is there a little later
        await subject.start("true")
        await asyncio.wait([following], timeout=0.1)
    container = await subject.start("true")
    kinds = []
    async with asyncio.timeout(LIMIT):
        async for event in events:
            if event.container_id == container:
                kinds.append(event.container_event_type)
                assert event.pod_uid.startswith("uid")
            if kinds[-1:] == [ContainerEventType.STOPPED]:
                break

    before = [] if subject.name == "containerd" else [ContainerEventType.CREATED, ContainerEventType.STARTED]
    assert kinds == [*before, ContainerEventType.STOPPED]
