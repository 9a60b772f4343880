"""The runtimes that the contract is for: the engine in process, over its socket and over OCI runtimes; containerd.

One of each serves all tests, which take their pods away again.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pinnace.cri.api import (
    ContainerConfig,
    ContainerMetadata,
    ContainerState,
    ContainerStatus,
    CriError,
    ImageService,
    ImageSpec,
    LinuxContainerConfig,
    LinuxContainerSecurityContext,
    LinuxPodSandboxConfig,
    PodSandboxConfig,
    PodSandboxMetadata,
    RuntimeService,
)
from pinnace.cri.engine.engine import Engine, EngineOptions
from pinnace.cri.engine.images.store import ImageStore
from pinnace.cri.engine.network import NetworkOptions
from pinnace.cri.remote import RemoteImageService, RemoteRuntimeService
from pinnace.cri.server import CriServer
from tests.support.containerd import PAUSE, Containerd, missing, release
from tests.support.images import busybox_archive
from tests.support.inotify import changes

IMAGE = "docker.io/library/busybox:contract"
LIMIT = 60.0
CGROUPS = f"/cri-contract-{os.getpid()}"
_numbers = itertools.count()


def secured(**fields: Any) -> LinuxContainerConfig:
    return LinuxContainerConfig(security_context=LinuxContainerSecurityContext(**fields))


@dataclass
class Subject:
    """A runtime under test."""

    name: str
    runtime: RuntimeService
    images: ImageService
    directory: Path
    notes_of: Callable[[str], Path]  # where it writes down what becomes of a container
    release: tuple[int, int] = (0, 0)  # of a containerd
    _configs: dict[str, PodSandboxConfig] = field(default_factory=dict)

    @property
    def is_containerd(self) -> bool:
        return self.name == "containerd"

    def is_containerd_before(self, major: int, minor: int) -> bool:
        return self.is_containerd and self.release < (major, minor)

    def is_containerd_since(self, major: int, minor: int) -> bool:
        return self.is_containerd and self.release >= (major, minor)

    def sandbox_config(self, **fields: Any) -> PodSandboxConfig:
        number = next(_numbers)
        linux = LinuxPodSandboxConfig(cgroup_parent=f"{CGROUPS}/pod{number}", sysctls=fields.pop("sysctls", {}))
        security = fields.pop("security", None)
        if security is not None:
            linux.security_context = security
        return PodSandboxConfig(
            metadata=PodSandboxMetadata(name=f"pod{number}", uid=f"uid{number}", namespace="default"),
            **{"hostname": f"host{number}", "log_directory": str(self.directory / "logs"), **fields},
            linux=linux,
        )

    async def sandbox(self, **fields: Any) -> str:
        """A sandbox; its id."""
        config = self.sandbox_config(**fields)
        sandbox = await self.runtime.run_pod_sandbox(config)
        self._configs[sandbox] = config
        return sandbox

    async def create(self, sandbox: str, *command: str, **fields: Any) -> str:
        number = next(_numbers)
        container = ContainerConfig(
            metadata=fields.pop("metadata", None) or ContainerMetadata(name=fields.pop("name", f"c{number}")),
            image=ImageSpec(image=fields.pop("image", IMAGE)),
            command=list(command),
            **{"log_path": f"{number}.log", **fields},
        )
        return await self.runtime.create_container(sandbox, container, self._configs[sandbox])

    async def start(self, *command: str, sandbox: str = "", **fields: Any) -> str:
        """A running container, in a sandbox of its own where none is given; its id."""
        container = await self.create(sandbox or await self.sandbox(), *command, **fields)
        await self.runtime.start_container(container)
        return container

    async def ended(self, container: str) -> ContainerStatus:
        async with asyncio.timeout(LIMIT), changes(self.notes_of(container)) as changed:
            while True:
                status = await self.runtime.container_status(container)
                if status.state is ContainerState.EXITED:
                    return status
                await changed()

    async def run(self, *command: str, **fields: Any) -> tuple[ContainerStatus, str]:
        """To its end: its status and what it wrote."""
        container = await self.start(*command, **fields)
        return await self.ended(container), await self.output(container)

    async def sh(self, script: str, **fields: Any) -> str:
        return (await self.run("sh", "-c", script, **fields))[1]

    async def output(self, container: str, stream: str = "") -> str:
        path = Path((await self.runtime.container_status(container)).log_path)
        lines = [line.split(" ", 3) for line in path.read_text().splitlines(keepends=True)]
        return "".join(line[3] for line in lines if stream in ("", line[1]))

    def unknown_command(self, name: str) -> str:
        """What is said, as a pattern, of one that is not there."""
        if self.name == "engine on crun":
            return rf"executable file `{name}` not found in \$PATH"
        if name.startswith("/"):
            return f"stat {name}: no such file or directory"
        return rf'exec: "{name}": executable file not found in \$PATH'

    async def clear(self) -> None:
        async def remove(sandbox: str) -> None:
            await self.runtime.stop_pod_sandbox(sandbox)
            await self.runtime.remove_pod_sandbox(sandbox)

        await asyncio.gather(*(remove(one.id) for one in await self.runtime.list_pod_sandbox()))
        self._configs.clear()
        assert await self.runtime.list_containers() == []
        assert await self.runtime.list_pod_sandbox() == []


async def code_of(call: Any) -> tuple[str, str]:
    """How a call fails: its code and its words."""
    with pytest.raises(CriError) as failed:
        async with asyncio.timeout(LIMIT):
            await call
    return failed.value.code, failed.value.message


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid():
        pytest.skip("needs root")
    return busybox_archive(tmp_path_factory.mktemp("image") / "busybox.tar", IMAGE)


@pytest.fixture(scope="session")
def store(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageStore]:
    store = ImageStore(tmp_path_factory.mktemp("store"))
    store.load_archive(archive)
    yield store
    shutil.rmtree(store.root, ignore_errors=True)


@pytest.fixture(scope="session")
def no_stray_cgroups() -> Iterator[None]:
    """Pods' cgroups are their runtime's to remove or their kubelet's; what they were in is ours."""
    yield
    for path in sorted(Path("/sys/fs/cgroup").glob(f"*{CGROUPS}/**/"), reverse=True):
        path.rmdir()


async def _containerd(archive: Path, directory: Path) -> AsyncIterator[Subject]:
    if missing():
        pytest.skip(missing())
    made = Containerd(Path(tempfile.mkdtemp(prefix="pn-cri-", dir="/var/tmp")), 2)
    try:
        made.start()
        made.load(busybox_archive(made.directory / "pause.tar", "pause:test", command=("sleep", "2147483647")))
        made.load(archive)
        runtime, images = RemoteRuntimeService(made.endpoint), RemoteImageService(made.endpoint)
        notes = made.directory / "root/io.containerd.grpc.v1.cri/containers"
        await made.knows(PAUSE, IMAGE)
        yield Subject("containerd", runtime, images, directory, lambda container: notes / container, release())
        await runtime.close()
        await images.close()
    finally:
        made.close()


async def _engine(name: str, store: ImageStore, directory: Path) -> AsyncIterator[Subject]:
    program = name.removeprefix("engine on ") if name.startswith("engine on ") else ""
    if program and shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    number = next(_numbers)
    short = f"pc{os.getpid()}x{number}"
    subnet = f"10.{120 + os.getpid() % 30}.{number % 256}.0/24"
    network = NetworkOptions(bridge=short[:15], table=short, subnets=(subnet,))
    options = EngineOptions(network=network, oci_runtime=shutil.which(program) or "" if program else "")
    engine = Engine(directory / "root", directory / "state", options, images=store)
    await engine.start()
    try:
        if name != "engine over its socket":
            yield Subject(name, engine, engine, directory, lambda _: directory / "root/containers")
            return
        server = CriServer(engine, engine, engine.inspection)
        await server.start(directory / "s")
        endpoint = f"unix://{directory}/s"
        runtime, images = RemoteRuntimeService(endpoint), RemoteImageService(endpoint)
        yield Subject(name, runtime, images, directory, lambda _: directory / "root/containers")
        await runtime.close()
        await images.close()
        await server.close()
    finally:
        await engine.destroy()


NAMES = ["engine", "engine over its socket", "engine on runc", "engine on crun", "containerd"]


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=NAMES)
async def any_subject(
    request: pytest.FixtureRequest,
    archive: Path,
    store: ImageStore,
    no_stray_cgroups: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Subject]:
    directory = tmp_path_factory.mktemp("cri")
    made = (
        _containerd(archive, directory) if request.param == "containerd" else _engine(request.param, store, directory)
    )
    async for subject in made:
        yield subject


@pytest_asyncio.fixture(loop_scope="session")
async def subject(any_subject: Subject) -> AsyncIterator[Subject]:
    """A runtime without pods, and again without them."""
    yield any_subject
    await any_subject.clear()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory of the machine with a file in it."""
    made = tmp_path / "data"
    made.mkdir()
    (made / "file").write_text("from outside\n")
    return made
