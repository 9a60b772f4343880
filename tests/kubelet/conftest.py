"""A kubelet on a fake runtime and a fake API server, with its directories in a temporary place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from pinnace.kubelet.kubelet import Kubelet
from pinnace.kubelet.options import KubeletOptions
from pinnace.wire.tasks import end_tasks
from tests.kubelet.fake_runtime import FakeRuntime
from tests.kubelet.node_api import NodeApi


@pytest.fixture
def options(tmp_path: Path) -> KubeletOptions:
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\nsearch example.org\n")
    return KubeletOptions(
        node_name="n1",
        node_ips=["192.0.2.7"],
        root_dir=tmp_path / "kubelet",
        pod_logs_dir=tmp_path / "logs",
        resolv_conf=tmp_path / "resolv.conf",
        cluster_dns=["10.96.0.10"],
    )


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime("web:1", "job:1")


@pytest.fixture
def api() -> NodeApi:
    return NodeApi()


Start = Callable[..., Any]


@pytest.fixture
async def start(api: NodeApi, runtime: FakeRuntime, options: KubeletOptions) -> AsyncIterator[Start]:
    """Starts a kubelet that is stopped at the end of the test; called again, another one on the same node."""
    tasks: list[asyncio.Task[None]] = []

    def begin() -> Kubelet:
        kubelet = Kubelet(api.client, runtime, runtime, options)
        task = asyncio.create_task(kubelet.run())
        tasks.append(task)
        kubelet.test_task = task  # type: ignore[attr-defined]
        return kubelet

    yield begin
    await end_tasks(tasks)
