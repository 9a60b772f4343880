"""Probes as they go on: results in a row, and what cannot be carried out."""

from __future__ import annotations

import asyncio
from typing import Any

from pinnace.cri.api import ContainerMetadata, ContainerState, ContainerStatus, ImageSpec
from pinnace.kubelet.probes.manager import Probes, Tally
from tests.kubelet.fake_runtime import FakeRuntime


def test_tally_counts_results_in_a_row():
    tally = Tally({"failureThreshold": 3, "successThreshold": 2})
    assert [tally.add(ok) for ok in (False, False, True, False, False, False, True, True)] == [
        None, None, None, None, None, False, None, True,
    ]  # fmt: skip


async def test_a_probe_goes_on_whatever_goes_wrong_with_it():
    runtime, changed = FakeRuntime(), asyncio.Event()
    told: list[tuple[str, str, str]] = []
    runtime.fail["exec_sync"] = OSError("no such thing")

    def tell(_pod: Any, _path: str, kind: str, reason: str, message: str) -> None:
        told.append((kind, reason, message))
        runtime.fail.pop("exec_sync", None)

    probe = {"exec": {"command": ["x"]}, "periodSeconds": 0}
    container = {"name": "c", "readinessProbe": probe}
    pod = {"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": {"containers": [container]}}
    status = ContainerStatus(
        id="c1",
        metadata=ContainerMetadata(name="c"),
        state=ContainerState.RUNNING,
        created_at=1,
        image=ImageSpec(image="i"),
        image_ref="i",
    )
    probes = Probes(runtime, tell, lambda _uid: changed.set())
    probes.ensure(pod, container, status, "127.0.0.1")
    try:
        async with asyncio.timeout(60):
            await changed.wait()
    finally:
        await probes.close()

    words = "Readiness probe errored and resulted in unknown state: no such thing"
    assert told == [("Warning", "Unhealthy", words)]
    assert probes.health["c1"].ready
