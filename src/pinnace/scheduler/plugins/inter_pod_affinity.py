"""Pod affinity and anti-affinity: the pod's own terms, and the terms of pods already there that bear on it.

Specified by https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pinnace.scheduler.cache import Cache, terms_of
from pinnace.scheduler.events import Action, Change, Hint
from pinnace.scheduler.framework import Rejection, Rule
from pinnace.scheduler.handle import Handle
from pinnace.scheduler.pod import HOSTNAME, AffinityTerm, PodInfo, PodShape
from pinnace.scheduler.topology import Counter

_NOT_NEAR = Rejection(("node(s) didn't match pod affinity rules",), resolvable=False)
_TOO_NEAR = Rejection(("node(s) didn't match pod anti-affinity rules",))
_UNWANTED = Rejection(("node(s) didn't satisfy existing pods anti-affinity rules",))


@dataclass(frozen=True, slots=True)
class NearRule:
    """Every term has a pod in the node's domain; the first pod of a group that attracts itself may go anywhere."""

    counters: tuple[Counter, ...]
    attracts_itself: bool

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(counter.key for counter in self.counters)

    def filter(self, labels: Mapping[str, str]) -> Rejection | None:
        near = True
        for counter in self.counters:
            domain = labels.get(counter.key)
            if domain is None:
                return _NOT_NEAR
            near = near and counter.counts.get(domain, 0) > 0
        if near or (self.attracts_itself and not any(counter.total for counter in self.counters)):
            return None
        return _NOT_NEAR

    def state(self) -> tuple[int, ...]:
        if set(self.keys) == {HOSTNAME}:
            return (min(sum(counter.total for counter in self.counters), 1),)
        return tuple(counter.total for counter in self.counters)


@dataclass(frozen=True, slots=True)
class ApartRule:
    """No pod that is counted is in the node's domain."""

    counter: Counter
    rejection: Rejection

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.counter.key,)

    def filter(self, labels: Mapping[str, str]) -> Rejection | None:
        domain = labels.get(self.counter.key)
        return self.rejection if domain is not None and self.counter.counts.get(domain, 0) > 0 else None

    def state(self) -> None:
        return None


@dataclass(frozen=True, slots=True)
class NearScore:
    """The more pods that are counted in the domain the better; the worse with a negative weight."""

    counter: Counter
    weight: int

    @property
    def key(self) -> str:
        return self.counter.key

    def score(self, labels: Mapping[str, str]) -> float:
        domain = labels.get(self.counter.key)
        return self.weight * self.counter.counts.get(domain, 0) if domain is not None else 0

    def bounds(self) -> tuple[float, float]:
        ends = self.weight * self.counter.smallest, self.weight * self.counter.largest
        return min(ends), max(ends)


class InterPodAffinity:
    name = "InterPodAffinity"
    weight = 2
    lowest_first = False

    def __init__(
        self,
        handle: Handle,
        *,
        hard_pod_affinity_weight: int = 1,
        ignore_preferred_terms_of_existing_pods: bool = False,
    ) -> None:
        self._handle = handle
        self._weight_of_required = hard_pod_affinity_weight  # what such a term of another is worth to whom it attracts
        self._ignores_preferences = ignore_preferred_terms_of_existing_pods

    def events_to_register(self) -> list[Hint]:
        return [
            Hint("Pod", Action.ADD | Action.DELETE | Action.UPDATE_LABEL, self._bears_on),
            Hint("Node", Action.ADD | Action.UPDATE_LABEL),
            Hint("Namespace", Action.UPDATE_LABEL),
        ]

    def _bears_on(self, pod: PodInfo, change: Change) -> bool:
        """Whether a pod that came may be one to be near to, or one that went one to keep away from."""
        if Action.UPDATE_LABEL in change.action:
            return True
        other: PodInfo = change.subject
        cache = self._handle.cache
        if any(selects(term, other.shape, cache) for term in pod.shape.affinity):
            return True
        return Action.DELETE in change.action and (
            any(selects(term, other.shape, cache) for term in pod.shape.anti_affinity)
            or any(selects(term, pod.shape, cache) for term in other.shape.anti_affinity)
        )

    def filter_rules(self, shape: PodShape, cache: Cache) -> Sequence[Rule]:
        rules: list[Rule] = []
        if shape.affinity:
            rules.append(_near_rule(shape, cache))
        rules += [ApartRule(_selected(term, cache), _TOO_NEAR) for term in shape.anti_affinity]
        for kind, term in cache.terms:
            if kind == "anti" and selects(term, shape, cache):
                rules.append(ApartRule(_bringing(kind, term, cache), _UNWANTED))
        return rules

    def score_rules(self, shape: PodShape, cache: Cache) -> Sequence[NearScore]:
        rules = [NearScore(_selected(term, cache), term.weight) for term in shape.preferred_affinity]
        if not rules and self._ignores_preferences:
            return ()
        for kind, term in cache.terms:
            weight = {"required": self._weight_of_required, "preferred": term.weight}.get(kind, 0)
            if weight and selects(term, shape, cache):
                rules.append(NearScore(_bringing(kind, term, cache), weight))
        return rules


def selects(term: AffinityTerm, shape: PodShape, cache: Cache) -> bool:
    """Whether a term means pods of that shape."""
    if not term.selector.matches(shape.labels):
        return False
    if shape.namespace in term.namespaces:
        return True
    labels = cache.namespaces.get(shape.namespace, {})
    return term.namespace_selector is not None and term.namespace_selector.matches(labels)


def _selected(term: AffinityTerm, cache: Cache) -> Counter:
    """Counts the pods that the term means."""
    return _selected_by_all(term.key, (term,), cache)


def _selected_by_all(key: str, terms: tuple[AffinityTerm, ...], cache: Cache) -> Counter:
    plain = tuple(replace(term, weight=0) for term in terms)

    def matches(other: PodShape) -> bool:
        return all(selects(term, other, cache) for term in plain)

    return cache.counter(("selected", key, plain), key, matches)


def _near_rule(shape: PodShape, cache: Cache) -> NearRule:
    """A pod is near only when it meets all the terms."""
    counters = tuple(_selected_by_all(term.key, shape.affinity, cache) for term in shape.affinity)
    return NearRule(counters, all(selects(term, shape, cache) for term in shape.affinity))


def _bringing(kind: str, term: AffinityTerm, cache: Cache) -> Counter:
    """Counts the pods that have the term themselves."""
    wanted = (kind, term)
    matches: Callable[[PodShape], bool] = lambda other: wanted in terms_of(other)  # noqa: E731
    return cache.counter(("bringing", kind, term), term.key, matches)
