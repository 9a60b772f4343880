"""What all pods together may use, and what the daemons beside them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pinnace.cri.api import HugepageLimit, LinuxContainerResources
from pinnace.cri.engine.cgroups import Cgroups
from pinnace.kubelet.node.machine_info import Machine
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.resources import node_cgroups
from pinnace.kubelet.resources.cgroups import limit_together, pod_resources
from pinnace.kubelet.resources.node_cgroups import NodeCgroups, for_pods, limits, problem
from tests.kubelet.fake_cgroups import FakeCgroups
from tests.kubelet.pods import both, pod

GI = 1 << 30
MACHINE = Machine(
    architecture="amd64",
    cpus=4,
    memory=8 * GI,
    disk=100 * GI,
    huge_pages={"hugepages-2Mi": GI},
    kernel_version="",
    os_image="",
    machine_id="",
    system_uuid="",
    boot_id="",
)
RESERVED = {"kube_reserved": {"cpu": "500m", "memory": "1Gi", "pid": "1000"}, "system_reserved": {"cpu": "500m"}}


def options(**settings: Any) -> KubeletOptions:
    return KubeletOptions(
        node_name="n", node_ips=["192.0.2.1"], root_dir=Path("/r"), pod_logs_dir=Path("/l"), **settings
    )


class Told:
    def __init__(self) -> None:
        self.events: list[str] = []
        self.came = asyncio.Event()

    def __call__(self, kind: str, reason: str, message: str) -> None:
        self.events.append(f"{kind} {reason}: {message}")
        self.came.set()


def test_pods_may_use_what_is_not_reserved():
    """Evictions keep some of it free, but the kernel does not take part in that."""
    found = for_pods(options(**RESERVED), MACHINE, 32768)
    assert (found["cpu"], found["memory"], found["pid"]) == (3000, 7 * GI, 31768)
    assert found["hugepages-2Mi"] == GI


def test_pods_may_use_everything_where_that_is_not_enforced():
    found = for_pods(options(**RESERVED, enforce_node_allocatable=["none"]), MACHINE, 32768)
    assert (found["cpu"], found["memory"], found["pid"]) == (4000, 8 * GI, 32768)


def test_named_cpus_are_reserved_in_place_of_as_many_as_are_said():
    assert for_pods(options(**RESERVED, reserved_system_cpus="0,2-3"), MACHINE, 0)["cpu"] == 1000


def test_limits_of_amounts():
    amounts = {"cpu": 2000, "memory": GI, "pid": 10, "hugepages-1Gi": 0, "ephemeral-storage": 5}
    pages = [HugepageLimit(page_size="1GB", limit=0)]
    assert limits(amounts) == LinuxContainerResources(
        cpu_shares=2048, memory_limit_in_bytes=GI, pids_limit=10, hugepage_limits=pages
    )
    assert limits(amounts, compressible=True) == LinuxContainerResources(cpu_shares=2048)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (RESERVED, ""),
        (
            {"kube_reserved": {"memory": "9Gi"}},
            (
                'invalid Node Allocatable configuration. Resource "memory" has a reservation of 9316Mi but capacity '
                "of 8388608Ki. Expected capacity >= reservation."
            ),
        ),
        ({"system_reserved": {"gpu": "1"}}, '--system-reserved value failed to parse: cannot reserve "gpu" resource'),
        (
            {"kube_reserved": {"cpu": "-1"}},
            '--kube-reserved value failed to parse: resource quantity for "cpu" cannot be negative: -1',
        ),
        ({"reserved_system_cpus": "3-4"}, 'invalid cpuset "3-4" specified by --reserved-cpus'),
        ({"reserved_system_cpus": "0-3"}, ""),
    ],
)
def test_what_cannot_be_reserved(settings, why):
    assert problem(options(**settings), MACHINE) == why


async def test_pods_are_limited_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit below what is used is refused by the kernel: it is tried until evictions made it possible."""
    monkeypatch.setattr(node_cgroups, "RETRY", 0.0)
    cgroups, told = FakeCgroups(), Told()
    cgroups.refusal = "device or resource busy"
    task = asyncio.create_task(NodeCgroups(options(cgroup_root="/a"), MACHINE, told).limit_pods(cgroups))
    async with asyncio.timeout(30):
        await told.came.wait()
        cgroups.refusal = ""
        await task
    why = 'Failed to update Node Allocatable Limits ["a" "kubepods"]: device or resource busy'
    assert told.events[0] == f"Warning FailedNodeAllocatableEnforcement: {why}"
    assert told.events[-1] == "Normal NodeAllocatableEnforced: Updated Node Allocatable limit across pods"
    assert cgroups.limits["/a/kubepods"].memory_limit_in_bytes == 8 * GI


def test_daemons_cgroups_are_limited():
    cgroups, told = FakeCgroups("/kube.slice", "/system.slice"), Told()
    settings = {"kube_reserved_cgroup": "/kube.slice", "system_reserved_cgroup": "/system.slice", **RESERVED}
    enforced = ["pods", "kube-reserved", "system-reserved-compressible"]
    NodeCgroups(options(**settings, enforce_node_allocatable=enforced), MACHINE, told).limit_reserved(cgroups)
    kube = cgroups.limits["/kube.slice"]
    assert (kube.cpu_shares, kube.memory_limit_in_bytes, kube.pids_limit) == (512, GI, 1000)
    assert cgroups.limits["/system.slice"] == LinuxContainerResources(cpu_shares=512)
    assert told.events == [
        "Normal NodeAllocatableEnforced: Updated limits on system reserved cgroup /system.slice",
        "Normal NodeAllocatableEnforced: Updated limits on kube reserved cgroup /kube.slice",
    ]


def test_daemons_cgroups_must_be_there():
    node = NodeCgroups(
        options(kube_reserved_cgroup="/a/b", enforce_node_allocatable=["kube-reserved"]), MACHINE, Told()
    )
    with pytest.raises(ValueError) as error:
        node.limit_reserved(FakeCgroups())
    assert str(error.value) == (
        'Failed to enforce Kube Reserved Cgroup Limits on "/a/b": cgroup ["a" "b"] has some missing paths: '
        "/sys/fs/cgroup/a/b"
    )


# A pod's cgroup.


@pytest.mark.parametrize("resources", [{}, both(cpu="1"), both(cpu="1", memory="1Gi")])
def test_a_pod_has_so_many_processes_and_no_huge_pages_but_those_it_asks_for(resources):
    found = pod_resources(pod(resources), 100, ["hugepages-2Mi", "hugepages-1Gi"])
    assert found.pids_limit == 100
    assert {one.page_size: one.limit for one in found.hugepage_limits} == {"2MB": 0, "1GB": 0}
    asked = pod({"requests": {"hugepages-2Mi": "4Mi"}, "limits": {"hugepages-2Mi": "4Mi"}})
    pages = pod_resources(asked, 0, ["hugepages-2Mi", "hugepages-1Gi"]).hugepage_limits
    assert {one.page_size: one.limit for one in pages} == {"2MB": 4 << 20, "1GB": 0}


# Files of cgroups, of either version.


def written(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


WANTED = LinuxContainerResources(
    cpu_shares=3072,
    memory_limit_in_bytes=7 * GI,
    pids_limit=5000,
    hugepage_limits=[HugepageLimit(page_size="2MB", limit=0)],
)


def test_files_of_version_2(tmp_path: Path) -> None:
    """Containers have their own limits of swap space, and where memory runs out, one of them is ended, not all."""
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory pids hugetlb\n")
    pods = tmp_path / "kubepods"
    pods.mkdir()
    for name in ("hugetlb.2MB.max", "memory.swap.max"):
        (pods / name).touch()
    limit_together(Cgroups(mount=str(tmp_path)), "/kubepods", WANTED)
    files = written(pods)
    assert {name: files[name] for name in ("memory.max", "pids.max", "cpu.weight", "hugetlb.2MB.max")} == {
        "memory.max": str(7 * GI),
        "pids.max": "5000",
        "cpu.weight": "118",
        "hugetlb.2MB.max": "0",
    }
    assert (files["memory.swap.max"], files["memory.oom.group"]) == ("max", "0")


def test_files_of_version_1(tmp_path: Path) -> None:
    for name in ("cpu", "memory", "pids", "hugetlb"):
        (tmp_path / name / "kubepods").mkdir(parents=True)
    memory = tmp_path / "memory/kubepods"
    (memory / "memory.limit_in_bytes").write_text("9223372036854771712")
    (memory / "memory.memsw.limit_in_bytes").write_text("9223372036854771712")
    (tmp_path / "hugetlb/kubepods/hugetlb.2MB.limit_in_bytes").touch()
    cgroups = Cgroups(mount=str(tmp_path))
    limit_together(cgroups, "/kubepods", replace(WANTED))
    assert written(tmp_path) == {
        "cpu/kubepods/cpu.shares": "3072",
        "memory/kubepods/memory.limit_in_bytes": str(7 * GI),
        "memory/kubepods/memory.memsw.limit_in_bytes": "-1",
        "pids/kubepods/pids.max": "5000",
        "hugetlb/kubepods/hugetlb.2MB.limit_in_bytes": "0",
    }
    assert cgroups.missing("/kubepods") == []
    assert cgroups.missing("/other") == [f"{tmp_path}/{name}/other" for name in ("cpu", "memory", "pids", "hugetlb")]
