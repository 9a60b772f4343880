"""What a runtime does not tell of its containers' use is read from their cgroups."""

from __future__ import annotations

import json
import os

import pytest

from pinnace.cri.api import ContainerMetadata, ContainerStats
from pinnace.cri.container_usage import ContainerUsage

pytestmark = pytest.mark.root


def stats(name: str, timestamp: int = 0) -> ContainerStats:
    return ContainerStats(id=name, metadata=ContainerMetadata(name=name), labels={}, timestamp=timestamp)


async def test_figures_that_are_missing_are_read_and_containers_that_ended_left_out() -> None:
    asked = []

    async def info(identity: str) -> str:
        asked.append(identity)
        return {"running": json.dumps({"pid": os.getpid()}), "ended": json.dumps({"pid": 0})}.get(identity, "")

    found = await ContainerUsage(info).complete(
        [stats("told", timestamp=7), stats("ended"), stats("running"), stats("unknown")]
    )

    assert [one.id for one in found] == ["told", "running"]
    assert asked == ["ended", "running", "unknown"]
    assert found[0].timestamp == 7
    assert found[1].timestamp > 0
