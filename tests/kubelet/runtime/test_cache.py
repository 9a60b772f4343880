"""The kubelet's picture of its runtime stays true while it is drawn anew."""

from __future__ import annotations

from pinnace.cri.api import (
    Container,
    ContainerConfig,
    ContainerMetadata,
    ImageSpec,
    PodSandboxConfig,
    PodSandboxMetadata,
)
from pinnace.kubelet.pods import LABEL_POD_UID
from pinnace.kubelet.runtime.status import RuntimeCache
from tests.kubelet.fake_runtime import FakeRuntime

POD = PodSandboxConfig(metadata=PodSandboxMetadata(name="web", uid="u-1", namespace="shop"))


async def add_container(runtime: FakeRuntime, cache: RuntimeCache, box: str, name: str) -> str:
    config = ContainerConfig(
        metadata=ContainerMetadata(name=name), image=ImageSpec(image="i"), labels={LABEL_POD_UID: "u-1"}
    )
    made = await runtime.create_container(box, config, POD)
    await runtime.start_container(made)
    await cache.refresh_container(made, box)
    return made


async def test_what_starts_while_everything_is_listed_is_not_forgotten() -> None:
    class Slow(FakeRuntime):
        """Something starts after the list was made, before its maker has it."""

        starts = False

        async def list_containers(self) -> list[Container]:
            found = await super().list_containers()
            if self.starts:
                self.late = await add_container(self, cache, box, "late")
            return found

    runtime = Slow("i")
    cache = RuntimeCache(runtime)
    box = await runtime.run_pod_sandbox(POD)
    await cache.refresh_sandbox(box)
    early = await add_container(runtime, cache, box, "early")
    runtime.starts = True

    await cache.relist()

    assert {one.id for one in cache.get("u-1").running()} == {early, runtime.late}


async def test_what_is_gone_when_everything_is_listed_is_forgotten() -> None:
    runtime = FakeRuntime("i")
    cache = RuntimeCache(runtime)
    box = await runtime.run_pod_sandbox(POD)
    await cache.refresh_sandbox(box)
    early = await add_container(runtime, cache, box, "early")
    del runtime.containers[early]

    assert await cache.relist() == {"u-1"}
    assert cache.get("u-1").running() == []
