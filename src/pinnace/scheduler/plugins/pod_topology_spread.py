"""Spreads pods over topology domains: `DoNotSchedule` constraints filter, `ScheduleAnyway` constraints score.

Specified by https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from pinnace.apis.core.node_selection import node_selector_matches, untolerated
from pinnace.apis.resources import REPLICA_SETS, REPLICATION_CONTROLLERS, SERVICES, STATEFUL_SETS
from pinnace.machinery.meta import Obj, get_in, namespace_of
from pinnace.machinery.selectors import LabelSelector
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.events import Action, Change, Hint
from pinnace.scheduler.framework import Rejection
from pinnace.scheduler.handle import Handle
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo, PodShape, SpreadConstraint
from pinnace.scheduler.topology import Counter

_OWNERS = {
    "ReplicaSet": REPLICA_SETS,
    "ReplicationController": REPLICATION_CONTROLLERS,
    "StatefulSet": STATEFUL_SETS,
}

_SKEWED = Rejection(("node(s) didn't match pod topology spread constraints",))
_NO_LABEL = Rejection(
    ("node(s) didn't match pod topology spread constraints (missing required label)",), resolvable=False
)


@dataclass(frozen=True, slots=True)
class SkewRule:
    """No domain may have more than `max_skew` pods above the domain with the fewest."""

    counter: Counter
    max_skew: int
    min_domains: int
    itself: int  # 1 when the pod is one of those counted

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.counter.key,)

    def filter(self, labels: Mapping[str, str]) -> Rejection | None:
        domain = labels.get(self.counter.key)
        if domain is None:
            return _NO_LABEL
        skew = self.counter.counts.get(domain, 0) + self.itself - self.state()
        return _SKEWED if skew > self.max_skew else None

    def state(self) -> int:
        """The fewest pods of any domain; 0 while there are fewer domains than asked for."""
        return self.counter.smallest if len(self.counter.counts) >= self.min_domains else 0


@dataclass(frozen=True, slots=True)
class SpreadScore:
    """The fewer pods in a domain the better; rare domains weigh less than many."""

    counter: Counter
    max_skew: int

    @property
    def key(self) -> str:
        return self.counter.key

    def score(self, labels: Mapping[str, str]) -> float:
        domain = labels.get(self.counter.key)
        if domain is None:
            return self.bounds()[1]  # a node outside all domains comes last
        return self._worth(self.counter.counts.get(domain, 0))

    def bounds(self) -> tuple[float, float]:
        return self._worth(self.counter.smallest), self._worth(self.counter.largest)

    def _worth(self, count: int) -> float:
        return count * math.log(len(self.counter.counts) + 2) + self.max_skew - 1


SYSTEM_DEFAULTS: tuple[Obj, ...] = (
    {"topologyKey": "kubernetes.io/hostname", "maxSkew": 3, "whenUnsatisfiable": "ScheduleAnyway"},
    {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 5, "whenUnsatisfiable": "ScheduleAnyway"},
)


class PodTopologySpread:
    """Pods without constraints of their own get default ones, which count the pods of their Services and owners."""

    name = "PodTopologySpread"
    weight = 2
    lowest_first = True

    def __init__(self, handle: Handle, *, default_constraints: Sequence[Obj] | None = None) -> None:
        self._handle = handle
        self._by_system = default_constraints is None
        self._defaults = SYSTEM_DEFAULTS if default_constraints is None else tuple(default_constraints)

    def events_to_register(self) -> list[Hint]:
        return [
            Hint("Pod", Action.ADD | Action.DELETE | Action.UPDATE_LABEL, _counts),
            Hint("Node", Action.ADD | Action.DELETE | Action.UPDATE_LABEL | Action.UPDATE_TAINT),
        ]

    def filter_rules(self, shape: PodShape, cache: Cache) -> Sequence[SkewRule]:
        hard = [constraint for constraint in self._constraints(shape) if constraint.hard]
        return [
            SkewRule(
                _counter(shape, constraint, hard, cache),
                constraint.max_skew,
                constraint.min_domains,
                int(constraint.selector.matches(shape.labels)),
            )
            for constraint in hard
        ]

    def score_rules(self, shape: PodShape, cache: Cache) -> Sequence[SpreadScore]:
        soft = [constraint for constraint in self._constraints(shape) if not constraint.hard]
        together = soft if shape.spread or not self._by_system else []  # nodes may lack what the system's defaults name
        return [SpreadScore(_counter(shape, constraint, together, cache), constraint.max_skew) for constraint in soft]

    def _constraints(self, shape: PodShape) -> Sequence[SpreadConstraint]:
        if shape.spread or not self._defaults:
            return shape.spread
        selector = self._siblings(shape)
        return [default_constraint(one, selector) for one in self._defaults] if selector is not None else ()

    def _siblings(self, shape: PodShape) -> LabelSelector | None:
        """Selects the pods of the same Services and owner; None when the pod has neither."""
        labels: dict[str, str] = {}
        for service in self._handle.objects(SERVICES).list() if shape.labels else ():
            wanted = get_in(service, "spec", "selector")
            if wanted and namespace_of(service) == shape.namespace and wanted.items() <= shape.labels.items():
                labels |= wanted
        found: Obj = {"matchLabels": labels} if labels else {}
        if shape.owner is not None:
            kind, key = shape.owner
            owner = self._handle.objects(_OWNERS[kind]).get(key)
            selector = get_in(owner, "spec", "selector") if owner is not None else None
            if selector and kind == "ReplicationController":
                selector = {"matchLabels": selector}
            if selector:
                found = {
                    "matchLabels": labels | (selector.get("matchLabels") or {}),
                    "matchExpressions": selector.get("matchExpressions") or [],
                }
        return LabelSelector.from_json(found) if found else None


def default_constraint(found: Obj, selector: LabelSelector) -> SpreadConstraint:
    """A constraint of the scheduler's configuration, for the pods that `selector` means."""
    return SpreadConstraint(
        key=found["topologyKey"],
        max_skew=found["maxSkew"],
        hard=found["whenUnsatisfiable"] == "DoNotSchedule",
        selector=selector,
        min_domains=1,
        honor_affinity=True,
        honor_taints=False,
    )


def _counter(shape: PodShape, constraint: SpreadConstraint, together: list[SpreadConstraint], cache: Cache) -> Counter:
    """Counts the pods that a constraint selects, in its namespace, on nodes that the pod could use."""
    namespace, selector = shape.namespace, constraint.selector
    keys = tuple(sorted({other.key for other in together}))
    selection = orjson.dumps([shape.node_selector, shape.required_node_terms]) if constraint.honor_affinity else b""
    tolerations = orjson.dumps(shape.tolerations) if constraint.honor_taints else b""
    identity: Hashable = ("spread", constraint.key, namespace, selector, keys, selection, tolerations)

    def matches(other: PodShape) -> bool:
        return other.namespace == namespace and selector.matches(other.labels)

    return cache.counter(identity, constraint.key, matches, _eligible(shape, constraint, keys))


def _eligible(shape: PodShape, constraint: SpreadConstraint, keys: tuple[str, ...]) -> Callable[[NodeInfo], bool]:
    """Whether a node takes part: it has all the keys and, as the constraint says, suits the pod."""

    def eligible(node: NodeInfo) -> bool:
        if any(key not in node.labels for key in keys):
            return False
        if constraint.honor_affinity and not node_selector_matches(
            shape.node_selector, shape.required_node_terms, node.name, node.labels
        ):
            return False
        return not constraint.honor_taints or (
            untolerated(node.taints, shape.tolerations, ("NoSchedule", "NoExecute")) is None
        )

    return eligible


def _counts(pod: PodInfo, change: Change) -> bool:
    """Whether the pod that came, went or has other labels can move the counts."""
    other: PodInfo = change.subject
    if other.namespace != pod.namespace:
        return False
    return Action.UPDATE_LABEL in change.action or any(
        constraint.selector.matches(other.shape.labels) for constraint in pod.shape.spread
    )
