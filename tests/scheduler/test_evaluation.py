"""Decisions made from kept judgements are those that looking at every node afresh would give."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pinnace.machinery.meta import Obj
from pinnace.scheduler.cache import LOG_LENGTH, Cache
from pinnace.scheduler.diagnosis import failure_message
from pinnace.scheduler.evaluation import Evaluator
from pinnace.scheduler.pod import PodInfo, shape_of
from tests.scheduler.objects import (
    affinity_term,
    anti_affinity,
    cluster,
    evaluator,
    info,
    node,
    pod,
    pod_affinity,
    preferred,
    shape,
    spread,
)

ZONE = "topology.kubernetes.io/zone"
S = {"app": "s"}
KINDS: list[Obj] = [
    pod(cpu="1"),
    pod(cpu="3", memory="1Gi"),
    pod(labels=S, topologySpreadConstraints=[spread()]),
    pod(labels=S, topologySpreadConstraints=[spread("kubernetes.io/hostname")]),
    pod(labels=S, topologySpreadConstraints=[spread(hard=False), spread("kubernetes.io/hostname", hard=False)]),
    pod(labels=S, affinity=anti_affinity(affinity_term())),
    pod(labels=S, affinity=anti_affinity(affinity_term(ZONE))),
    pod(labels=S, affinity=pod_affinity(affinity_term(ZONE))),
    pod(labels=S, affinity=pod_affinity(affinity_term(ZONE), affinity_term())),
    pod(labels={"app": "t"}, affinity=preferred("podAffinity", affinity_term(ZONE))),
    pod(labels=S),
    pod(container={"ports": [{"hostPort": 80}]}),
    pod(nodeSelector={ZONE: "a"}),
    pod(tolerations=[{"key": "t", "operator": "Exists"}]),
]
NAMES = ["n1", "n2", "n3", "n4", "n5"]


class Decisions(RuleBasedStateMachine):
    """Nodes and pods come, change and go; after every step each kind of pod is decided for."""

    @initialize()
    def begin(self) -> None:
        self.cache = Cache()
        self.deciding = evaluator(self.cache)
        self.placed: list[PodInfo] = []
        self.count = 0

    @rule(
        name=st.sampled_from(NAMES),
        zone=st.sampled_from(["a", "b"]),
        cpu=st.sampled_from(["2", "8"]),
        taint=st.sampled_from([None, "NoSchedule", "PreferNoSchedule"]),
        cordoned=st.booleans(),
    )
    def set_node(self, name: str, zone: str, cpu: str, taint: str | None, cordoned: bool) -> None:
        taints = [{"key": "t", "effect": taint}] if taint else []
        self.cache.set_node(node(name, zone=zone, cpu=cpu, taints=taints, unschedulable=cordoned))

    @rule(name=st.sampled_from(NAMES))
    def remove_node(self, name: str) -> None:
        self.cache.remove_node(name)

    @rule(kind=st.sampled_from(KINDS), where=st.sampled_from([None, *NAMES]))
    def place(self, kind: Obj, where: str | None) -> None:
        """Put a pod where the scheduler wants it, or where somebody else did."""
        self.count += 1
        made = PodInfo.of({**kind, "metadata": {**kind["metadata"], "name": f"p{self.count}"}})
        chosen = self.deciding.choose(made.shape)
        target = where or (chosen.name if chosen else None)
        if target is not None:
            self.cache.assume(made, target)
            self.placed.append(made)

    @rule(index=st.integers(0, 100))
    def take_away(self, index: int) -> None:
        if self.placed:
            self.cache.remove_pod(self.placed.pop(index % len(self.placed)).key)

    @invariant()
    def every_decision_is_right(self) -> None:
        if not hasattr(self, "cache"):
            return
        fresh = self.fresh()
        for kind in KINDS:
            wanted = shape_of(kind)
            chosen = self.deciding.choose(wanted)
            rejected = fresh.explain(wanted)
            fits = set(self.cache.nodes) - set(rejected)
            assert (chosen.name in fits) if chosen is not None else not fits

    def fresh(self) -> Evaluator:
        """An evaluator of a cluster built anew from what is there."""
        cache = Cache()
        for name, there in self.cache.nodes.items():
            made = node(
                name, zone=there.labels[ZONE], cpu=str(there.allocatable["cpu"] // 1000), taints=there.taints,
                unschedulable=there.unschedulable,
            )  # fmt: skip
            cache.set_node(made)
        for each in self.placed:
            cache.assume(each, self.cache.node_of(each.key))
        return evaluator(cache)


Decisions.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestDecisions = Decisions.TestCase


def test_pods_go_where_most_is_free() -> None:
    cache = cluster(node("a", cpu="8"), node("b", cpu="8"), a=[pod("x", cpu="4")])
    deciding = evaluator(cache)
    for number, expected in enumerate(["b", "b", "b", "b"]):
        chosen = deciding.choose(shape(cpu="1"))
        assert chosen is not None
        assert chosen.name == expected
        cache.assume(PodInfo.of(pod(f"p{number}", cpu="1")), chosen.name)


def test_many_alike_spread_evenly() -> None:
    cache = cluster(*(node(f"n{index}", cpu="32") for index in range(20)))
    deciding = evaluator(cache)
    for number in range(200):
        made = PodInfo.of(pod(f"p{number}", cpu="1"))
        chosen = deciding.choose(made.shape)
        assert chosen is not None
        cache.assume(made, chosen.name)
    assert {len(each.pods) for each in cache.nodes.values()} == {10}


def test_why_not() -> None:
    taint = {"key": "key", "value": "value", "effect": "NoSchedule"}
    cache = cluster(node("a", cpu="1"), node("b", taints=[taint]), node("c", taints=[taint]))
    rejected = evaluator(cache).explain(shape(cpu="2"))
    message = failure_message(3, (rejection.reasons for _, rejection in rejected.values()), "preemption: none.")
    assert message == (
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). preemption: none."
    )


def test_node_that_was_made_again_is_judged_again() -> None:
    """Whatever was known of its predecessor: here a judgement made while everything was judged anew."""
    cache = cluster(node("a"))
    deciding = evaluator(cache)
    wanted = shape(labels=S, topologySpreadConstraints=[spread("kubernetes.io/hostname")])
    assert deciding.choose(wanted) is cache.nodes["a"]
    cache.remove_node("a")
    for _ in range(LOG_LENGTH + 1):  # the log forgets the removal, so all is judged anew
        cache.changes.append(cache.nodes.get("a") or info(node("other")))
    cache.changes_dropped += LOG_LENGTH
    del cache.changes[:LOG_LENGTH]
    assert deciding.choose(wanted) is None
    cache.set_node(node("a", unschedulable=True))
    assert deciding.choose(wanted) is None
