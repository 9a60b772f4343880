"""What a kubelet counts: names, and what it costs to count."""

from __future__ import annotations

import asyncio

import pytest

from pinnace.cri.api import CriError
from pinnace.kubelet.statistics import measures
from pinnace.kubelet.statistics.node_metrics import resource_text
from pinnace.kubelet.sync.lifecycle import run_hook
from tests.kubelet.fake_cgroups import FakeCgroups
from tests.kubelet.fake_runtime import FakeRuntime


@pytest.mark.parametrize(
    ("size", "name"),
    [(0, "0-10MB"), (10 << 20, "0-10MB"), (600 << 20, "500MB-1GB"), (1 << 40, "GT100GB")],
)
def test_sizes_of_images(size, name):
    assert measures.image_size(size) == name


def test_every_family_has_its_own_name():
    names = [one.name for one in measures.families()]
    assert len(names) == len(set(names))
    assert all(name.startswith("kubelet_") for name in names)


async def test_calls_of_the_runtime_are_counted_by_kubernetes_names() -> None:
    runtime = FakeRuntime()
    counted = measures.measured_runtime(runtime)
    before = dict(measures.runtime_operations.values), dict(measures.runtime_errors.values)
    await counted.list_pod_sandbox()
    runtime.fail["stop_pod_sandbox"] = CriError("UNKNOWN", "no")
    with pytest.raises(CriError):
        await counted.stop_pod_sandbox("x")

    def grown(which: int, name: str) -> float:
        after = (measures.runtime_operations, measures.runtime_errors)[which].values
        return after.get((name,), 0) - before[which].get((name,), 0)

    assert (grown(0, "list_podsandbox"), grown(0, "stop_podsandbox"), grown(1, "stop_podsandbox")) == (1, 1, 1)
    assert counted.calls is runtime.calls  # what is no call is as it was


def test_changes_of_cgroups_are_timed():
    before = sum(sum(one[1:]) for one in measures.cgroup_seconds.values.values())
    cgroups = measures.measured_cgroups(FakeCgroups())
    cgroups.create("/a")
    assert cgroups.missing("/a") == []
    assert sum(sum(one[1:]) for one in measures.cgroup_seconds.values.values()) == before + 1


def test_what_could_not_be_read_is_told():
    text = resource_text([], 1_000_000_000, 5, swap=7, failed=True)
    assert "\nresource_scrape_error 1\n" in text
    assert "node_swap_usage_bytes 7 " in text
    assert "node_swap_usage_bytes" not in resource_text([], 0, 0)


async def test_a_hook_that_sleeps_and_is_cut_short_is_counted() -> None:
    before = measures.sleeps_cut_short.values[()]
    hook = asyncio.create_task(run_hook({"sleep": {"seconds": 3600}}, {"name": "c"}, "id", "", FakeRuntime()))
    await asyncio.sleep(0)

    hook.cancel()
    await asyncio.wait([hook])

    assert measures.sleeps_cut_short.values[()] == before + 1
