"""What the manager does about what it sees, and a kubelet whose node is short of something."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pinnace.apis.resources import EVENTS, NODES
from pinnace.kubelet.eviction.manager import Eviction, EvictionManager
from pinnace.kubelet.eviction.observations import file_system, memory, processes, read_disks, read_machine
from pinnace.kubelet.eviction.ranking import ContainerUsage, Disk, PodUsage
from pinnace.kubelet.eviction.thresholds import (
    Amount,
    Observation,
    Observations,
    Pressure,
    Signal,
    Threshold,
    parse_thresholds,
)
from pinnace.machinery.meta import Obj, name_of

MI = 1024 * 1024
WEB = {"name": "web", "image": "web:1"}


class Around:
    """A node whose figures a test sets."""

    def __init__(self, *pods: Obj) -> None:
        self.free = {Signal.MEMORY_AVAILABLE: 1000 * MI, Signal.NODEFS_AVAILABLE: 1000 * MI}
        self.pods = list(pods)
        self.used: dict[str, PodUsage] = {}
        self.reclaimable = 0
        self.did: list[str] = []
        self.evictions: list[Eviction] = []

    async def observe(self) -> Observations:
        return {signal: Observation(free, 2000 * MI) for signal, free in self.free.items()}

    def dedicated_image_fs(self) -> bool:
        return False

    def active_pods(self) -> list[Obj]:
        return self.pods

    async def usages(self, pods: list[Obj]) -> Mapping[str, PodUsage]:
        return self.used

    async def evict(self, pod: Obj, eviction: Eviction) -> None:
        self.did.append(f"evict {name_of(pod)}")
        self.evictions.append(eviction)
        self.pods.remove(pod)

    async def reclaim(self, signal: Signal) -> bool:
        if signal.condition != "DiskPressure":
            return False
        self.did.append("reclaim")
        self.free[signal] += self.reclaimable
        return True

    def threshold_met(self, resource: str) -> None:
        self.did.append(f"short of {resource}")

    def conditions_changed(self) -> None:
        self.did.append("conditions")


def pod(name: str, **spec: object) -> Obj:
    metadata = {"name": name, "namespace": "default", "uid": name}
    return {"metadata": metadata, "spec": {"containers": [{"name": "c"}], **spec}}


def manager(around: Around, *thresholds: Threshold) -> EvictionManager:
    return EvictionManager(around, Pressure(thresholds, 0), max_pod_grace_period=20, clock=lambda: 0.0)


MEMORY = Threshold(Signal.MEMORY_AVAILABLE, Amount(100 * MI))
DISK = Threshold(Signal.NODEFS_AVAILABLE, Amount(100 * MI))


async def test_nothing_is_short():
    around = Around(pod("p"))
    assert await manager(around, MEMORY, DISK).synchronize() == []
    assert around.did == []


async def test_one_pod_goes_at_a_time():
    around = Around(pod("a"), pod("b"))
    around.used = {"a": PodUsage(), "b": PodUsage(containers=[ContainerUsage(name="c", memory=MI)])}
    around.free[Signal.MEMORY_AVAILABLE] = 99 * MI
    await manager(around, MEMORY).synchronize()
    assert around.did == ["conditions", "short of memory", "evict b"]
    assert around.evictions[0].grace == 1
    assert around.evictions[0].message == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 99Mi. "
        "Container c was using 1Mi, request is 0, has larger consumption of memory. "
    )


async def test_what_nobody_uses_goes_before_pods():
    around = Around(pod("a"))
    around.free[Signal.NODEFS_AVAILABLE], around.reclaimable = 50 * MI, 60 * MI
    assert await manager(around, DISK).synchronize() == []
    assert around.did == ["conditions", "short of ephemeral-storage", "reclaim"]
    around.free[Signal.NODEFS_AVAILABLE], around.reclaimable = 30 * MI, 60 * MI
    await manager(around, DISK).synchronize()
    assert around.did[-2:] == ["reclaim", "evict a"]


@pytest.mark.parametrize(("own", "grace"), [(30, 20), (5, 5), (None, 20)])
async def test_a_soft_threshold_leaves_time(own, grace):
    around = Around(pod("a", **({} if own is None else {"terminationGracePeriodSeconds": own})))
    around.free[Signal.MEMORY_AVAILABLE] = 0
    await manager(around, Threshold(Signal.MEMORY_AVAILABLE, Amount(MI), soft=True)).synchronize()
    assert around.evictions[0].grace == grace


async def test_critical_pods_stay():
    around = Around(pod("critical", priority=2_000_001_000))
    around.free[Signal.MEMORY_AVAILABLE] = 0
    assert await manager(around, MEMORY).synchronize() == []
    assert around.did == ["conditions", "short of memory"]


async def test_every_pod_that_wrote_too_much_goes_though_nothing_is_short():
    limited = [pod(name, volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]) for name in "ab"]
    around = Around(*limited, pod("c"))
    around.used = {name: PodUsage(volumes={"v": Disk(2 * MI, 1)}) for name in "ab"}
    await manager(around, MEMORY).synchronize()
    assert around.did == ["evict a", "evict b"]


BEST_EFFORT = pod("p")
BURSTABLE = pod("p", containers=[{"name": "c", "resources": {"requests": {"memory": "1Mi"}}}])
TOLERANT = pod("p", tolerations=[{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}])
ANYTHING = pod("p", tolerations=[{"operator": "Exists"}])
OTHER = pod("p", tolerations=[{"key": "node.kubernetes.io/disk-pressure", "operator": "Exists"}])
CRITICAL = pod("p", priority=2_000_000_000)


@pytest.mark.parametrize(
    ("short", "one", "taken"),
    [
        ((), BEST_EFFORT, True),
        ((MEMORY,), BEST_EFFORT, False),
        ((MEMORY,), BURSTABLE, True),
        ((MEMORY,), TOLERANT, True),
        ((MEMORY,), ANYTHING, True),
        ((MEMORY,), OTHER, False),
        ((MEMORY, DISK), BURSTABLE, False),
        ((DISK,), BURSTABLE, False),
        ((DISK,), OTHER, False),
        ((DISK,), CRITICAL, True),
    ],
)
async def test_new_pods_under_pressure(short, one, taken):
    around = Around()
    for threshold in short:
        around.free[threshold.signal] = 0
    keeper = manager(around, *short)
    await keeper.synchronize()
    refusal = keeper.admit(one)
    assert (refusal is None) is taken
    if refusal is not None:
        conditions = " ".join(sorted(threshold.signal.condition for threshold in short))
        assert refusal.reason == "Evicted"
        assert refusal.message == f"Pod was rejected: The node had condition: [{conditions}]. "


# The machine.


def test_figures_of_the_machine():
    assert memory("MemTotal: 1000 kB\nMemFree: 300 kB\nInactive(file): 200 kB\n") == (500 * 1024, 1000 * 1024)
    assert processes("0.1 0.2 0.3 2/250 999", "32768\n", "1000\n") == (750, 1000)
    found = read_machine()
    assert 0 < found[Signal.MEMORY_AVAILABLE].available <= found[Signal.MEMORY_AVAILABLE].capacity


def test_figures_of_file_systems(tmp_path):
    found = read_disks(tmp_path, tmp_path)
    assert found[Signal.NODEFS_AVAILABLE].capacity == file_system(tmp_path).capacity > 0
    assert Signal.CONTAINERFS_AVAILABLE not in found
    assert Signal.CONTAINERFS_AVAILABLE in read_disks(tmp_path, tmp_path, tmp_path)


# A kubelet.


def lacks_memory(kubelet):
    """From now on the node never has memory enough: no kubelet starts with such a threshold."""
    thresholds = parse_thresholds({"memory.available": "900Ti"}, {}, {}, {}, enforce_pods=False)
    kubelet.eviction._pressure.thresholds = thresholds


async def test_a_pod_is_evicted_and_says_why(api, runtime, start):
    """The pod runs when the pressure begins."""
    kubelet = start()
    await api.add_pod("p", containers=[WEB], terminationGracePeriodSeconds=600)
    await api.phase("p", "Running")
    lacks_memory(kubelet)
    await kubelet.eviction.synchronize()
    status = await api.phase("p", "Failed")
    assert status["reason"] == "Evicted"
    assert status["message"].startswith("The node was low on resource: memory. Threshold quantity: 900Ti, available: ")
    condition = next(one for one in status["conditions"] if one["type"] == "DisruptionTarget")
    assert (condition["status"], condition["reason"]) == ("True", "TerminationByKubelet")
    assert condition["message"] == status["message"]
    assert "stop_container web 1" in runtime.calls
    await api.hears("Evicted: The node was low on resource: memory. ")
    await api.hears("EvictionThresholdMet: Attempting to reclaim memory")
    await api.hears("NodeHasInsufficientMemory: Node n1 status is now: NodeHasInsufficientMemory")
    told = next(one for one in api.all(EVENTS) if one["reason"] == "Evicted")
    assert told["metadata"]["annotations"]["starved_resource"] == "memory"
    conditions = {one["type"]: one for one in api.find(NODES, "n1")["status"]["conditions"]}
    assert conditions["MemoryPressure"]["status"] == "True"
    assert conditions["MemoryPressure"]["message"] == "kubelet has insufficient memory available"
    assert conditions["DiskPressure"]["status"] == "False"


async def test_a_new_pod_is_refused_by_a_node_under_pressure(api, start):
    kubelet = start()
    lacks_memory(kubelet)
    await api.hears("NodeHasInsufficientMemory")
    await api.add_pod("p", containers=[WEB])
    status = await api.phase("p", "Failed")
    assert (status["reason"], status["message"]) == (
        "Evicted",
        "Pod was rejected: The node had condition: [MemoryPressure]. ",
    )
    await api.hears("Evicted: The node had condition: [MemoryPressure]. ")
    assert kubelet.eviction.conditions == ("MemoryPressure",)


async def test_a_volume_beyond_its_limit_ends_its_pod(api, runtime, options, start):
    kubelet = start()
    volumes = [{"name": "cache", "emptyDir": {"sizeLimit": "1Mi"}}]
    mounts = [{"name": "cache", "mountPath": "/cache"}]
    await api.add_pod("p", containers=[{**WEB, "volumeMounts": mounts}], volumes=volumes)
    await api.phase("p", "Running")
    (directory,) = options.pods_dir.glob("*/volumes/kubernetes.io~empty-dir/cache")
    (directory / "file").write_bytes(b"x" * (2 * MI))
    await kubelet.eviction.synchronize()
    status = await api.phase("p", "Failed")
    assert status["reason"] == "Evicted"
    assert status["message"] == 'Usage of EmptyDir volume "cache" exceeds the limit "1Mi". '
