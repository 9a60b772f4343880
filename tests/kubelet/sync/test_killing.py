"""Containers of a pod are stopped together, and all of them before the next attempt to stop them."""

from __future__ import annotations

import asyncio

import pytest

from pinnace.cri.api import ContainerState, CriError
from pinnace.kubelet.sync.killing import kill_pod
from tests.kubelet.conftest import Start
from tests.kubelet.fake_runtime import FakeRuntime
from tests.kubelet.node_api import NodeApi


class Stubborn(FakeRuntime):
    """A runtime that refuses to stop one container, and takes a moment for the others."""

    async def stop_container(self, container_id: str, timeout: int) -> None:
        if self.containers[container_id].metadata.name == "stubborn":
            raise CriError("UNKNOWN", "no")
        await asyncio.to_thread(lambda: None)
        await super().stop_container(container_id, timeout)


@pytest.fixture
def runtime() -> Stubborn:
    return Stubborn("web:1")


async def test_a_container_that_cannot_be_stopped_is_told_of_when_all_others_have_been(
    api: NodeApi, start: Start, runtime: Stubborn
) -> None:
    kubelet = start()
    names = ("stubborn", "slow")
    await api.add_pod("p", containers=[{"name": name, "image": "web:1"} for name in names])
    await api.phase("p", "Running")
    (worker,) = kubelet.workers.values()
    slow = runtime.by_name("slow")[0]

    with pytest.raises(CriError, match="no"):
        await kill_pod(kubelet.node, worker.pod, 30)

    assert runtime.containers[slow.id].state is ContainerState.EXITED
