"""Spreading and pod affinity over small clusters: which nodes remain, which is the best."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.machinery.meta import Obj
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.plugins.pod_topology_spread import PodTopologySpread
from pinnace.scheduler.pod import shape_of
from pinnace.scheduler.profiles import default_profile
from tests.scheduler.objects import (
    affinity_term,
    anti_affinity,
    cluster,
    evaluator,
    feasible,
    handle,
    node,
    pod,
    pod_affinity,
    preferred,
    shape,
    spread,
)

ZONE = "topology.kubernetes.io/zone"
S = {"app": "s"}


def three_zones(**placed: list[Obj]) -> Cache:
    """a1, a2 in zone a, b1 in zone b, c1 in zone c."""
    return cluster(*(node(name, zone=name[0]) for name in ("a1", "a2", "b1", "c1")), **placed)


def some(number: int, **more: Any) -> list[Obj]:
    return [pod(f"s{index}-{id(more)}", labels=S, **more) for index in range(number)]


SPREADS: list[tuple[dict[str, list[Obj]], Obj, set[str]]] = [
    ({}, spread(), {"a1", "a2", "b1", "c1"}),
    ({"a1": some(1)}, spread(), {"b1", "c1"}),
    ({"a1": some(1)}, spread(skew=2), {"a1", "a2", "b1", "c1"}),
    ({"a1": some(1), "b1": some(1), "c1": some(1)}, spread(), {"a1", "a2", "b1", "c1"}),
    ({"a1": some(1)}, spread("kubernetes.io/hostname"), {"a2", "b1", "c1"}),
    ({"a1": some(1), "b1": some(1), "c1": some(1)}, spread(minDomains=4), set()),
    ({"a1": some(1)}, spread("missing"), set()),
    ({"a1": some(1)}, spread(hard=False), {"a1", "a2", "b1", "c1"}),
]


@pytest.mark.parametrize(("placed", "constraint", "expected"), SPREADS)
def test_hard_spreading(placed: dict[str, list[Obj]], constraint: Obj, expected: set[str]) -> None:
    assert feasible(three_zones(**placed), labels=S, topologySpreadConstraints=[constraint]) == expected


def test_nodes_that_the_pod_cannot_use_do_not_count_as_domains() -> None:
    cache = three_zones(a1=some(1), b1=some(1))
    picky = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": ZONE, "operator": "NotIn", "values": ["c"]}]}]}}}  # fmt: skip
    assert feasible(cache, labels=S, topologySpreadConstraints=[spread()], affinity=picky) == {"a1", "a2", "b1"}
    ignoring = [spread(nodeAffinityPolicy="Ignore")]
    assert feasible(cache, labels=S, topologySpreadConstraints=ignoring, affinity=picky) == set()


def test_match_label_keys_separate_revisions() -> None:
    old = {**S, "hash": "1"}
    cache = three_zones(a1=[pod("x", labels=old)])
    constraint = spread(matchLabelKeys=["hash"])
    assert feasible(cache, labels=old, topologySpreadConstraints=[constraint]) == {"b1", "c1"}
    new = {**S, "hash": "2"}
    assert feasible(cache, labels=new, topologySpreadConstraints=[constraint]) == {"a1", "a2", "b1", "c1"}


def test_soft_spreading_prefers_the_emptier_domain() -> None:
    cache = three_zones(a1=some(2), b1=some(2))
    chosen = evaluator(cache).choose(shape(labels=S, topologySpreadConstraints=[spread(hard=False)]))
    assert chosen is cache.nodes["c1"]


AFFINITIES: list[tuple[dict[str, list[Obj]], Obj, dict[str, str], set[str]]] = [
    # anti-affinity of the pod itself
    ({"a1": some(1)}, anti_affinity(affinity_term()), S, {"a2", "b1", "c1"}),
    ({"a1": some(1)}, anti_affinity(affinity_term(ZONE)), S, {"b1", "c1"}),
    # of the pod that is there
    ({"a1": some(1, affinity=anti_affinity(affinity_term(ZONE)))}, {}, S, {"b1", "c1"}),
    ({"a1": some(1, affinity=anti_affinity(affinity_term(ZONE)))}, {}, {"app": "t"}, {"a1", "a2", "b1", "c1"}),
    # affinity
    ({"a1": some(1)}, pod_affinity(affinity_term(ZONE)), {"app": "t"}, {"a1", "a2"}),
    ({}, pod_affinity(affinity_term(ZONE)), {"app": "t"}, set()),
    ({}, pod_affinity(affinity_term(ZONE)), S, {"a1", "a2", "b1", "c1"}),
    ({"a1": some(1)}, pod_affinity(affinity_term(), affinity_term(ZONE)), {"app": "t"}, {"a1"}),
    # namespaces
    ({"a1": some(1)}, pod_affinity(affinity_term(namespaces=["other"])), {"app": "t"}, set()),
    ({"a1": some(1)}, anti_affinity(affinity_term(namespaceSelector={})), S, {"a2", "b1", "c1"}),
    ({"a1": some(1)}, anti_affinity(affinity_term(namespaceSelector={"matchLabels": {"team": "b"}})), S,
     {"a1", "a2", "b1", "c1"}),
]  # fmt: skip


@pytest.mark.parametrize(("placed", "affinity", "labels", "expected"), AFFINITIES)
def test_required_pod_affinity(
    placed: dict[str, list[Obj]], affinity: Obj, labels: dict[str, str], expected: set[str]
) -> None:
    assert feasible(three_zones(**placed), labels=labels, affinity=affinity) == expected


PREFERENCES: list[tuple[dict[str, list[Obj]], Obj, set[str]]] = [
    ({"b1": some(1)}, preferred("podAffinity", affinity_term(ZONE)), {"b1"}),
    ({"a1": some(1), "b1": some(1)}, preferred("podAntiAffinity", affinity_term(ZONE)), {"c1"}),
    ({"c1": some(1, affinity=preferred("podAffinity", affinity_term(ZONE, "t")))}, {}, {"c1"}),
    ({"c1": some(1, affinity=pod_affinity(affinity_term(ZONE, "t")))}, {}, {"c1"}),
]


@pytest.mark.parametrize(("placed", "affinity", "best"), PREFERENCES)
def test_preferred_pod_affinity(placed: dict[str, list[Obj]], affinity: Obj, best: set[str]) -> None:
    chosen = evaluator(three_zones(**placed)).choose(shape(labels={"app": "t"}, affinity=affinity))
    assert chosen is not None
    assert chosen.name in best


def test_changed_namespace_labels_count_at_once() -> None:
    cache = three_zones(a1=some(1))
    terms = anti_affinity(affinity_term(namespaceSelector={"matchLabels": {"team": "z"}}))
    deciding = evaluator(cache)
    wanting = shape(labels=S, affinity=terms)
    assert not deciding.explain(wanting)
    cache.set_namespace("default", {"team": "z"})
    assert set(deciding.explain(wanting)) == {"a1"}


def service(**selector: str) -> Obj:
    return {"metadata": {"name": "s", "namespace": "default"}, "spec": {"selector": selector}}


def replica_set(**selector: str) -> Obj:
    return {"metadata": {"name": "rs", "namespace": "default"}, "spec": {"selector": {"matchLabels": selector}}}


OWNED = [{"kind": "ReplicaSet", "name": "rs", "uid": "u", "controller": True}]
SIBLINGS: list[tuple[dict[str, list[Obj]], bool, set[str]]] = [
    ({}, False, {"a1", "b1", "c1"}),
    ({"services": [service(app="s")]}, False, {"c1"}),
    ({"services": [service(app="other")]}, False, {"a1", "b1", "c1"}),
    ({"replicasets": [replica_set(app="s")]}, True, {"c1"}),
]


@pytest.mark.parametrize(("objects", "owned", "best"), SIBLINGS)
def test_pods_of_a_service_or_an_owner_spread_by_default(
    objects: dict[str, list[Obj]], owned: bool, best: set[str]
) -> None:
    cache = cluster(*(node(name, zone=name[0]) for name in ("a1", "b1", "c1")), a1=some(1), b1=some(1))
    deciding = evaluator(cache, default_profile(handle(cache, **objects)))
    asking = pod(labels=S, container={"image": ""})
    if owned:
        asking["metadata"]["ownerReferences"] = OWNED
    rules = deciding._rules_of(shape_of(asking))
    assert bool(rules.preferences) is (best == {"c1"})
    chosen = deciding.choose(shape_of(asking))
    assert chosen is not None
    assert chosen.name in best


def test_default_constraints_of_a_configuration_filter_too() -> None:
    cache = three_zones(a1=some(1))
    defaults = [{"topologyKey": ZONE, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}]
    profile = default_profile(handle(cache))
    profile.topology = [PodTopologySpread(handle(cache, services=[service(app="s")]), default_constraints=defaults)]
    deciding = evaluator(cache, profile)
    assert set(deciding.explain(shape(labels=S))) == {"a1", "a2"}
    assert not deciding.explain(shape(labels={"app": "t"}))
