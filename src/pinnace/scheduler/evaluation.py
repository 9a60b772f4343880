"""Finds the best node for a pod without looking at every node for every pod.

Judgements are kept per pod shape in heaps, best node first, and made anew only for nodes that changed since; usually
that is the one node the last pod went to. Rules about domains wider than a node are not judged node by node: nodes with
equal domains form a group with a heap of its own, and a decision asks the rules once a group. Normalised scores take
the bounds of all eligible nodes, not of the feasible ones alone, and may lag behind by `DRIFT`.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from weakref import WeakKeyDictionary

from pinnace.scheduler.cache import Cache
from pinnace.scheduler.framework import (
    MAX_SCORE,
    FilterPlugin,
    Normalization,
    Profile,
    Rejection,
    Rule,
    Scope,
    ScorePlugin,
    ScoreRule,
)
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import HOSTNAME, PodShape

DRIFT = 0.12  # how far the scale of a normalised score may move before nodes are judged anew,
DRIFT_POINTS = 2.0  # unless it is less than so many points of MAX_SCORE that the best node gains over the worst
EVALUATIONS = 64
RULE_SETS = 1024

Entry = tuple[float, float, int, NodeInfo]  # minus the score, a random number, the node's version, the node


class _Preference:
    """The score rules of one topology plugin, normalised together; linear in the raw score for given bounds."""

    def __init__(self, weight: int, lowest_first: bool, rules: Sequence[ScoreRule]) -> None:
        self._weight = weight
        self._lowest_first = lowest_first
        self._rules = rules
        self.node_rules = [rule for rule in rules if rule.key == HOSTNAME]
        self.group_rules = [rule for rule in rules if rule.key != HOSTNAME]
        self.factor = 0.0  # for node rules; the one that the heaps were made with

    def current_factor(self) -> float:
        """What one unit of raw score is worth at present."""
        low = sum(rule.bounds()[0] for rule in self._rules)
        high = sum(rule.bounds()[1] for rule in self._rules)
        if self._lowest_first:
            return -self._weight * MAX_SCORE / high if high > 0 else 0.0
        return self._weight * MAX_SCORE / (high - low) if high > low else 0.0

    def drifted(self) -> bool:
        if not self.node_rules:
            return False
        now = self.current_factor()
        change = abs(now - self.factor)
        if change <= DRIFT * max(abs(now), abs(self.factor)):
            return False
        reach = 0.0  # how far apart the raw scores of nodes are
        for rule in self.node_rules:
            low, high = rule.bounds()
            reach += high - low
        return change * reach > DRIFT_POINTS * self._weight


class _Group:
    """Nodes with the same domains."""

    __slots__ = ("heap", "labels")

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels
        self.heap: list[Entry] = []

    def best(self) -> Entry | None:
        """The best entry that still holds; those that do not are dropped."""
        heap = self.heap
        while heap:
            entry = heap[0]
            if entry[3].version == entry[2]:
                return entry
            heapq.heappop(heap)
        return None


class Rules:
    """Everything about topology that holds for a pod shape at present."""

    def __init__(self, profile: Profile, shape: PodShape, cache: Cache) -> None:
        self.filters: list[tuple[str, Rule]] = []
        self.preferences: list[tuple[int, bool, tuple[ScoreRule, ...]]] = []
        for plugin in profile.topology:
            self.filters += [(plugin.name, rule) for rule in plugin.filter_rules(shape, cache)]
            scores = tuple(plugin.score_rules(shape, cache))
            if scores:
                self.preferences.append((plugin.weight, plugin.lowest_first, scores))
        self.identity = tuple(self.filters), tuple(self.preferences)


class Evaluation:
    """The judgement of all nodes for pods that are judged alike."""

    def __init__(self, profile: Profile, cache: Cache, shape: PodShape, rules: Rules) -> None:
        self._cache = cache
        self._shape = shape
        concerned = [plugin for plugin in profile.filter if plugin.concerns(shape)]
        self._node_filters = [plugin for plugin in concerned if plugin.scope is Scope.NODE]
        self._pods_filters = [plugin for plugin in concerned if plugin.scope is Scope.PODS]
        scores = [plugin for plugin in profile.score if plugin.scores(shape)]
        self._pods_scores = [plugin for plugin in scores if plugin.scope is Scope.PODS]
        self._node_scores = [plugin for plugin in scores if plugin.scope is Scope.NODE]
        self._highest = [0] * len(self._node_scores)  # raw scores that the others are measured by
        filters = [rule for _, rule in rules.filters]
        self._node_rules = [rule for rule in filters if HOSTNAME in rule.keys]
        self._group_rules = [rule for rule in filters if HOSTNAME not in rule.keys]
        self._preferences = [_Preference(*preference) for preference in rules.preferences]
        keys = {key for rule in self._group_rules for key in rule.keys}
        keys |= {rule.key for preference in self._preferences for rule in preference.group_rules}
        self._group_keys = sorted(keys)
        self._node_verdicts: dict[NodeInfo, tuple[int, list[int] | None]] = {}  # spec version, raw scores or no
        self._groups: dict[tuple[str | None, ...], _Group] = {}
        self._entries = 0
        self._position = -1  # in the log of changes; -1: judge everything
        self._state: list[Hashable] = []
        self._shaken = False  # a highest score was exceeded while judging

    def choose(self) -> NodeInfo | None:
        """The best feasible node; of equally good ones any."""
        self._catch_up()
        best: tuple[float, float] | None = None
        chosen: NodeInfo | None = None
        factors = [(preference.current_factor(), preference.group_rules) for preference in self._preferences]
        for group in self._groups.values():
            entry = group.best()
            if entry is None or any(rule.filter(group.labels) for rule in self._group_rules):
                continue
            score = -entry[0]
            for factor, rules in factors:
                for rule in rules:
                    score += factor * rule.score(group.labels)
            if best is None or (score, entry[1]) > best:
                best, chosen = (score, entry[1]), entry[3]
        return chosen

    def scores(self) -> dict[str, float]:
        """Every feasible node with its score."""
        self._catch_up()
        factors = [(preference.current_factor(), preference.group_rules) for preference in self._preferences]
        found: dict[str, float] = {}
        for group in self._groups.values():
            if any(rule.filter(group.labels) for rule in self._group_rules):
                continue
            more = sum(factor * rule.score(group.labels) for factor, rules in factors for rule in rules)
            found |= {node.name: more - score for score, _, version, node in group.heap if node.version == version}
        return found

    # Keeping up.

    def _catch_up(self) -> None:
        cache = self._cache
        cache.refresh_counters()
        start = self._position - cache.changes_dropped
        state = [rule.state() for rule in self._node_rules]
        outdated = state != self._state or any(preference.drifted() for preference in self._preferences)
        if self._position < 0 or start < 0 or outdated or self._entries > 4 * len(cache.nodes) + 256:
            self._rebuild(state)
        else:
            for node in dict.fromkeys(cache.changes[start:]):
                self._judge_and_push(node)
            if self._shaken:
                self._rebuild(state)
        self._position = cache.changes_dropped + len(cache.changes)

    def _rebuild(self, state: list[Hashable]) -> None:
        self._state = state
        self._groups.clear()
        self._entries = 0
        self._node_verdicts = {node: seen for node, seen in self._node_verdicts.items() if not node.removed}
        for preference in self._preferences:
            preference.factor = preference.current_factor()
        for index, plugin in enumerate(self._node_scores):
            if plugin.normalization is not Normalization.NONE:
                raw = (verdict[1] for verdict in map(self._node_verdict, self._cache.nodes.values()))
                self._highest[index] = max((scores[index] for scores in raw if scores is not None), default=0)
        self._shaken = False
        for node in self._cache.nodes.values():
            self._judge_and_push(node)
        self._shaken = False

    def _judge_and_push(self, node: NodeInfo) -> None:
        if node.removed:
            self._node_verdicts.pop(node, None)
            return
        score = self._judge(node)
        if score is None:
            return
        labels = node.labels
        key = tuple([labels.get(name) for name in self._group_keys])
        group = self._groups.get(key)
        if group is None:
            named = {name: value for name, value in zip(self._group_keys, key, strict=True) if value is not None}
            group = self._groups[key] = _Group(named)
        heapq.heappush(group.heap, (-score, random.random(), node.version, node))
        self._entries += 1

    # Judging one node.

    def _judge(self, node: NodeInfo) -> float | None:
        """The score without what groups decide; None: not feasible."""
        shape, cache = self._shape, self._cache
        _, raw = self._node_verdict(node)
        if raw is None:
            return None
        for plugin in self._pods_filters:
            if plugin.filter(shape, node) is not None:
                return None
        for rule in self._node_rules:
            if rule.filter(node.labels) is not None:
                return None
        total = 0.0
        for index, scorer in enumerate(self._node_scores):
            total += scorer.weight * self._normalized(index, scorer, raw[index])
        for scorer in self._pods_scores:
            total += scorer.weight * scorer.score(shape, node, cache)
        for preference in self._preferences:
            for score_rule in preference.node_rules:
                total += preference.factor * score_rule.score(node.labels)
        return total

    def _node_verdict(self, node: NodeInfo) -> tuple[int, list[int] | None]:
        """What the node object alone decides: raw scores, or None for not feasible."""
        known = self._node_verdicts.get(node)
        if known is not None and known[0] == node.spec_version:
            return known
        shape = self._shape
        raw: list[int] | None = None
        if all(plugin.filter(shape, node) is None for plugin in self._node_filters):
            raw = [plugin.score(shape, node, self._cache) for plugin in self._node_scores]
        verdict = self._node_verdicts[node] = node.spec_version, raw
        return verdict

    def _normalized(self, index: int, plugin: ScorePlugin, raw: int) -> float:
        if plugin.normalization is Normalization.NONE:
            return raw
        highest = self._highest[index]
        if raw > highest:
            self._highest[index] = highest = raw
            self._shaken = True
        reverse = plugin.normalization is Normalization.HIGHEST_REVERSED
        if not highest:
            return MAX_SCORE if reverse else 0
        share = raw * MAX_SCORE // highest
        return MAX_SCORE - share if reverse else share


class Evaluator:
    """Decides for any pod, and explains when there is no node for one."""

    def __init__(self, profile: Profile, cache: Cache) -> None:
        self._profile = profile
        self._cache = cache
        self._evaluations: OrderedDict[Hashable, Evaluation] = OrderedDict()
        self._rules: OrderedDict[PodShape, tuple[int, Rules]] = OrderedDict()
        # the last explanation for each shape still in use, and the state of the cluster that it is about
        self._explained: WeakKeyDictionary[PodShape, tuple[tuple[int, ...], dict[str, tuple[str, Rejection]]]]
        self._explained = WeakKeyDictionary()

    def choose(self, shape: PodShape) -> NodeInfo | None:
        """The best node for a pod of that shape, None when there is none."""
        return self._evaluation(shape).choose()

    def scores(self, shape: PodShape) -> dict[str, float]:
        """All nodes that would do for a pod of that shape, with their scores."""
        return self._evaluation(shape).scores()

    def _evaluation(self, shape: PodShape) -> Evaluation:
        rules = self._rules_of(shape)
        versioned = shape.claims or shape.resource_claims or shape.extended
        volumes = self._cache.volumes_version if versioned else 0
        identity = shape.node_signature, rules.identity, volumes
        evaluation = self._evaluations.get(identity)
        if evaluation is None:
            evaluation = self._evaluations[identity] = Evaluation(self._profile, self._cache, shape, rules)
            if len(self._evaluations) > EVALUATIONS:
                self._evaluations.popitem(last=False)
        else:
            self._evaluations.move_to_end(identity)
        return evaluation

    def _rules_of(self, shape: PodShape) -> Rules:
        known = self._rules.get(shape)
        if known is not None and known[0] == self._cache.terms_version:
            return known[1]
        rules = Rules(self._profile, shape, self._cache)
        self._rules[shape] = self._cache.terms_version, rules
        if len(self._rules) > RULE_SETS:
            self._rules.popitem(last=False)
        return rules

    def explain(self, shape: PodShape) -> dict[str, tuple[str, Rejection]]:
        """Why each node is not feasible: by node name, the plugin that said no first and its reasons."""
        cache = self._cache
        moment = cache.changes_dropped + len(cache.changes), cache.terms_version, cache.volumes_version
        known = self._explained.get(shape)
        if known is None or known[0] != moment:
            known = self._explained[shape] = moment, self._explain(shape)
        return known[1]

    def asking(self, shape: PodShape) -> Callable[[NodeInfo], Rejection | None]:
        """Asks every filter about one node, as the cluster is at the time of asking; why not, or None."""
        self._cache.refresh_counters()
        concerned = [plugin for plugin in self._profile.filter if plugin.concerns(shape)]
        rules = self._rules_of(shape).filters

        def ask(node: NodeInfo) -> Rejection | None:
            rejected = _first_rejection(shape, node, concerned, rules)
            return rejected[1] if rejected is not None else None

        return ask

    def _explain(self, shape: PodShape) -> dict[str, tuple[str, Rejection]]:
        self._cache.refresh_counters()
        concerned = [plugin for plugin in self._profile.filter if plugin.concerns(shape)]
        rules = self._rules_of(shape).filters
        found = {}
        for node in self._cache.nodes.values():
            rejected = _first_rejection(shape, node, concerned, rules)
            if rejected is not None:
                found[node.name] = rejected
        return found


def _first_rejection(
    shape: PodShape, node: NodeInfo, plugins: Iterable[FilterPlugin], rules: Iterable[tuple[str, Rule]]
) -> tuple[str, Rejection] | None:
    for plugin in plugins:
        rejection = plugin.filter(shape, node)
        if rejection is not None:
            return plugin.name, rejection
    for name, rule in rules:
        rejection = rule.filter(node.labels)
        if rejection is not None:
            return name, rejection
    return None
