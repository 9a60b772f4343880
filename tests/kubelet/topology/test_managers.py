"""CPUs of one's own, told by what the runtime is asked to do; and pods that the topology has no place for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from pinnace.kubelet.devices.manager import DeviceManager
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.statistics.node_metrics import kubelet_metrics
from pinnace.kubelet.topology import configured
from pinnace.kubelet.topology.cpu_sets import CpuTopology, parse_cpus
from tests.kubelet.conftest import Start
from tests.kubelet.fake_runtime import FakeRuntime
from tests.kubelet.node_api import NodeApi
from tests.kubelet.topology.test_choices import machine

Obj = dict[str, Any]


@pytest.fixture
def options(options: KubeletOptions, monkeypatch: pytest.MonkeyPatch) -> KubeletOptions:
    options.cpu_manager_policy = "static"
    options.kube_reserved = {"cpu": "1"}
    options.capacity = {"cpu": "16", "memory": "64Gi"}
    monkeypatch.setattr(configured, "read_topology", lambda _path: machine())
    return options


def guaranteed(cpu: str, name: str = "web", image: str = "web:1") -> Obj:
    amounts = {"cpu": cpu, "memory": "1Gi"}
    return {"name": name, "image": image, "resources": {"requests": amounts, "limits": amounts}}


def cpus(runtime: FakeRuntime, name: str) -> str:
    """Where a container's newest instance runs."""
    status = runtime.by_name(name)[-1]
    return status.resources.cpuset_cpus if status.resources else ""


async def test_whole_cpus_are_a_containers_own_and_all_others_share(
    api: NodeApi, runtime: FakeRuntime, start: Start, options: KubeletOptions
) -> None:
    kubelet = start()
    await api.add_pod("shared", containers=[{"name": "job", "image": "job:1"}])
    await api.phase("shared", "Running")
    assert cpus(runtime, "job") == "0-15"
    await api.add_pod("own", containers=[guaranteed("2")])
    await api.phase("own", "Running")
    assert cpus(runtime, "web") == "1,9"  # beside CPU 0, which is reserved, in the fuller socket
    [status] = runtime.by_name("web")
    assert runtime.configs[status.id].linux.resources.cpu_quota == 0
    await runtime.until(lambda: cpus(runtime, "job") == "0,2-8,10-15")
    state = orjson.loads((options.root_dir / "cpu_manager_state").read_bytes())
    assert (state["policyName"], state["defaultCpuSet"]) == ("static", "0,2-8,10-15")
    told = kubelet_metrics(kubelet)
    assert "\nkubelet_cpu_manager_exclusive_cpu_allocation_count 2\n" in told
    assert "\nkubelet_cpu_manager_shared_pool_size_millicores 13000\n" in told  # and one is reserved
    assert sum(int(line.split()[1]) for line in told.splitlines() if "allocation_per_numa{" in line) == 2
    await api.client.delete(_pods(), "own", "default", grace_period_seconds=1)
    await runtime.until(lambda: cpus(runtime, "job") == "0-15")


def _pods() -> Any:
    from pinnace.apis.resources import PODS

    return PODS


async def test_parts_of_cpus_are_of_the_shared_ones(api: NodeApi, runtime: FakeRuntime, start: Start) -> None:
    start()
    await api.add_pod("p", containers=[guaranteed("1500m")])
    await api.phase("p", "Running")
    assert cpus(runtime, "web") == "0-15"


async def test_cpus_of_init_containers_are_had_again(api: NodeApi, runtime: FakeRuntime, start: Start) -> None:
    runtime.exits["job"] = 0
    start()
    await api.add_pod("p", initContainers=[guaranteed("8", "job", "job:1")], containers=[guaranteed("10")])
    await api.phase("p", "Running")
    first = runtime.configs[runtime.by_name("job")[0].id].linux.resources.cpuset_cpus
    assert first == "4-7,12-15"
    assert set(range(4, 8)) <= parse_cpus(cpus(runtime, "web"))


async def test_a_new_kubelet_leaves_everybody_their_cpus(
    api: NodeApi, runtime: FakeRuntime, start: Start, options: KubeletOptions
) -> None:
    first = start()
    await api.add_pod("p", containers=[guaranteed("2")])
    await api.phase("p", "Running")
    first.test_task.cancel()
    await asyncio.wait([first.test_task])
    start()
    await api.add_pod("q", containers=[{**guaranteed("2"), "name": "other"}])
    await api.phase("q", "Running")
    assert (cpus(runtime, "web"), cpus(runtime, "other")) == ("1,9", "2,10")


async def test_half_a_core_is_refused_where_only_whole_ones_are_given(
    api: NodeApi, start: Start, options: KubeletOptions
) -> None:
    options.cpu_manager_policy_options = {"full-pcpus-only": "true"}
    start()
    await api.add_pod("p", containers=[guaranteed("3")])
    status = await api.phase("p", "Failed")
    assert status["reason"] == "SMTAlignmentError"
    assert status["message"] == (
        "Pod was rejected: SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2"
    )


async def test_a_pod_without_a_place_in_one_numa_node_is_refused(
    api: NodeApi, runtime: FakeRuntime, start: Start, options: KubeletOptions
) -> None:
    options.topology_manager_policy = "single-numa-node"
    start()
    for name in ("p", "q"):  # each takes five of the eight CPUs of a node
        await api.add_pod(name, containers=[guaranteed("5")])
        await api.phase(name, "Running")
    assert {machine().cpus[cpu].numa for cpu in parse_cpus(cpus(runtime, "web"))} == {1}
    await api.add_pod("r", containers=[guaranteed("4")])
    status = await api.phase("r", "Failed")
    assert (status["reason"], status["message"]) == (
        "TopologyAffinityError",
        "Pod was rejected: Resources cannot be allocated with Topology locality",
    )


async def test_containers_of_a_pod_stay_together_where_that_is_the_scope(
    api: NodeApi, runtime: FakeRuntime, start: Start, options: KubeletOptions
) -> None:
    options.topology_manager_policy, options.topology_manager_scope = "single-numa-node", "pod"
    start()
    await api.add_pod("p", containers=[guaranteed("4"), guaranteed("4", "job", "job:1")])
    await api.phase("p", "Running")
    assert (cpus(runtime, "web"), cpus(runtime, "job")) == ("4-5,12-13", "6-7,14-15")


async def test_memory_comes_from_one_node(
    api: NodeApi,
    runtime: FakeRuntime,
    start: Start,
    options: KubeletOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for node in (0, 1):
        directory = tmp_path / f"system/node/node{node}"
        directory.mkdir(parents=True)
        (directory / "meminfo").write_text(f"Node {node} MemTotal: {2 << 20} kB\n")
    options.memory_manager_policy, options.topology_manager_policy = "Static", "restricted"
    options.reserved_memory = [{"numaNode": node, "limits": {"memory": "100Mi"}} for node in (0, 1)]
    options.kube_reserved = {"cpu": "1", "memory": "100Mi"}  # beside what evictions keep free
    made = configured.make
    monkeypatch.setattr(configured, "make", lambda options, devices: made(options, devices, tmp_path / "system"))
    start()
    await api.add_pod("p", containers=[guaranteed("8")])
    await api.phase("p", "Running")
    [status] = runtime.by_name("web")
    assert runtime.configs[status.id].linux.resources.cpuset_mems == "1"


def test_what_is_misconfigured_is_refused(options: KubeletOptions, tmp_path: Path) -> None:
    options.root_dir = tmp_path
    devices = DeviceManager(tmp_path / "d", lambda: None)
    (tmp_path / "cpu_manager_state").write_text('{"policyName": "none"}')
    with pytest.raises(ValueError, match='configured policy "static" differs from state checkpoint policy "none"'):
        configured.make(options, devices)
    (tmp_path / "cpu_manager_state").unlink()
    options.cpu_manager_policy_options = {"align-by-socket": "true"}
    with pytest.raises(ValueError, match="Alpha-level Options not enabled"):
        configured.make(options, devices)
    options.feature_gates = {"CPUManagerPolicyAlphaOptions": True}
    options.topology_manager_policy = "single-numa-node"
    with pytest.raises(ValueError, match="policy is incompatible with CPUManager align-by-socket policy option"):
        configured.make(options, devices)
    options.cpu_manager_policy = "fast"
    with pytest.raises(ValueError, match='unknown policy: "fast"'):
        configured.make(options, devices)
    assert isinstance(machine(), CpuTopology)


def numa_machine(system: Path, nodes: int, memory: int = 2 << 20) -> Path:
    """The files of a machine of so many NUMA nodes, of two CPUs and so many kilobytes of memory each."""
    (system / "cpu").mkdir(parents=True)
    (system / "cpu/online").write_text(f"0-{2 * nodes - 1}\n")
    for node in range(nodes):
        directory = system / f"node/node{node}"
        directory.mkdir(parents=True)
        (directory / "cpulist").write_text(f"{2 * node}-{2 * node + 1}\n")
        (directory / "meminfo").write_text(f"Node {node} MemTotal: {memory} kB\n")
        (directory / "distance").write_text(" ".join("10" if one == node else "20" for one in range(nodes)))
    return system


def test_a_machine_of_many_nodes_must_be_allowed(
    options: KubeletOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    options.cpu_manager_policy, options.topology_manager_policy = "none", "restricted"
    system, devices = numa_machine(tmp_path / "system", 9), DeviceManager(tmp_path / "d", lambda: None)
    with pytest.raises(ValueError, match="unsupported on machines with more than 8 NUMA Nodes"):
        configured.make(options, devices, system)
    options.topology_manager_policy_options = {"max-allowable-numa-nodes": "16", "prefer-closest-numa-nodes": "true"}
    managers = configured.make(options, devices, system)
    assert managers.numa_nodes == tuple(range(9))
    assert managers.distances is not None
    assert managers.distances[0, 1] == 20


def test_memory_reserved_by_node_is_what_is_reserved_in_all(
    options: KubeletOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    options.cpu_manager_policy, options.memory_manager_policy = "none", "Static"
    options.root_dir = tmp_path
    options.reserved_memory = [{"numaNode": node, "limits": {"memory": "100Mi"}} for node in (0, 1)]
    options.system_reserved = {"memory": "50Mi"}
    system, devices = numa_machine(tmp_path / "system", 2), DeviceManager(tmp_path / "d", lambda: None)
    with pytest.raises(ValueError) as error:
        configured.make(options, devices, system)
    assert str(error.value) == (
        'the total amount "200Mi" of type "memory" is not equal to the value "150Mi" determined by Node Allocatable '
        "feature"
    )
    options.system_reserved = {"memory": "100Mi"}
    managers = configured.make(options, devices, system)
    assert managers.memory is not None
    assert managers.memory.numa_nodes == (0, 1)
    assert [node.free for node in managers.memory.kinds()["memory"].values()] == [(2048 - 100) << 20] * 2
