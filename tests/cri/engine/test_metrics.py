"""Metrics of both versions of cgroups, from their files' text."""

from __future__ import annotations

from pinnace.cri.api import ContainerConfig, ContainerMetadata, ImageSpec, PodSandboxConfig, PodSandboxMetadata
from pinnace.cri.engine.metrics import DESCRIPTORS, LABELS, Metric, of_container, parse
from pinnace.cri.engine.records import ContainerRecord, SandboxRecord

SANDBOX = SandboxRecord(
    id="s",
    config=PodSandboxConfig(metadata=PodSandboxMetadata(name="p", uid="u", namespace="n")),
    created_at=1,
    boot_id="",
)
CONTAINER = ContainerRecord(
    id="k",
    sandbox_id="s",
    config=ContainerConfig(metadata=ContainerMetadata(name="c"), image=ImageSpec(image="i")),
    image_id="",
    image_ref="",
    log_path="",
    stop_signal=15,
    created_at=1,
)


def of(files: dict[str, str]) -> dict[str, int]:
    found = of_container(CONTAINER, SANDBOX, {name: parse(text) for name, text in files.items()})
    return {one.name + "".join(f" {value}" for value in one.label_values[len(LABELS) :]): one.value for one in found}


def test_cgroup_version_1() -> None:
    found = of(
        {
            "cpuacct.usage": "7000000000\n",
            "cpuacct.stat": "user 300\nsystem 400\n",
            "cpu.stat": "nr_periods 5\nnr_throttled 2\nthrottled_time 3000000000\n",
            "memory.usage_in_bytes": "1000",
            "memory.max_usage_in_bytes": "2000",
            "memory.failcnt": "9",
            "memory.stat": "total_rss 100\ntotal_cache 800\ntotal_inactive_file 600\n"
            "total_pgfault 11\ntotal_pgmajfault 1\n",
            "pids.current": "4",
            "pids.max": "max",
        }
    )

    assert found == {
        "container_cpu_usage_seconds_total": 7,
        "container_cpu_user_seconds_total": 3,
        "container_cpu_system_seconds_total": 4,
        "container_cpu_cfs_periods_total": 5,
        "container_cpu_cfs_throttled_periods_total": 2,
        "container_cpu_cfs_throttled_seconds_total": 3,
        "container_memory_usage_bytes": 1000,
        "container_memory_working_set_bytes": 400,
        "container_memory_max_usage_bytes": 2000,
        "container_memory_rss": 100,
        "container_memory_cache": 800,
        "container_memory_total_inactive_file_bytes": 600,
        "container_memory_failcnt": 9,
        "container_memory_failures_total pgfault container": 11,
        "container_memory_failures_total pgmajfault container": 1,
        "container_processes": 4,
        "container_threads_max": 0,
    }


def test_cgroup_version_2() -> None:
    found = of(
        {
            "cpu.stat": "usage_usec 7000000\nuser_usec 3000000\nsystem_usec 4000000\nthrottled_usec 2000000\n",
            "memory.current": "1000",
            "memory.stat": "anon 100\nfile 800\ninactive_file 2000\n",
        }
    )

    assert found["container_cpu_usage_seconds_total"] == 7
    assert found["container_cpu_cfs_throttled_seconds_total"] == 2
    assert (found["container_memory_rss"], found["container_memory_cache"]) == (100, 800)
    assert found["container_memory_working_set_bytes"] == 0


def test_every_metric_has_a_descriptor_and_a_value_for_each_of_its_labels() -> None:
    keys = {one.name: one.label_keys for one in DESCRIPTORS}
    files = {"memory.stat": parse("pgfault 1\n"), "pids.current": parse("1")}

    found = of_container(CONTAINER, SANDBOX, files)

    assert len(keys) == len(DESCRIPTORS)
    assert [len(one.label_values) for one in found] == [len(keys[one.name]) for one in found]
    assert found[-1] == Metric("container_processes", 1, ("c", "p", "n", "k"), False)


def test_what_is_no_number_is_left_out() -> None:
    assert parse("a 1\nb x\nc\n\nd 2 3\n") == {"a": 1}
    assert parse("") == {}
