"""`pinnace engine` as a process: others use its socket, and containers outlive it."""

from __future__ import annotations

import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnace.cli.container_runtime import make_engine
from pinnace.cri.api import (
    ContainerConfig,
    ContainerMetadata,
    ContainerState,
    ImageSpec,
    PodSandboxConfig,
    PodSandboxMetadata,
)
from pinnace.cri.remote import RemoteRuntimeService
from pinnace.cri.v1.messages import message_class
from tests.support.images import busybox_archive
from tests.support.site import LIMIT, Site, open_site

pytestmark = pytest.mark.root

IMAGE = "docker.io/library/busybox:served"


@pytest.fixture
def site() -> Iterator[Site]:
    with open_site() as made:
        made.engine_dir.mkdir()
        make_engine(made.engine_dir).images.load_archive(busybox_archive(made.directory / "image.tar", IMAGE))
        yield made


def start(site: Site) -> RemoteRuntimeService:
    socket = site.directory / "engine.sock"
    site.start("engine", f"--listen=unix://{socket}", f"--root={site.engine_dir}", "--pod-cidr=10.119.3.0/24")
    return RemoteRuntimeService(f"unix://{socket}")


async def test_containers_outlive_the_engine_and_are_there_when_it_is_back(site: Site) -> None:
    runtime = start(site)
    config = PodSandboxConfig(
        metadata=PodSandboxMetadata(name="p", uid="u", namespace="default"),
        hostname="p",
        log_directory=str(site.directory),
    )
    sandbox = await runtime.run_pod_sandbox(config)
    asked = ContainerConfig(
        metadata=ContainerMetadata(name="c"), image=ImageSpec(image=IMAGE), command=["sleep", "1000"], log_path="c.log"
    )
    container = await runtime.create_container(sandbox, asked, config)
    await runtime.start_container(container)
    request = message_class("ContainerStatusRequest")(container_id=container, verbose=True)
    before = (await runtime._send("ContainerStatus", request, LIMIT)).info["info"]

    site.processes[-1].send_signal(signal.SIGKILL)
    site.processes[-1].wait()
    await runtime.close()
    again = start(site)

    assert (await again.container_status(container)).state is ContainerState.RUNNING
    assert (await again._send("ContainerStatus", request, LIMIT)).info["info"] == before
    assert (await again.pod_sandbox_status(sandbox)).ips[0].startswith("10.119.3.")
    assert stat.S_IMODE(Path(site.directory / "engine.sock").stat().st_mode) == 0o600
    await again.remove_pod_sandbox(sandbox)
    await again.close()
