"""What cgroups count of pods and containers, in the names of cAdvisor."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from pinnace.cri.api import (
    ContainerMetadata,
    ContainerStats,
    NetworkInterfaceUsage,
    PodSandboxMetadata,
    PodSandboxStats,
)
from pinnace.cri.engine.metrics import Files
from pinnace.kubelet.statistics.cadvisor import container_families
from tests.kubelet.pods import pod

CPU = {"nr_periods": 10, "nr_throttled": 5, "throttled_usec": 1_500_000, "user_usec": 250_000, "system_usec": 0}
COUNTED: Files = {
    "cpu.stat": CPU,
    "memory.stat": {"file": 4096, "pgmajfault": 3},
    "memory.events": {"oom_kill": 1},
    "memory.swap.current": {"": 0},
}


def contained(name: str) -> ContainerStats:
    return ContainerStats(id=f"id-{name}", metadata=ContainerMetadata(name=name), labels={}, timestamp=1)


def read(*interfaces: NetworkInterfaceUsage) -> dict[tuple[str, str], tuple[dict[str, str], float]]:
    """Samples by name and container, of a pod that has one container with a limit of CPU time and one without."""
    wanted = pod()
    limited = {"name": "limited", "image": "i", "resources": {"limits": {"cpu": "1"}}}
    wanted["spec"]["containers"] = [limited, {"name": "free", "image": "i"}]
    uid, name = wanted["metadata"]["uid"], wanted["metadata"]["name"]
    metadata = PodSandboxMetadata(name=name, uid=uid, namespace="d")
    stats = PodSandboxStats(id="s", metadata=metadata, labels={}, timestamp=1)
    stats.containers, stats.interfaces = [contained("limited"), contained("free")], list(interfaces)
    texts = container_families([stats], {uid: wanted}, {}, {}, lambda _: COUNTED)
    families = text_string_to_metric_families("".join(texts))
    return {
        (sample.name, sample.labels.get("container", "")): (sample.labels, sample.value)
        for family in families
        for sample in family.samples
    }


def test_what_cgroups_count_is_told_of_pods_and_containers() -> None:
    found = read()
    labels, user = found["container_cpu_user_seconds_total", "free"]
    assert (labels["id"].rpartition("/")[2], labels["image"], user) == ("id-free", "i", 0.25)
    assert found["container_memory_cache", ""][1] == 4096
    assert found["container_memory_swap", "free"][1] == 0
    assert found["container_oom_events_total", "limited"][1] == 1
    failures, value = found["container_memory_failures_total", "limited"]
    assert (failures["failure_type"], failures["scope"], value) == ("pgmajfault", "container", 3)


def test_who_has_no_limit_of_cpu_time_is_not_throttled() -> None:
    found = read()
    assert found["container_cpu_cfs_periods_total", "limited"][1] == 10
    assert found["container_cpu_cfs_throttled_seconds_total", "limited"][1] == 1.5
    assert ("container_cpu_cfs_periods_total", "free") not in found


def test_packets_are_told_where_the_runtime_counts_them() -> None:
    bytes_only = NetworkInterfaceUsage(name="eth0", rx_bytes=7)
    assert ("container_network_receive_packets_total", "") not in read(bytes_only)
    found = read(NetworkInterfaceUsage(name="eth0", rx_bytes=7, rx_packets=2, tx_dropped=1))
    assert found["container_network_receive_packets_total", ""][1] == 2
    assert found["container_network_transmit_packets_dropped_total", ""][1] == 1
