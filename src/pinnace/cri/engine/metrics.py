"""Metrics of containers by CRI's ListMetricDescriptors and ListPodSandboxMetrics, named as cAdvisor names them.

Pure: from the files of a container's cgroup, read as tables, to values. Those of the kernel's two versions of cgroups
become one (cgroup-v1 and cgroup-v2 documents); KEP-2371 says which metrics kubelets want of a runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pinnace.cri.engine.records import ContainerRecord, SandboxRecord

Files = Mapping[str, Mapping[str, int]]
"""Numbers by file and name; a file that is one number has it under ""."""

LABELS = ("container", "pod", "namespace", "id")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a metric is; `label_keys` are those of its values, in order."""

    name: str
    help: str
    label_keys: tuple[str, ...] = LABELS


@dataclass(frozen=True, slots=True)
class Metric:
    """A value now."""

    name: str
    value: int
    label_values: tuple[str, ...]
    counter: bool


class Value(NamedTuple):
    """What a cgroup's files say; `more` are labels beyond those of the container."""

    name: str
    help: str
    counter: bool
    more: Mapping[str, str]
    value: float


_Read = Callable[[Files], float | None]


@dataclass(frozen=True, slots=True)
class _Kind:
    descriptor: Descriptor
    counter: bool
    read: _Read
    more: Mapping[str, str]  # labels beyond LABELS


def _first(*places: tuple[str, str], over: int = 1) -> _Read:
    """The number at the first place that has one, divided."""

    def read(files: Files) -> float | None:
        for file, name in places:
            if name in files.get(file, {}):
                return files[file][name] / over
        return None

    return read


def _seconds(version_1: tuple[str, str], version_2: str, unit: int) -> _Read:
    """Nanoseconds or ticks of version 1, microseconds of version 2."""

    def read(files: Files) -> float | None:
        found = _first(("cpu.stat", version_2), over=1_000_000)(files)
        return found if found is not None else _first(version_1, over=unit)(files)

    return read


def _working_set(files: Files) -> float | None:
    used = _first(("memory.current", ""), ("memory.usage_in_bytes", ""))(files)
    if used is None:
        return None
    inactive = _first(("memory.stat", "total_inactive_file"), ("memory.stat", "inactive_file"))(files) or 0
    return max(0.0, used - inactive)


def _kind(name: str, counter: bool, text: str, read: _Read, **more: str) -> _Kind:
    return _Kind(Descriptor(name, text, (*LABELS, *more)), counter, read, more)


_TICKS = 100  # a second; USER_HZ of every architecture
_KINDS = (
    _kind(
        "container_cpu_usage_seconds_total",
        True,
        "CPU time used, in seconds.",
        _seconds(("cpuacct.usage", ""), "usage_usec", 1_000_000_000),
    ),
    _kind(
        "container_cpu_user_seconds_total",
        True,
        "CPU time used in user mode, in seconds.",
        _seconds(("cpuacct.stat", "user"), "user_usec", _TICKS),
    ),
    _kind(
        "container_cpu_system_seconds_total",
        True,
        "CPU time used in the kernel, in seconds.",
        _seconds(("cpuacct.stat", "system"), "system_usec", _TICKS),
    ),
    _kind(
        "container_cpu_cfs_periods_total",
        True,
        "Periods in which the CPU limit was enforced.",
        _first(("cpu.stat", "nr_periods")),
    ),
    _kind(
        "container_cpu_cfs_throttled_periods_total",
        True,
        "Periods in which the container was throttled.",
        _first(("cpu.stat", "nr_throttled")),
    ),
    _kind(
        "container_cpu_cfs_throttled_seconds_total",
        True,
        "Time for which the container was throttled, in seconds.",
        _seconds(("cpu.stat", "throttled_time"), "throttled_usec", 1_000_000_000),
    ),
    _kind(
        "container_memory_usage_bytes",
        False,
        "Memory in use, page cache included.",
        _first(("memory.current", ""), ("memory.usage_in_bytes", "")),
    ),
    _kind("container_memory_working_set_bytes", False, "Memory in use that cannot just be dropped.", _working_set),
    _kind(
        "container_memory_max_usage_bytes",
        False,
        "The most memory that was ever in use.",
        _first(("memory.peak", ""), ("memory.max_usage_in_bytes", "")),
    ),
    _kind(
        "container_memory_rss",
        False,
        "Anonymous memory.",
        _first(("memory.stat", "total_rss"), ("memory.stat", "anon")),
    ),
    _kind(
        "container_memory_cache",
        False,
        "Page cache.",
        _first(("memory.stat", "total_cache"), ("memory.stat", "file")),
    ),
    _kind(
        "container_memory_mapped_file",
        False,
        "Files mapped into memory.",
        _first(("memory.stat", "total_mapped_file"), ("memory.stat", "file_mapped")),
    ),
    _kind(
        "container_memory_total_active_file_bytes",
        False,
        "Page cache that is on the active list.",
        _first(("memory.stat", "total_active_file"), ("memory.stat", "active_file")),
    ),
    _kind(
        "container_memory_total_inactive_file_bytes",
        False,
        "Page cache that is on the inactive list.",
        _first(("memory.stat", "total_inactive_file"), ("memory.stat", "inactive_file")),
    ),
    _kind(
        "container_memory_swap",
        False,
        "Swap in use.",
        _first(("memory.stat", "total_swap"), ("memory.swap.current", "")),
    ),
    _kind(
        "container_memory_failcnt",
        True,
        "How often the memory limit was met; cgroup version 1 only.",
        _first(("memory.failcnt", "")),
    ),
    _kind(
        "container_memory_failures_total",
        True,
        "Page faults.",
        _first(("memory.stat", "total_pgfault"), ("memory.stat", "pgfault")),
        failure_type="pgfault",
        scope="container",
    ),
    _kind(
        "container_memory_failures_total",
        True,
        "Page faults.",
        _first(("memory.stat", "total_pgmajfault"), ("memory.stat", "pgmajfault")),
        failure_type="pgmajfault",
        scope="container",
    ),
    _kind(
        "container_memory_kernel_usage",
        False,
        "Memory that the kernel needs for it.",
        _first(("memory.stat", "kernel"), ("memory.kmem.usage_in_bytes", "")),
    ),
    _kind(
        "container_oom_events_total",
        True,
        "How many processes were ended for want of memory.",
        _first(("memory.events", "oom_kill"), ("memory.oom_control", "oom_kill")),
    ),
    _kind("container_processes", False, "Processes and threads.", _first(("pids.current", ""))),
    _kind(
        "container_threads_max",
        False,
        "The most threads there may be; 0 means any number.",
        _first(("pids.max", "")),
    ),
)

DESCRIPTORS = tuple({kind.descriptor.name: kind.descriptor for kind in _KINDS}.values())
"""Of every metric that `of_container` gives."""

FILES = {
    "cpu": ("cpu.stat",),
    "cpuacct": ("cpuacct.usage", "cpuacct.stat"),
    "memory": (
        "memory.stat",
        "memory.current",
        "memory.peak",
        "memory.swap.current",
        "memory.usage_in_bytes",
        "memory.max_usage_in_bytes",
        "memory.failcnt",
        "memory.kmem.usage_in_bytes",
        "memory.events",
        "memory.oom_control",
    ),
    "pids": ("pids.current", "pids.max"),
}
"""The files of each controller that are read, where they are there."""


def parse(text: str) -> dict[str, int]:
    """A file's numbers: of lines `name number`, or of the only one; `max` is 0, what is no number is left out."""
    text = text.strip()
    if text == "max":
        return {"": 0}
    if text.isdigit():
        return {"": int(text)}
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def values(files: Files) -> Iterator[Value]:
    """Everything that a cgroup has files for."""
    for kind in _KINDS:
        value = kind.read(files)
        if value is not None:
            yield Value(kind.descriptor.name, kind.descriptor.help, kind.counter, kind.more, value)


def of_container(container: ContainerRecord, sandbox: SandboxRecord, files: Files) -> list[Metric]:
    """The metrics that its cgroup has files for, in whole numbers as CRI has them."""
    pod = sandbox.config.metadata
    labels = (container.config.metadata.name, pod.name, pod.namespace, container.id)
    return [
        Metric(found.name, int(found.value), (*labels, *found.more.values()), found.counter) for found in values(files)
    ]
