"""What a sandbox uses: its pod's cgroup, and the counters of the interfaces in its network namespace.

A pod without a cgroup of its own, as tools make them, uses what its containers use. Reads /proc and the cgroup file
systems; call it in a thread. The network of pods on the host's network is the host's own, so nothing is said of it.
"""

from __future__ import annotations

import time
from pathlib import Path

from pinnace.cri.api import ContainerStats, NetworkInterfaceUsage, PodSandboxStats
from pinnace.cri.engine.cgroups import Cgroups, Usage
from pinnace.cri.engine.network import in_namespace
from pinnace.cri.engine.records import SandboxRecord
from pinnace.cri.engine.sandboxes import Sandboxes

_DEFAULT = "eth0"


def read(
    record: SandboxRecord, sandboxes: Sandboxes, cgroups: Cgroups, containers: list[ContainerStats]
) -> PodSandboxStats:
    """The usage of one sandbox, whose running containers use `containers`."""
    config = record.config
    usage = cgroups.usage(config.linux.cgroup_parent) if config.linux.cgroup_parent else _sum(containers)
    return PodSandboxStats(
        id=record.id,
        metadata=config.metadata,
        labels=config.labels,
        timestamp=time.time_ns(),
        cpu_usage_core_nano_seconds=usage.cpu_nanoseconds,
        memory_working_set_bytes=usage.memory_working_set,
        memory_usage_bytes=usage.memory_usage,
        memory_rss_bytes=usage.memory_rss,
        process_count=sum(one.process_count for one in containers),
        interfaces=_interfaces(sandboxes.network_namespace(record)) if "network" in record.namespaces else [],
        containers=containers,
    )


def _sum(containers: list[ContainerStats]) -> Usage:
    return Usage(
        cpu_nanoseconds=sum(one.cpu_usage_core_nano_seconds for one in containers),
        memory_usage=sum(one.memory_usage_bytes for one in containers),
        memory_working_set=sum(one.memory_working_set_bytes for one in containers),
        memory_rss=sum(one.memory_rss_bytes for one in containers),
        pids=sum(one.process_count for one in containers),
    )


def _interfaces(namespace: str) -> list[NetworkInterfaceUsage]:
    try:
        return interfaces(in_namespace(namespace, Path("/proc/thread-self/net/dev").read_text))
    except OSError:
        return []  # it is being taken down


def interfaces(table: str) -> list[NetworkInterfaceUsage]:
    """The interfaces of a /proc/net/dev but the loopback, the pod's own first."""
    found = []
    for line in table.splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = [int(word) for word in rest.split()]
        if name.strip() != "lo":
            found.append(
                NetworkInterfaceUsage(
                    name=name.strip(),
                    rx_bytes=numbers[0],
                    rx_packets=numbers[1],
                    rx_errors=numbers[2],
                    rx_dropped=numbers[3],
                    tx_bytes=numbers[8],
                    tx_packets=numbers[9],
                    tx_errors=numbers[10],
                    tx_dropped=numbers[11],
                )
            )
    return sorted(found, key=lambda one: one.name != _DEFAULT)
