"""Pods that are resized as they run: what the API shows, and what their cgroups are limited to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import SLEEP, container, pod
from tests.e2e.test_pod_life import create, events, wait

pytestmark = [pytest.mark.e2e, pytest.mark.root]

Obj = dict[str, Any]

READ_LIMITS = """
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then cd /sys/fs/cgroup; cat cpu.max memory.max
else cd /sys/fs/cgroup; echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us); cat memory/memory.limit_in_bytes; fi
"""


def sized(**amounts: str) -> Obj:
    """`cpu`, `memory`, `cpu_limit` and `memory_limit` as `resources`."""
    limits = {name.removesuffix("_limit"): value for name, value in amounts.items() if name.endswith("_limit")}
    requests = {name: value for name, value in amounts.items() if not name.endswith("_limit")}
    return {part: listed for part, listed in (("requests", requests), ("limits", limits)) if listed}


def patch(cluster: Cluster, namespace: str, name: str, sizes: dict[str, Obj], kind: str = "containers") -> Obj:
    listed = [{"name": container, "resources": resources} for container, resources in sizes.items()]
    text = json.dumps({"spec": {kind: listed}})
    arguments = ("patch", "pod", name, "--subresource=resize", "-p", text, "-o", "json")
    return dict(json.loads(cluster.kubectl("-n", namespace, *arguments).stdout))


def settled(cluster: Cluster, namespace: str, name: str, generation: int) -> dict[str, Obj]:
    """Container statuses by name, once everything runs with the sizes of that generation."""
    wait(cluster, namespace, f"pod/{name}", ".status.observedGeneration", str(generation))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    found = cluster.json("-n", namespace, "get", "pod", name)["status"]
    statuses = [*found.get("initContainerStatuses", ()), *found["containerStatuses"]]
    return {one["name"]: one for one in statuses}


def limits_of(cluster: Cluster, namespace: str, name: str, of: str) -> list[str]:
    """The CPU quota and period, and the bytes of memory, that a container is limited to."""
    told = cluster.kubectl("-n", namespace, "exec", name, "-c", of, "--", "sh", "-c", READ_LIMITS).stdout
    return told.split()


def test_containers_of_one_pod_are_resized_in_many_ways(cluster: Cluster, namespace: str) -> None:
    """Conformance: "In-place Pod Resize, burtable pod with multiple containers and various operations" """
    before = {
        "grows": sized(cpu="10m", memory="20Mi", cpu_limit="20m", memory_limit="32Mi"),
        "shrinks": sized(cpu="20m", memory="32Mi", cpu_limit="40m", memory_limit="64Mi"),
        "cpu-only": sized(cpu="10m", cpu_limit="20m"),
        "gets-requests": {},
        "gets-limits": sized(cpu="10m", memory="10Mi"),
        "stays": sized(cpu="10m", memory="10Mi"),
    }
    after = {
        "grows": sized(cpu="15m", memory="24Mi", cpu_limit="30m", memory_limit="48Mi"),
        "shrinks": sized(cpu="10m", memory="16Mi", cpu_limit="20m", memory_limit="32Mi"),
        "cpu-only": sized(cpu="20m", cpu_limit="40m"),
        "gets-requests": sized(cpu="10m", memory="10Mi"),
        "gets-limits": sized(cpu="10m", memory="10Mi", cpu_limit="50m", memory_limit="40Mi"),
        "stays": sized(cpu="10m", memory="10Mi"),
    }
    create(cluster, namespace, pod("p", *(container(name, SLEEP, resources=size) for name, size in before.items())))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    patched = patch(cluster, namespace, "p", after)
    for number, size in enumerate(after.values()):  # they are resized one after the other
        part = "limits" if "limits" in size else "requests"
        wait(
            cluster, namespace, "pod/p", f".status.containerStatuses[{number}].resources.{part}.cpu", size[part]["cpu"]
        )
    shown = settled(cluster, namespace, "p", patched["metadata"]["generation"])
    for name, size in after.items():
        assert shown[name].get("resources", {}) == size
        assert shown[name].get("allocatedResources", {}) == size.get("requests", {})
        assert shown[name]["restartCount"] == 0
    assert limits_of(cluster, namespace, "p", "grows") == ["3000", "100000", str(48 << 20)]
    assert limits_of(cluster, namespace, "p", "shrinks") == ["2000", "100000", str(32 << 20)]
    assert limits_of(cluster, namespace, "p", "cpu-only")[0] == "4000"
    assert limits_of(cluster, namespace, "p", "gets-limits") == ["5000", "100000", str(40 << 20)]
    assert events(cluster, namespace, "p", "ResizeCompleted").startswith("Pod resize completed: ")


def test_sizes_that_mean_the_same_are_shown_as_asked(cluster: Cluster, namespace: str) -> None:
    """Conformance: "In-place Pod Resize, burstable pod resized with equivalents" """
    before, after = sized(cpu="2m", cpu_limit="10m"), sized(cpu="1m", cpu_limit="5m")
    create(cluster, namespace, pod("p", container("c", SLEEP, resources=before)))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    patch(cluster, namespace, "p", {"c": after})
    wait(cluster, namespace, "pod/p", ".status.containerStatuses[0].resources.limits.cpu", "5m")
    [status] = cluster.json("-n", namespace, "get", "pod", "p")["status"]["containerStatuses"]
    assert (status["resources"], status["restartCount"]) == (after, 0)


def test_a_resize_is_read_and_replaced(cluster: Cluster, namespace: str) -> None:
    """Conformance: "In-place Pod Resize, read and replace endpoints" """
    before = sized(cpu="10m", memory="20Mi", cpu_limit="20m", memory_limit="32Mi")
    create(cluster, namespace, pod("p", container("c", SLEEP, resources=before)))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    path = f"/api/v1/namespaces/{namespace}/pods/p/resize"
    wished = json.loads(cluster.kubectl("get", "--raw", path).stdout)
    after = sized(cpu="20m", memory="30Mi", cpu_limit="30m", memory_limit="48Mi")
    wished["spec"]["containers"][0]["resources"] = after
    del wished["metadata"]["resourceVersion"]  # the status may be written meanwhile
    cluster.kubectl("replace", "--raw", path, "-f", "-", stdin=json.dumps(wished))
    wait(cluster, namespace, "pod/p", ".status.containerStatuses[0].resources.limits.memory", "48Mi")
    settled(cluster, namespace, "p", 2)
    whole = json.loads(cluster.kubectl("get", "--raw", path.removesuffix("/resize")).stdout)
    assert json.loads(cluster.kubectl("get", "--raw", path).stdout) == whole
    assert whole["spec"]["containers"][0]["resources"] == after
    assert limits_of(cluster, namespace, "p", "c") == ["3000", "100000", str(48 << 20)]


def test_a_policy_restarts_the_container_and_a_sidecar_grows(cluster: Cluster, namespace: str) -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    small, large = sized(memory="10Mi", memory_limit="20Mi"), sized(memory="20Mi", memory_limit="40Mi")
    sidecar = container("side", SLEEP, resources=small, restartPolicy="Always")
    main = container("c", "trap exit TERM; sleep 1000 & wait", resources=small, resizePolicy=policy)
    create(cluster, namespace, pod("p", main, initContainers=[sidecar], terminationGracePeriodSeconds=2))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    patch(cluster, namespace, "p", {"c": large})
    wait(cluster, namespace, "pod/p", ".status.containerStatuses[0].restartCount", "1")
    patch(cluster, namespace, "p", {"side": large}, "initContainers")
    wait(cluster, namespace, "pod/p", ".status.initContainerStatuses[0].resources.limits.memory", "40Mi")
    assert settled(cluster, namespace, "p", 3)["side"]["restartCount"] == 0
    assert limits_of(cluster, namespace, "p", "c")[-1] == str(40 << 20)
    assert "Container c resize requires restart" in events(cluster, namespace, "p", "Killing")


def test_what_cannot_be_is_told(cluster: Cluster, namespace: str) -> None:
    create(cluster, namespace, pod("p", container("c", SLEEP, resources=sized(cpu="10m"))))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    patch(cluster, namespace, "p", {"c": sized(cpu="1000")})
    wait(cluster, namespace, "pod/p", '.status.conditions[?(@.type=="PodResizePending")].reason', "Infeasible")
    status = cluster.json("-n", namespace, "get", "pod", "p")["status"]
    [pending] = [one for one in status["conditions"] if one["type"] == "PodResizePending"]
    assert pending["message"].startswith("Node didn't have enough capacity: cpu, requested: 1000000, capacity: ")
    assert status["containerStatuses"][0]["resources"] == sized(cpu="10m")
    patch(cluster, namespace, "p", {"c": sized(cpu="10m")})
    wait(cluster, namespace, "pod/p", ".status.observedGeneration", "3")
    status = cluster.json("-n", namespace, "get", "pod", "p")["status"]
    assert "PodResizePending" not in {one["type"] for one in status["conditions"]}


def test_memory_in_use_is_not_taken_away(cluster: Cluster, namespace: str) -> None:
    size = sized(memory="64Mi", memory_limit="64Mi", cpu="10m")
    fill = "dd if=/dev/zero of=/dev/shm/x bs=1M count=40; sleep 1000"
    create(cluster, namespace, pod("p", container("c", fill, resources=size)))
    full = "until [ $(stat -c %s /dev/shm/x) = 41943040 ]; do sleep 0.1; done"
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    cluster.kubectl("-n", namespace, "exec", "p", "--", "sh", "-c", full, timeout=60)
    patch(cluster, namespace, "p", {"c": sized(memory="16Mi", memory_limit="16Mi", cpu="10m")})
    wait(cluster, namespace, "pod/p", '.status.conditions[?(@.type=="PodResizeInProgress")].reason', "Error")
    status = cluster.json("-n", namespace, "get", "pod", "p")["status"]
    [progress] = [one for one in status["conditions"] if one["type"] == "PodResizeInProgress"]
    assert progress["message"].startswith("cannot decrease memory limits: ")
    assert "below current usage" in progress["message"]
    assert status["containerStatuses"][0]["resources"]["limits"]["memory"] == "64Mi"
    cluster.kubectl("-n", namespace, "exec", "p", "--", "rm", "/dev/shm/x")
    wait(cluster, namespace, "pod/p", ".status.containerStatuses[0].resources.limits.memory", "16Mi")
