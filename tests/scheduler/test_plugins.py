"""The plugins as functions of a pod and a node: one table each."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.machinery.meta import Obj
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.framework import Rejection
from pinnace.scheduler.plugins.balanced_allocation import NodeResourcesBalancedAllocation
from pinnace.scheduler.plugins.image_locality import ImageLocality, normalized_name
from pinnace.scheduler.plugins.node_affinity import NodeAffinity
from pinnace.scheduler.plugins.node_ports import NodePorts
from pinnace.scheduler.plugins.node_resources_fit import NodeResourcesFit
from pinnace.scheduler.plugins.node_unschedulable import NodeUnschedulable
from pinnace.scheduler.plugins.taint_toleration import TaintToleration
from pinnace.scheduler.pod import pod_requests
from tests.scheduler.objects import cluster, info, node, pod, shape


def words(rejection: Rejection | None) -> tuple[str, ...] | None:
    return None if rejection is None else rejection.reasons


TAINT = {"key": "a", "value": "b", "effect": "NoSchedule"}
TAINTS: list[tuple[list[Obj], list[Obj], str | None]] = [
    ([], [], None),
    ([TAINT], [], "node(s) had untolerated taint(s)"),
    ([{"key": "gone", "effect": "NoExecute"}], [], "node(s) had untolerated taint(s)"),
    ([TAINT], [{"key": "a", "value": "b"}], None),
    ([TAINT], [{"key": "a", "operator": "Equal", "value": "c"}], "node(s) had untolerated taint(s)"),
    ([TAINT], [{"key": "a", "operator": "Exists"}], None),
    ([TAINT], [{"operator": "Exists"}], None),
    ([TAINT], [{"operator": "Exists", "effect": "NoExecute"}], "node(s) had untolerated taint(s)"),
    ([{**TAINT, "effect": "PreferNoSchedule"}], [], None),
]


@pytest.mark.parametrize(("taints", "tolerations", "expected"), TAINTS)
def test_taints(taints: list[Obj], tolerations: list[Obj], expected: str | None) -> None:
    rejection = TaintToleration().filter(shape(tolerations=tolerations), info(node("n", taints=taints)))
    assert words(rejection) == (None if expected is None else (expected,))


def test_fewer_soft_taints_are_better() -> None:
    soft = {**TAINT, "effect": "PreferNoSchedule"}
    tainted = info(node("n", taints=[soft, {**soft, "key": "c"}]))
    assert TaintToleration().score(shape(), tainted, Cache()) == 2
    assert TaintToleration().score(shape(tolerations=[{"key": "a", "operator": "Exists"}]), tainted, Cache()) == 1


def test_cordoned_node() -> None:
    plugin = NodeUnschedulable()
    cordoned = info(node("n", unschedulable=True))
    assert words(plugin.filter(shape(), cordoned)) == ("node(s) were unschedulable",)
    assert plugin.filter(shape(), info(node("n"))) is None
    assert not plugin.concerns(shape(tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]))


def required(*terms: Obj) -> Obj:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def expression(key: str, operator: str, *values: str) -> Obj:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


AFFINITIES: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"nodeSelector": {"disk": "ssd"}}, True),
    ({"nodeSelector": {"disk": "hdd"}}, False),
    ({"affinity": required(expression("disk", "In", "hdd", "ssd"))}, True),
    ({"affinity": required(expression("disk", "NotIn", "ssd"))}, False),
    ({"affinity": required(expression("other", "NotIn", "ssd"))}, True),
    ({"affinity": required(expression("disk", "Exists"))}, True),
    ({"affinity": required(expression("disk", "DoesNotExist"))}, False),
    ({"affinity": required(expression("cores", "Gt", "7"))}, True),
    ({"affinity": required(expression("cores", "Lt", "8"))}, False),
    ({"affinity": required(expression("disk", "Gt", "1"))}, False),
    ({"affinity": required({})}, False),
    ({"affinity": required(expression("disk", "In", "hdd"), expression("cores", "In", "8"))}, True),
    ({"affinity": required({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]})}, True),
    ({"affinity": required({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["m"]}]})}, False),
    ({"nodeSelector": {"disk": "hdd"}, "affinity": required(expression("disk", "Exists"))}, False),
]


@pytest.mark.parametrize(("spec", "fits"), AFFINITIES)
def test_node_affinity(spec: dict[str, Any], fits: bool) -> None:
    target = info(node("n", labels={"disk": "ssd", "cores": "8"}))
    rejection = NodeAffinity().filter(shape(**spec), target)
    assert words(rejection) == (None if fits else ("node(s) didn't match Pod's node affinity/selector",))


def test_preferred_node_affinity_adds_weights() -> None:
    entries = [
        {"weight": 5, "preference": expression("disk", "In", "ssd")},
        {"weight": 7, "preference": expression("disk", "In", "hdd")},
        {"weight": 1, "preference": {}},
    ]
    preferring = shape(affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": entries}})
    assert NodeAffinity().score(preferring, info(node("n", labels={"disk": "ssd"})), Cache()) == 6


def ports(*listed: Obj) -> Obj:
    return {"ports": list(listed)}


PORTS = [
    ({"hostPort": 80}, {"hostPort": 81}, True),
    ({"hostPort": 80}, {"hostPort": 80}, False),
    ({"hostPort": 80, "protocol": "UDP"}, {"hostPort": 80}, True),
    ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80, "hostIP": "10.0.0.2"}, True),
    ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80}, False),
    ({"containerPort": 80}, {"hostPort": 80}, True),
]


@pytest.mark.parametrize(("wanted", "taken", "fits"), PORTS)
def test_host_ports(wanted: Obj, taken: Obj, fits: bool) -> None:
    target = info(node("n"), pod("other", container=ports(taken)))
    rejection = NodePorts().filter(shape(container=ports(wanted)), target)
    assert words(rejection) == (None if fits else ("node(s) didn't have free ports for the requested pod ports",))


FITS: list[tuple[dict[str, Any], tuple[str, ...] | None, bool]] = [
    ({"cpu": "1", "memory": "1Gi"}, None, True),
    ({"cpu": "3"}, ("Insufficient cpu",), True),
    ({"cpu": "5"}, ("Insufficient cpu",), False),
    ({"cpu": "3", "memory": "9Gi"}, ("Insufficient cpu", "Insufficient memory"), False),
    ({"container": {"resources": {"requests": {"example.com/gpu": "1"}}}}, ("Insufficient example.com/gpu",), False),
    ({}, None, True),
]


@pytest.mark.parametrize(("spec", "reasons", "resolvable"), FITS)
def test_resources_fit(spec: dict[str, Any], reasons: tuple[str, ...] | None, resolvable: bool) -> None:
    target = info(node("n", cpu="4", memory="8Gi"), pod("other", cpu="1500m", memory="1Gi"))
    rejection = NodeResourcesFit().filter(shape(**spec), target)
    assert words(rejection) == reasons
    assert rejection is None or rejection.resolvable == resolvable


def test_too_many_pods() -> None:
    target = info(node("n", pods="1", cpu="1"), pod("other"))
    assert words(NodeResourcesFit().filter(shape(cpu="2"), target)) == ("Too many pods", "Insufficient cpu")


def container(cpu: str, **more: str) -> Obj:
    return {"resources": {"requests": {"cpu": cpu}}, **more}


REQUESTS: list[tuple[Obj, int]] = [
    ({"containers": [container("1"), container("500m")]}, 1500),
    ({"containers": [container("1")], "initContainers": [container("3"), container("2")]}, 3000),
    ({"containers": [container("1")], "initContainers": [container("2", restartPolicy="Always")]}, 3000),
    ({"containers": [container("1")],
      "initContainers": [container("2", restartPolicy="Always"), container("4")]}, 6000),
    ({"containers": [container("1")],
      "initContainers": [container("4"), container("2", restartPolicy="Always")]}, 4000),
    ({"containers": [container("1")], "overhead": {"cpu": "250m"}}, 1250),
    ({"containers": [container("1")], "resources": {"requests": {"cpu": "3"}}}, 3000),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "milli"), REQUESTS)
def test_what_a_pod_requests(spec: Obj, milli: int) -> None:
    assert pod_requests(spec) == {"cpu": milli}


def test_scores_prefer_free_and_balanced_nodes() -> None:
    empty, half = info(node("a")), info(node("b"), pod("x", cpu="2", memory="4Gi"))
    lopsided = info(node("c"), pod("y", cpu="3"))
    wanting = shape(cpu="1", memory="2Gi")
    fit, balance = NodeResourcesFit(), NodeResourcesBalancedAllocation()
    assert [fit.score(wanting, each, Cache()) for each in (empty, half)] == [75, 25]
    assert [balance.score(wanting, each, Cache()) for each in (empty, half, lopsided)] == [100, 100, 62]
    assert not balance.scores(shape())


def test_image_locality() -> None:
    cache = cluster(node("a", images={"x:latest": 500 << 20}), node("b"))
    scores = [ImageLocality().score(shape(), cache.nodes[name], cache) for name in ("a", "b")]
    assert scores == [23, 0]  # half of the nodes have it: 250 MiB of 23 … 1000


@pytest.mark.parametrize(
    ("image", "name"),
    [("x", "x:latest"), ("r:5000/x", "r:5000/x:latest"), ("x:1", "x:1"), ("x@sha256:0", "x@sha256:0")],
)
def test_image_names(image: str, name: str) -> None:
    assert normalized_name(image) == name
