"""What the node grants a pod, how running containers get there, and what is said of it: the pure parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pinnace.cri.api import (
    ContainerMetadata,
    ContainerState,
    ContainerStatus,
    ImageSpec,
    LinuxContainerResources,
)
from pinnace.kubelet.resources.allocation import POD, judge, sizes_of, urgency, with_sizes
from pinnace.kubelet.resources.amounts import actual_resources, container_resources
from pinnace.kubelet.resources.cgroups import pod_resources
from pinnace.kubelet.resources.resize import Difference, Step, difference, steps, summary, too_small
from pinnace.kubelet.resources.swap import swap_limit
from pinnace.kubelet.runtime.status import PodRuntimeStatus

Obj = dict[str, Any]
Limits = LinuxContainerResources
GI = 1 << 30
NODE: Obj = {"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}}


def sized(cpu: str = "", memory: str = "", cpu_limit: str = "", memory_limit: str = "") -> Obj:
    requests = {name: value for name, value in (("cpu", cpu), ("memory", memory)) if value}
    limits = {name: value for name, value in (("cpu", cpu_limit), ("memory", memory_limit)) if value}
    return {part: listed for part, listed in (("requests", requests), ("limits", limits)) if listed}


def one(name: str = "c", resources: Obj | None = None, **more: Any) -> Obj:
    return {"name": name, "image": "i", "resources": resources or {}, **more}


def pod(*containers: Obj, uid: str = "u", **spec: Any) -> Obj:
    metadata = {"name": "p", "namespace": "ns", "uid": uid, "generation": 2}
    return {"metadata": metadata, "spec": {"containers": list(containers), **spec}}


def running(*names: str) -> PodRuntimeStatus:
    statuses = [
        ContainerStatus(
            id=f"id-{name}",
            metadata=ContainerMetadata(name=name),
            state=ContainerState.RUNNING,
            created_at=1,
            image=ImageSpec(image="i"),
            image_ref="i",
        )
        for name in names
    ]
    return PodRuntimeStatus("u", containers=statuses)


def test_a_pod_is_run_with_the_sizes_it_was_granted() -> None:
    sidecar = one("s", sized("1"), restartPolicy="Always")
    init = one("i", sized("1"))
    asked = pod(one("c", sized("2")), initContainers=[init, sidecar], resources=sized("4"))
    assert sizes_of(asked) == {"c": sized("2"), "s": sized("1"), POD: sized("4")}
    granted = with_sizes(asked, {"c": sized("1"), "s": sized("500m"), POD: sized("3")})
    assert granted["spec"]["containers"][0]["resources"] == sized("1")
    assert granted["spec"]["initContainers"] == [init, {**sidecar, "resources": sized("500m")}]
    assert granted["spec"]["resources"] == sized("3")
    assert with_sizes(asked, {"c": sized("2000m")}) is asked


BIG = pod(one("c", sized("3", "1Gi")), uid="other")


@pytest.mark.parametrize(
    ("asked", "others", "fixed", "verdict"),
    [
        (pod(one("c", sized("2"))), [], (), None),
        (
            pod(one("c", sized("2"))),
            [BIG],
            (),
            ("Deferred", "Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000"),
        ),
        (
            pod(one("c", sized("5"))),
            [],
            (),
            ("Infeasible", "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000"),
        ),
        (
            pod(one("c", sized("5", "9Gi"))),
            [],
            (),
            (
                "Infeasible",
                "Node didn't have enough capacity: memory, requested: 9663676416, capacity: 8589934592",
            ),
        ),
        (
            pod(one("c", sized("2", "1Gi", "2", "1Gi"))),
            [],
            ("cpu",),
            ("Infeasible", 'Resize is infeasible for Guaranteed Pods alongside CPU Manager policy "static"'),
        ),
        (
            pod(one("c", sized("1", "2Gi", "1", "2Gi"))),
            [],
            ("cpu", "memory"),
            ("Infeasible", 'Resize is infeasible for Guaranteed Pods alongside Memory Manager policy "Static"'),
        ),
        (pod(one("c", sized("2", "1Gi"))), [], ("cpu", "memory"), None),
    ],
)
def test_a_wish_is_granted_deferred_or_infeasible(asked: Obj, others: list[Obj], fixed: Any, verdict: Any) -> None:
    granted = {"c": sized("1", "1Gi", "1", "1Gi")}
    assert judge(asked, granted, others, NODE, fixed) == verdict


def test_static_pods_keep_their_size() -> None:
    static = pod(one())
    static["metadata"]["annotations"] = {"kubernetes.io/config.source": "file"}
    assert judge(static, {}, [], NODE) == ("Infeasible", "In-place resize of static-pods is not supported")


def test_who_waits_is_served_by_need_priority_quality_and_patience() -> None:
    small, large = sized("1", "1Gi"), sized("2", "1Gi")
    shrinking = urgency(pod(one("c", small)), {"c": large}, 9.0)
    important = urgency(pod(one("c", large), priority=10), {"c": small}, 9.0)
    guaranteed = urgency(pod(one("c", {"requests": large["requests"], "limits": large["requests"]})), {"c": small}, 9.0)
    early, late = (urgency(pod(one("c", large)), {"c": small}, since) for since in (1.0, 2.0))
    assert sorted([late, early, guaranteed, important, shrinking]) == [shrinking, important, guaranteed, early, late]


RESTARTS = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]


@pytest.mark.parametrize(
    ("wanted", "present", "found"),
    [
        (sized("1"), sized("1000m"), Difference()),
        (sized("2"), sized("1"), Difference(update={"c": "id-c"})),
        (sized("1", "2Gi"), sized("1", "1Gi"), Difference(restart=frozenset("c"))),
        (sized("2", "2Gi"), sized("1", "1Gi"), Difference(restart=frozenset("c"))),
        (sized("1", cpu_limit="2"), sized("1"), Difference(update={"c": "id-c"})),
    ],
)
def test_a_policy_says_whether_a_new_size_restarts_the_container(wanted: Obj, present: Obj, found: Difference) -> None:
    granted = pod(one("c", wanted, resizePolicy=RESTARTS), one("idle", sized("9")))
    assert difference(granted, {"c": present, "idle": sized("1")}, running("c")) == found


def test_what_does_not_run_is_left_to_its_next_start() -> None:
    assert not difference(pod(one("c", sized("2"))), {"c": sized("1")}, PodRuntimeStatus("u"))


def test_limits_of_the_pod_grow_first_and_shrink_last() -> None:
    small = Limits(cpu_shares=102, cpu_quota=10_000, cpu_period=100_000, memory_limit_in_bytes=GI)
    large = Limits(cpu_shares=204, cpu_quota=20_000, cpu_period=100_000, memory_limit_in_bytes=2 * GI)
    growing = [
        (step.container_id, bool(step.limits.cpu_quota)) for step in steps((small, large), {"c": (small, large)})
    ]
    assert growing == [("", False), ("c", False), ("", True), ("c", True)]
    shrinking = [
        (step.container_id, bool(step.limits.cpu_quota)) for step in steps((large, small), {"c": (large, small)})
    ]
    assert shrinking == [("c", False), ("", False), ("c", True), ("", True)]


def test_a_first_limit_shrinks_the_pod_and_the_loss_of_one_lifts_it() -> None:
    free, bound = Limits(cpu_shares=2), Limits(cpu_shares=2, memory_limit_in_bytes=GI)
    only = Limits(memory_limit_in_bytes=GI)
    assert steps((free, bound), {"c": (free, bound)}) == [Step("c", only), Step("", only)]
    assert steps((bound, free), {}) == [Step("", Limits(memory_limit_in_bytes=-1))]


def test_memory_in_use_is_not_taken_away() -> None:
    small, large = Limits(memory_limit_in_bytes=100), Limits(memory_limit_in_bytes=200)
    assert too_small((large, small), 90, {"c": ((large, small), 90)}) == ""
    assert too_small((small, large), 150, {}) == ""
    assert too_small((large, small), 50, {"c": ((large, small), 150)}) == (
        'cannot decrease memory limits: attempting to set container "c" memory limit (100) below current usage (150)'
    )
    assert too_small((large, small), 150, {"c": ((large, small), 150)}) == (
        "cannot decrease memory limits: [attempting to set pod memory limit (100) below current usage (150), "
        'attempting to set container "c" memory limit (100) below current usage (150)]'
    )


def test_events_carry_the_sizes() -> None:
    told = pod(
        one("c", sized("100m", "1024Mi", "0.2")),
        one("free"),
        initContainers=[one("i", sized("1")), one("s", sized("1"), restartPolicy="Always")],
    )
    assert summary(told, 2, "why") == (
        '{"initContainers":[{"name":"s","resources":{"requests":{"cpu":"1"}}}],'
        '"containers":[{"name":"c","resources":{"limits":{"cpu":"200m"},"requests":{"cpu":"100m","memory":"1Gi"}}},'
        '{"name":"free","resources":{}}],"generation":2,"error":"why"}'
    )


@pytest.mark.parametrize(
    ("of", "limits"),
    [
        (pod(one("c")), Limits(cpu_shares=2)),
        (
            pod(one("c", sized("1", "1Gi", "1", "1Gi"))),
            Limits(cpu_shares=1024, cpu_quota=100_000, cpu_period=100_000, memory_limit_in_bytes=GI),
        ),
        (pod(one("c", sized("1", cpu_limit="2")), one("d", sized("1"))), Limits(cpu_shares=2048)),
        (
            pod(one("c", sized("1", cpu_limit="2")), one("d", sized("1", cpu_limit="1"))),
            Limits(cpu_shares=2048, cpu_quota=300_000, cpu_period=100_000),
        ),
        (
            pod(one("c"), one("d"), resources=sized("1", "1Gi", "2", "2Gi")),
            Limits(cpu_shares=1024, cpu_quota=200_000, cpu_period=100_000, memory_limit_in_bytes=2 * GI),
        ),
    ],
)
def test_a_pods_cgroup_is_limited_where_all_of_the_pod_is(of: Obj, limits: Limits) -> None:
    assert pod_resources(of) == limits
    assert pod_resources(of, quotas=False) == replace(limits, cpu_quota=0, cpu_period=0)


@pytest.mark.parametrize(
    ("granted", "has", "shown"),
    [
        (
            sized("100m", "1Gi", "0.2"),
            Limits(cpu_shares=102, cpu_quota=20_000, cpu_period=100_000),
            sized("100m", "1Gi", "0.2"),
        ),
        (sized("200m"), Limits(cpu_shares=102), sized("100m")),
        (
            sized("1m", cpu_limit="1m"),
            Limits(cpu_shares=2, cpu_quota=1_000, cpu_period=100_000),
            sized("1m", cpu_limit="1m"),
        ),
        (
            sized("2m", cpu_limit="20m"),
            Limits(cpu_shares=2, cpu_quota=1_000, cpu_period=100_000),
            sized("2m", cpu_limit="10m"),
        ),
        (sized(memory_limit="2Gi"), Limits(memory_limit_in_bytes=GI), sized(memory_limit="1Gi")),
    ],
)
def test_a_status_shows_what_a_container_has(granted: Obj, has: Limits, shown: Obj) -> None:
    [status] = running("c").containers
    status.resources = has
    assert actual_resources(granted, status) == shown
    status.state = ContainerState.EXITED
    assert actual_resources(granted, status) == granted


def test_a_pods_own_limits_bound_containers_without_any() -> None:
    of = pod(one("c"), one("d", sized("1", "1Gi", "1", "1Gi")), resources=sized("2", "3Gi", "4", "4Gi"))
    free, bound = (container_resources(of, container, 8 * GI) for container in of["spec"]["containers"])
    assert (free.cpu_quota, free.memory_limit_in_bytes, free.cpu_shares) == (400_000, 4 * GI, 2)
    assert (bound.cpu_quota, bound.memory_limit_in_bytes, bound.cpu_shares) == (100_000, GI, 1024)
    assert (free.oom_score_adj, bound.oom_score_adj) == (875, 750)  # a share of 1 GiB each, of 8 in all


def swapped(requests: Obj, **more: Any) -> int:
    container = one("c", requests)
    return swap_limit(pod(container, **more), container, "LimitedSwap", 8 * GI, 4 * GI)


def test_swap_space_is_shared_by_requests() -> None:
    assert swapped(sized("1", "2Gi")) == GI
    assert swapped(sized("1", "2Gi", memory_limit="4Gi")) == GI
    assert swapped(sized("1", "2Gi", memory_limit="2Gi")) == 0  # it cannot grow beyond its request
    assert swapped(sized("1", "2Gi", "1", "2Gi")) == 0  # Guaranteed
    assert swapped({}) == 0
    assert swapped(sized("1", "2Gi"), priority=2_000_000_000) == 0
    assert swap_limit(pod(one("c", sized("1", "2Gi"))), one("c", sized("1", "2Gi")), "NoSwap", 8 * GI, 4 * GI) == 0


def test_containers_with_swap_space_keep_their_memory() -> None:
    granted, asked = {"c": sized("1", "1Gi")}, pod(one("c", sized("1", "2Gi")))
    verdict = ("Infeasible", "In-place resize of containers with swap is not supported.")
    assert judge(asked, granted, [], NODE, (), lambda _pod, _container: True) == verdict
    assert judge(pod(one("c", sized("2", "1Gi"))), granted, [], NODE, (), lambda _pod, _container: True) is None
    restarted = pod(one("c", sized("1", "2Gi"), resizePolicy=RESTARTS))
    assert judge(restarted, granted, [], NODE, (), lambda _pod, _container: True) is None
