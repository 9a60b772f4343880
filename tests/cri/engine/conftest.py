"""Real containers from Debian's static busybox: an engine of its own for every test, and proof that it left nothing."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pinnace.cri.api import (
    ContainerConfig,
    ContainerEvent,
    ContainerEventType,
    ContainerMetadata,
    ContainerStatus,
    ImageSpec,
    LinuxContainerConfig,
    LinuxPodSandboxConfig,
    PodSandboxConfig,
    PodSandboxMetadata,
)
from pinnace.cri.engine.engine import Engine, EngineOptions
from pinnace.cri.engine.images.store import ImageStore
from pinnace.cri.engine.network import NetworkOptions

IMAGE = "busybox:1"
TIMEOUT = 60.0

_PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
)
_GROUP = "root:x:0:\napp:x:1001:\nextra:x:2002:app\nnogroup:x:65534:\n"
_numbers = itertools.count(os.getpid() % 200)


def _archive(path: Path, **config: Any) -> Path:
    """A docker-archive of one layer: busybox and its links, users, a script without interpreter."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:

        def add(name: str, kind: bytes, mode: int = 0o755, data: bytes = b"", link: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.size, info.linkname = kind, mode, len(data), link
            tar.addfile(info, io.BytesIO(data))

        for directory in ("bin", "etc", "proc", "sys", "dev", "root", "home", "home/app", "var"):
            add(directory, tarfile.DIRTYPE)
        add("tmp", tarfile.DIRTYPE, 0o1777)
        add("bin/busybox", tarfile.REGTYPE, data=Path("/bin/busybox").read_bytes())
        applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
        for applet in applets:
            if applet != "busybox":
                add(f"bin/{applet}", tarfile.SYMTYPE, link="busybox")
        add("etc/passwd", tarfile.REGTYPE, 0o644, _PASSWD.encode())
        add("etc/group", tarfile.REGTYPE, 0o644, _GROUP.encode())
        add("bin/broken", tarfile.REGTYPE, 0o755, b"#!/no/such/interpreter\n")
        add("bin/garbage", tarfile.REGTYPE, 0o755, b"\x00\x01\x02\x03")
        add("etc/evil", tarfile.SYMTYPE, link="/escaped")
        add("var/run", tarfile.SYMTYPE, link="/run")
    import hashlib

    data = layer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin", "FROM_IMAGE=1"], **config},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    encoded = json.dumps(document).encode()
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for name, content in (
            ("config.json", encoded),
            ("layer.tar", data),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid():
        pytest.skip("needs root")
    if not Path("/bin/busybox").exists():
        pytest.skip("needs /bin/busybox (busybox-static)")
    return _archive(tmp_path_factory.mktemp("image") / "busybox.tar")


@pytest.fixture(scope="session")
def store(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    """One image store for all tests: images are read only, writable layers bear random ids."""
    store = ImageStore(tmp_path_factory.mktemp("store"))
    store.load_archive(archive)
    return store


class Node:
    """An engine with short words for what tests do."""

    def __init__(self, base: Path, store: ImageStore) -> None:
        self.base = base
        self.number = next(_numbers)
        self.name = f"pt{os.getpid()}x{self.number}"
        self.subnet = f"10.{160 + os.getpid() % 40}.{self.number % 256}.0/24"  # no cluster's: these begin at 10.225
        self.store = store
        self.engine = self.make()
        self._sandboxes = itertools.count()
        self._attempts = itertools.count()

    def make(self, **network: Any) -> Engine:
        options = NetworkOptions(**{"bridge": self.name[:15], "table": self.name, "subnets": (self.subnet,), **network})
        return Engine(
            self.base / "root",
            self.base / "state",
            EngineOptions(
                network=options,
                cgroup_prefix=f"/{self.name}",
                oci_runtime=os.environ.get("PINNACE_TEST_OCI_RUNTIME", ""),
                handlers={name: path for name in ("runc", "crun") if (path := shutil.which(name))},
            ),
            images=self.store,
        )

    async def restart(self) -> None:
        """A new engine on the same directories, as after the end of its process."""
        await self.engine.stop()
        self.engine = self.make()
        await self.engine.start()

    def sandbox_config(self, **fields: Any) -> PodSandboxConfig:
        number = next(self._sandboxes)
        linux = fields.pop("linux", None) or LinuxPodSandboxConfig()
        linux.cgroup_parent = linux.cgroup_parent or f"/kubepods/pod{number}"
        return PodSandboxConfig(
            metadata=PodSandboxMetadata(name=f"pod{number}", uid=f"uid{number}", namespace="default"),
            **{"hostname": f"host{number}", "log_directory": str(self.base / "logs"), **fields},
            linux=linux,
        )

    async def sandbox(self, handler: str = "", **fields: Any) -> str:
        return await self.engine.run_pod_sandbox(self.sandbox_config(**fields), handler)

    async def create(self, sandbox: str, *command: str, name: str = "c", image: str = IMAGE, **fields: Any) -> str:
        config = ContainerConfig(
            metadata=ContainerMetadata(name=name, attempt=next(self._attempts)),
            image=ImageSpec(image=image),
            command=list(command),
            **{"log_path": f"{sandbox[:12]}-{name}.log", "linux": LinuxContainerConfig(), **fields},
        )
        record = self.engine.sandboxes.records[sandbox]
        return await self.engine.create_container(sandbox, config, record.config)

    async def start(self, sandbox: str, *command: str, **fields: Any) -> str:
        container = await self.create(sandbox, *command, **fields)
        await self.engine.start_container(container)
        return container

    async def ended(self, container: str) -> ContainerStatus:
        await asyncio.wait_for(self.engine.containers.exit_of(container).wait(), TIMEOUT)
        return await self.engine.container_status(container)

    async def run(self, *command: str, sandbox: str = "", **fields: Any) -> tuple[ContainerStatus, str]:
        """To its end; the status and what it wrote."""
        container = await self.start(sandbox or await self.sandbox(), *command, **fields)
        status = await self.ended(container)
        return status, self.output(status)

    async def sh(self, script: str, **fields: Any) -> str:
        return (await self.run("/bin/sh", "-c", script, **fields))[1]

    def output(self, status: ContainerStatus, stream: str = "") -> str:
        """The log without its prefixes."""
        text = ""
        for line in Path(status.log_path).read_text().splitlines():
            _, which, tag, content = line.split(" ", 3)
            if not stream or which == stream:
                text += content + ("\n" if tag == "F" else "")
        return text

    async def exec(self, container: str, *command: str, timeout: float = 60) -> str:
        return (await self.engine.exec_sync(container, list(command), timeout)).stdout.decode()


async def next_event(events: AsyncIterator[ContainerEvent], kind: ContainerEventType, id_: str) -> ContainerEvent:
    """The next event of a kind about a container."""

    async def find() -> ContainerEvent:
        async for event in events:
            if event.container_event_type == kind and event.container_id == id_:
                return event
        raise AssertionError("the events ended")

    return await asyncio.wait_for(find(), TIMEOUT)


def traces(name: str, base: Path) -> list[str]:
    """What is left of an engine on the machine."""
    found = [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(base) in line]
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    found += [line for line in links.splitlines() if name[:15] in line]
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    found += [line for line in tables.splitlines() if name in line.split()]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{name}")]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(name)]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
            cgroups = (process / "cgroup").read_text()
        except OSError:
            continue
        if str(base / "state") in command or f"/{name}/" in cgroups:
            found.append(f"process {process.name} {command}")
    return found


@pytest.fixture
async def node(tmp_path: Path, store: ImageStore) -> AsyncIterator[Node]:
    node = Node(tmp_path, store)
    await node.engine.start()
    try:
        yield node
    finally:
        await node.engine.destroy()
        left = traces(node.name, tmp_path)
    assert left == []
    assert list((tmp_path / "state" / "containers").iterdir()) == []
    assert list((tmp_path / "state" / "sandboxes").iterdir()) == []


@pytest.fixture(scope="session", autouse=True)
def no_stray_directories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Root file systems that tests wrote are removed, whatever their modes."""
    yield
    shutil.rmtree(tmp_path_factory.getbasetemp() / "store0", ignore_errors=True)
