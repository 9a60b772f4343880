"""What LimitRanges give to pods and refuse them, and how a pod's resources add up."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis.core.limits import broken_by_claim, broken_by_pod, fill_in
from pinnace.apis.core.pod_resources import pod_limits, pod_requests

Obj = dict[str, Any]


def container(name: str = "c", requests: Obj | None = None, limits: Obj | None = None, **more: Any) -> Obj:
    return {"name": name, "resources": {"requests": requests or {}, "limits": limits or {}}, **more}


def ranged(kind: str, **bounds: Obj) -> Obj:
    return {"spec": {"limits": [{"type": kind, **bounds}]}}


@pytest.mark.parametrize(
    ("kind", "bounds", "requests", "limits", "messages"),
    [
        (
            "Container",
            {"max": {"memory": "1Gi"}},
            {},
            {"memory": "2Gi"},
            ["maximum memory usage per Container is 1Gi, but limit is 2Gi"],
        ),
        ("Container", {"max": {"memory": "1Gi"}}, {}, {"memory": "1Gi"}, []),
        (
            "Container",
            {"max": {"memory": "1Gi"}},
            {"memory": "1Gi"},
            {},
            ["maximum memory usage per Container is 1Gi.  No limit is specified"],
        ),
        (
            "Container",
            {"max": {"cpu": "1"}},
            {"cpu": "2"},
            {"cpu": "1"},
            ["maximum cpu usage per Container is 1, but request is 2"],
        ),
        (
            "Container",
            {"min": {"cpu": "100m"}},
            {},
            {},
            ["minimum cpu usage per Container is 100m.  No request is specified"],
        ),
        (
            "Container",
            {"min": {"cpu": "100m", "memory": "10Mi"}},
            {"cpu": "50m", "memory": "5Mi"},
            {},
            [
                "minimum cpu usage per Container is 100m, but request is 50m",
                "minimum memory usage per Container is 10Mi, but request is 5Mi",
            ],
        ),
        (
            "Container",
            {"min": {"cpu": "100m"}},
            {"cpu": "100m"},
            {"cpu": "50m"},
            ["minimum cpu usage per Container is 100m, but limit is 50m"],
        ),
        (
            "Container",
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"cpu": "100m"},
            {"cpu": "250m"},
            ["cpu max limit to request ratio per Container is 2, but provided ratio is 2.500000"],
        ),
        (
            "Container",
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {},
            {"cpu": "250m"},
            ["cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"],
        ),
        (
            "Container",
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"cpu": "250m"},
            {},
            ["cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0"],
        ),
        ("Pod", {"max": {"cpu": "1"}}, {}, {"cpu": "1"}, []),
        ("Pod", {"max": {"cpu": "1"}}, {}, {"cpu": "2"}, ["maximum cpu usage per Pod is 1, but limit is 2"]),
        ("PersistentVolumeClaim", {"max": {"storage": "1"}}, {}, {}, []),
    ],
)
def test_bounds_on_pods(kind: str, bounds: Obj, requests: Obj, limits: Obj, messages: list[str]) -> None:
    pod = {"spec": {"containers": [container("c", requests, limits)]}}
    assert broken_by_pod(pod, ranged(kind, **bounds)) == messages


@pytest.mark.parametrize(
    ("bounds", "storage", "messages"),
    [
        ({"max": {"storage": "2Gi"}}, "2Gi", []),
        (
            {"max": {"storage": "2Gi"}},
            "3Gi",
            ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"],
        ),
        (
            {"min": {"storage": "2Gi"}},
            "1Gi",
            ["minimum storage usage per PersistentVolumeClaim is 2Gi, but request is 1Gi"],
        ),
    ],
)
def test_bounds_on_claims(bounds: Obj, storage: str, messages: list[str]) -> None:
    claim = {"spec": {"resources": {"requests": {"storage": storage}}}}
    assert broken_by_claim(claim, ranged("PersistentVolumeClaim", **bounds)) == messages


def test_containers_get_what_they_leave_out_and_a_note_of_it() -> None:
    pod: Obj = {
        "metadata": {"annotations": {"a": "b"}},
        "spec": {"containers": [container("x", {"cpu": "1"}), {"name": "y"}], "initContainers": [{"name": "i"}]},
    }
    default = {"default": {"cpu": "500m", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}
    fill_in(pod, ranged("Container", **default))
    limits = {"cpu": "500m", "memory": "1Gi"}
    assert pod["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "1"}, "limits": limits}
    assert pod["spec"]["containers"][1]["resources"] == {"requests": {"cpu": "100m"}, "limits": limits}
    assert pod["spec"]["initContainers"][0]["resources"] == {"requests": {"cpu": "100m"}, "limits": limits}
    assert pod["metadata"]["annotations"] == {
        "a": "b",
        "kubernetes.io/limit-ranger": (
            "LimitRanger plugin set: cpu, memory limit for container x; cpu request for container y; "
            "cpu, memory limit for container y; cpu request for init container i; "
            "cpu, memory limit for init container i"
        ),
    }


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        ({"containers": [container("a", {"cpu": "100m"}), container("b", {"cpu": "200m"})]}, "300m"),
        ({"containers": [container("a", {"cpu": "1"})], "initContainers": [container("i", {"cpu": "2"})]}, "2"),
        (
            {
                "containers": [container("a", {"cpu": "1"})],
                "initContainers": [
                    container("s", {"cpu": "500m"}, restartPolicy="Always"),
                    container("i", {"cpu": "2"}),
                ],
            },
            "2500m",
        ),
        ({"containers": [container("a", {"cpu": "1"})], "overhead": {"cpu": "250m"}}, "1250m"),
        ({"containers": [container("a", {"cpu": "1"})], "resources": {"requests": {"cpu": "3"}}}, "3"),
    ],
)
def test_what_a_pod_requests_as_a_whole(spec: Obj, cpu: str) -> None:
    assert str(pod_requests(spec)["cpu"]) == cpu


def test_overhead_counts_as_a_limit_where_there_is_one() -> None:
    spec = {"containers": [container("a", {}, {"cpu": "1"})], "overhead": {"cpu": "250m", "memory": "1Mi"}}
    assert {name: str(value) for name, value in pod_limits(spec).items()} == {"cpu": "1250m"}
