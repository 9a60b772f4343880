"""Silent nodes are noticed, tainted and drained; their pods do not outlive them; every node has its own addresses."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pinnace.apis.core.node_selection import tolerates
from pinnace.apis.resources import JOBS, LEASES, NODES, PODS
from pinnace.controllers.node_ipam import ClusterRange, NodeIpamController
from pinnace.controllers.node_lifecycle import NodeLifecycleController, labels_to_add, wanted_taints
from pinnace.controllers.podgc import PodGcController, is_out_of_service
from pinnace.controllers.taint_eviction import TaintEvictionController, evicted_at
from pinnace.controllers.ttl_after_finished import TtlAfterFinishedController, expires_in
from pinnace.machinery.meta import Obj, format_micro_time, format_time, utc_now
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import conditions, messages, pod_status, running

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def node(name: str = "n1", ready: str = "True", **spec: Any) -> Obj:
    condition = {
        "type": "Ready",
        "status": ready,
        "lastHeartbeatTime": "2026-01-01T00:00:00Z",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": spec,
        "status": {"conditions": [condition]},
    }


def pod(name: str, on: str = "n1", **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": on, **spec} if on else spec,
        "status": pod_status("Running", ready=True),
    }


def taints(obj: Obj | None) -> set[tuple[str, str]]:
    return {(one["key"].rpartition("/")[2], one["effect"]) for one in (obj or {}).get("spec", {}).get("taints") or ()}


def lifecycle(client: Any, informers: Any) -> NodeLifecycleController:
    return NodeLifecycleController(client, informers, grace=1.0)


@pytest.mark.parametrize(
    ("given", "evict", "expected"),
    [
        (node(), True, set()),
        (node(ready="False"), True, {("not-ready", "NoSchedule"), ("not-ready", "NoExecute")}),
        (node(ready="Unknown"), True, {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}),
        (node(ready="Unknown"), False, {("unreachable", "NoSchedule")}),
        (node(unschedulable=True), True, {("unschedulable", "NoSchedule")}),
        (node(taints=[{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]), True, set()),
        (node(taints=[{"key": "mine", "effect": "NoExecute"}]), True, {("mine", "NoExecute")}),
    ],
)
def test_taints_follow_conditions(given: Obj, evict: bool, expected: set[tuple[str, str]]) -> None:
    assert taints({"spec": {"taints": wanted_taints(given, NOW, evict=evict)}}) == expected


TAINT: Obj = {"key": "k", "value": "v", "effect": "NoExecute", "timeAdded": format_time(NOW)}


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"key": "k", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "value": "other"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoSchedule"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations(toleration: Obj, expected: bool) -> None:
    assert tolerates(toleration, TAINT) is expected


@pytest.mark.parametrize(
    ("tolerations", "seconds"),
    [
        ([], 5),  # at once, that is now
        ([{"operator": "Exists"}], None),
        ([{"operator": "Exists", "tolerationSeconds": 300}], 300),
        (
            [
                {"operator": "Exists", "tolerationSeconds": 300},
                {"key": "k", "operator": "Exists", "tolerationSeconds": 60},
            ],
            60,
        ),
        ([{"operator": "Exists", "tolerationSeconds": -1}], 0),
    ],
)
def test_pods_go_when_they_tolerate_no_longer(tolerations: list[Obj], seconds: int | None) -> None:
    due = evicted_at({"spec": {"tolerations": tolerations}}, [TAINT], NOW + timedelta(seconds=5))
    assert due == (None if seconds is None else NOW + timedelta(seconds=seconds))


STABLE, BETA = "kubernetes.io/os", "beta.kubernetes.io/os"


@pytest.mark.parametrize(
    ("labels", "added"),
    [
        ({}, {}),
        ({STABLE: "linux"}, {BETA: "linux"}),
        ({STABLE: "linux", BETA: "windows"}, {BETA: "linux"}),
        ({STABLE: "linux", BETA: "linux"}, {}),
        ({BETA: "linux"}, {}),
    ],
)
def test_old_labels_follow_stable_ones(labels: dict[str, str], added: dict[str, str]) -> None:
    assert labels_to_add({"metadata": {"name": "n1", "labels": labels}}) == added


async def test_nodes_that_come_and_go_are_told_of() -> None:
    api = FakeApi()
    async with running(api, lifecycle):
        made = node()
        made["metadata"]["labels"] = {STABLE: "linux"}
        await api.client.create(NODES, made)
        said = "Node n1 event: Registered Node n1 in Controller"
        await api.until(lambda: messages(api, "RegisteredNode") == [said])
        await api.until(lambda: (api.find(NODES, "n1") or {})["metadata"]["labels"].get(BETA) == "linux")
        await api.client.delete(NODES, "n1")
        said = "Node n1 event: Removing Node n1 from Controller"
        await api.until(lambda: messages(api, "RemovingNode") == [said])


async def test_a_silent_node_is_unknown_tainted_and_drained() -> None:
    api = FakeApi()
    tolerant = [{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}]
    for name in ("n1", "n2"):
        await api.client.create(NODES, node(name))
    await api.client.create(PODS, pod("goes"))
    await api.client.create(PODS, pod("stays", tolerations=tolerant))
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "n2", "namespace": "kube-node-lease"},
        "spec": {},
    }
    await api.client.create(LEASES, lease)

    async def renew() -> None:
        spec = {"spec": {"renewTime": format_micro_time(utc_now())}}
        await api.client.patch(LEASES, "n2", spec, "kube-node-lease")

    async with running(api, lifecycle, TaintEvictionController):

        async def alive() -> None:
            while True:
                await renew()
                await asyncio.sleep(0.2)

        heart = asyncio.create_task(alive())
        try:
            await api.until(lambda: conditions(api.find(NODES, "n1"))["Ready"][0] == "Unknown")
            assert conditions(api.find(NODES, "n1"))["Ready"] == (
                "Unknown",
                "NodeStatusUnknown",
                "Kubelet stopped posting node status.",
            )
            unreachable = {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}
            await api.until(lambda: taints(api.find(NODES, "n1")) == unreachable)
            await api.until(lambda: api.find(PODS, "default/goes") is None)
            await api.until(lambda: conditions(api.find(PODS, "default/stays"))["Ready"][0] == "False")
            assert taints(api.find(NODES, "n2")) == set()
            await api.until(lambda: "Marking for deletion Pod default/goes" in messages(api, "TaintManagerEviction"))
            # The kubelet comes back.
            heard = node()["status"]["conditions"][0] | {"lastHeartbeatTime": format_time(utc_now())}
            await api.set_status(NODES, "n1", {"conditions": [heard]})
            await api.until(lambda: taints(api.find(NODES, "n1")) == set())
        finally:
            heart.cancel()


async def test_a_pod_is_said_to_be_marked_when_its_time_is_over_and_not_when_that_begins() -> None:
    api = FakeApi()
    await api.client.create(NODES, node(taints=[{"key": "k", "effect": "NoExecute"}]))
    tolerates_for_long = [{"key": "k", "operator": "Exists", "tolerationSeconds": 3600}]
    await api.client.create(PODS, pod("later", tolerations=tolerates_for_long))
    await api.client.create(PODS, pod("now"))

    def told() -> set[str]:
        return set(messages(api, "TaintManagerEviction"))

    async with running(api, TaintEvictionController):
        await api.until(lambda: told() == {"Marking for deletion Pod default/now"})
        await api.client.patch(NODES, "n1", {"spec": {"taints": None}})
        await api.until(lambda: "Cancelling deletion of Pod default/later" in told())
        assert "Marking for deletion Pod default/later" not in told()


async def test_nothing_is_evicted_when_every_node_is_silent() -> None:
    api = FakeApi()
    await api.client.create(NODES, node())
    async with running(api, lifecycle):
        await api.until(lambda: taints(api.find(NODES, "n1")) == {("unreachable", "NoSchedule")})


async def test_pods_of_a_deleted_node_are_removed() -> None:
    api = FakeApi()
    await api.client.create(NODES, node())
    await api.client.create(PODS, pod("a"))

    def make(client: Any, informers: Any) -> PodGcController:
        return PodGcController(client, informers, quarantine=0.1)

    async with running(api, make):
        await api.client.delete(NODES, "n1")
        await api.until(lambda: not api.all(PODS))
        last = [event["object"] for gvr, event in api.history if gvr == PODS][-1]
        assert last["status"]["phase"] == "Failed"
        assert conditions(last)["DisruptionTarget"] == ("True", "DeletionByPodGC", "PodGC: node no longer exists")


OUT = {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (None, False),
        (node(ready="Unknown", taints=[OUT]), True),
        (node(ready="True", taints=[OUT]), False),
        (node(ready="Unknown"), False),
    ],
)
def test_which_nodes_are_out_of_service(where: Obj | None, expected: bool) -> None:
    assert is_out_of_service(where) is expected


async def test_pods_that_go_from_a_node_out_of_service_are_removed() -> None:
    api = FakeApi()
    await api.client.create(NODES, node(ready="Unknown"))
    held = pod("going")
    held["metadata"]["finalizers"] = ["keep/me"]
    await api.client.create(PODS, held)
    await api.client.create(PODS, pod("staying"))
    await api.client.delete(PODS, "going", "default")

    async with running(api, PodGcController):
        await api.client.patch(NODES, "n1", {"spec": {"taints": [OUT]}})
        await api.until(lambda: (api.find(PODS, "default/going") or {})["status"]["phase"] == "Failed")
        removed = ("DELETE", "/api/v1/namespaces/default/pods/going")
        await api.until(lambda: api.requests.count(removed) > 1)
    assert (api.find(PODS, "default/staying") or {})["status"]["phase"] == "Running"


async def test_the_oldest_finished_pods_are_removed_when_there_are_too_many() -> None:
    api = FakeApi()
    await api.client.create(NODES, node())
    for n in range(5):
        finished = pod(f"p{n}") | {"status": {"phase": "Succeeded"}}
        finished["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:0{n}Z"
        await api.client.create(PODS, finished)

    def make(client: Any, informers: Any) -> PodGcController:
        return PodGcController(client, informers, threshold=3)

    async with running(api, make):
        await api.until(lambda: {one["metadata"]["name"] for one in api.all(PODS)} == {"p2", "p3", "p4"})


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        ("10.244.0.0/24", "10.244.1.0/24"),
        ("10.244.0.0/23", "10.244.2.0/24"),
        ("10.244.1.0/24", "10.244.0.0/24"),
        ("10.0.0.0/8", None),
        ("fd00::/108", "10.244.0.0/24"),
        ("10.96.0.0/16", "10.244.0.0/24"),
    ],
)
def test_nodes_get_no_addresses_of_services(services: str, expected: str | None) -> None:
    nodes = ClusterRange("10.244.0.0/22")
    nodes.exclude(services)
    assert nodes.allocate() == expected


async def test_nodes_get_ranges_of_their_own() -> None:
    api = FakeApi()
    await api.client.create(NODES, node("old", podCIDR="10.244.1.0/24", podCIDRs=["10.244.1.0/24"]))

    def make(client: Any, informers: Any) -> NodeIpamController:
        return NodeIpamController(client, informers, ["10.244.0.0/22"])

    async with running(api, make):
        for name in ("a", "b", "c"):
            await api.client.create(NODES, node(name))

        def ranges() -> dict[str, str]:
            return {one["metadata"]["name"]: one["spec"].get("podCIDR", "") for one in api.all(NODES)}

        await api.until(lambda: all(ranges().values()))
        assert ranges() == {"old": "10.244.1.0/24", "a": "10.244.0.0/24", "b": "10.244.2.0/24", "c": "10.244.3.0/24"}
        await api.client.create(NODES, node("late"))
        await api.until(lambda: messages(api, "CIDRNotAvailable"))
        await api.client.delete(NODES, "b")
        await api.until(lambda: ranges().get("late") == "10.244.2.0/24")


async def test_nodes_get_a_range_of_each_family() -> None:
    api = FakeApi()
    held = ["10.244.0.0/25", "fd00:244::/112"]
    await api.client.create(NODES, node("old", podCIDR=held[0], podCIDRs=held))

    def make(client: Any, informers: Any) -> NodeIpamController:
        ranges = ["10.244.0.0/24", "fd00:244::/111"]
        return NodeIpamController(client, informers, ranges, masks={4: 25, 6: 112})

    async with running(api, make):
        await api.client.create(NODES, node("new"))
        await api.until(lambda: (api.find(NODES, "new") or {})["spec"].get("podCIDRs"))
        spec = (api.find(NODES, "new") or {})["spec"]
        assert (spec["podCIDR"], spec["podCIDRs"]) == ("10.244.0.128/25", ["10.244.0.128/25", "fd00:244::1:0/112"])
        await api.client.create(NODES, node("late"))
        await api.until(lambda: messages(api, "CIDRNotAvailable"))
        assert "podCIDRs" not in (api.find(NODES, "late") or {})["spec"], "a node has both or none"


def test_ranges_of_both_families() -> None:
    small = ClusterRange("10.0.0.0/26")
    assert [small.allocate(), small.allocate()] == ["10.0.0.0/26", None]
    wide = ClusterRange("fd00::/56")
    assert [wide.allocate(), wide.allocate()] == ["fd00::/64", "fd00:0:0:1::/64"]
    wide.take("10.0.0.0/24")  # another family's


async def test_finished_jobs_are_deleted_after_their_time() -> None:
    api = FakeApi()
    done = {"type": "Complete", "status": "True", "lastTransitionTime": format_time(utc_now())}
    finished = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j", "namespace": "default"},
        "spec": {"ttlSecondsAfterFinished": 1},
        "status": {"conditions": [done]},
    }
    assert expires_in({**finished, "status": {}}, utc_now()) is None
    await api.client.create(JOBS, finished)
    async with running(api, TtlAfterFinishedController):
        await api.until(lambda: "deletionTimestamp" in (api.find(JOBS, "default/j") or {})["metadata"])
        assert (api.find(JOBS, "default/j") or {})["metadata"]["finalizers"] == ["foregroundDeletion"]
