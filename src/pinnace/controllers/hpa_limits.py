"""How fast a HorizontalPodAutoscaler may go where its metrics point: stabilization windows, policies, bounds.

Pure functions over what was recommended and done before. Specified by
https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#configurable-scaling-behavior.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from pinnace.machinery.meta import Obj

_WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")
_TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
_TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_TOO_FAST_UP = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
_TOO_FAST_DOWN = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
_READY = ("ReadyForNewScale", "recommended size matches current size")
_HELD_DOWN = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
_HELD_UP = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
)
_MAX_INT32 = 2**31 - 1


class Moment(NamedTuple):
    """Something of the past: replicas that were recommended, or by how many there became more or fewer."""

    when: datetime
    replicas: int


@dataclass(slots=True)
class History:
    """What one autoscaler has found and done; lost with the process, as in Kubernetes."""

    recommendations: list[Moment] = field(default_factory=list)
    ups: list[Moment] = field(default_factory=list)
    downs: list[Moment] = field(default_factory=list)

    def recommend(self, replicas: int, now: datetime, seconds: float) -> None:
        """Note a recommendation, and forget those older than so many seconds."""
        self.recommendations = [*since(self.recommendations, now, seconds), Moment(now, replicas)]

    def scaled(self, before: int, after: int, now: datetime, behavior: Obj | None) -> None:
        """Note a change; without behaviour nobody asks."""
        if behavior is None:
            return
        if after > before:
            self.ups = [*since(self.ups, now, _longest(behavior["scaleUp"])), Moment(now, after - before)]
        else:
            self.downs = [*since(self.downs, now, _longest(behavior["scaleDown"])), Moment(now, before - after)]


class Bounds(NamedTuple):
    current: int
    minimum: int
    maximum: int


class Decision(NamedTuple):
    """How many replicas there are to be, with reason and message of AbleToScale and ScalingLimited."""

    replicas: int
    able: tuple[str, str]
    limited: bool
    limit: tuple[str, str]


def since(moments: Iterable[Moment], now: datetime, seconds: float) -> list[Moment]:
    """Those of the last so many seconds."""
    return [moment for moment in moments if moment.when > now - timedelta(seconds=seconds)]


def _longest(rules: Obj) -> int:
    return max((policy["periodSeconds"] for policy in rules.get("policies") or ()), default=0)


def windows(behavior: Obj | None, default_down: float) -> tuple[float, float]:
    """Seconds for which low recommendations hold back a scale-up, and high ones a scale-down."""
    if behavior is None:
        return 0.0, default_down
    up = behavior["scaleUp"].get("stabilizationWindowSeconds") or 0
    down = behavior["scaleDown"].get("stabilizationWindowSeconds")
    return float(up), default_down if down is None else float(down)


def decide(
    desired: int, bounds: Bounds, behavior: Obj | None, history: History, default_down: float, now: datetime
) -> Decision:
    """What becomes of the number that the metrics call for."""
    up, down = windows(behavior, default_down)
    lately_down = [moment.replicas for moment in since(history.recommendations, now, down)]
    if behavior is None:
        stable, held = max([desired, *lately_down]), _HELD_UP
        allowed, limit = _within_doubling(stable, bounds)
    else:
        lately_up = [moment.replicas for moment in since(history.recommendations, now, up)]
        stable = min(max(bounds.current, min([desired, *lately_up])), max([desired, *lately_down]))
        held = _HELD_DOWN if desired >= bounds.current else _HELD_UP
        allowed, limit = _within_policies(stable, bounds, behavior, history, now)
    return Decision(allowed, held if stable != desired else _READY, allowed != stable, limit)


def _within_doubling(desired: int, bounds: Bounds) -> tuple[int, tuple[str, str]]:
    """Without behaviour: at most twice as many, or four."""
    fastest = max(2 * bounds.current, 4)
    most, why = (fastest, _TOO_FAST_UP) if bounds.maximum > fastest else (bounds.maximum, _TOO_MANY)
    if desired < bounds.minimum:
        return bounds.minimum, _TOO_FEW
    if desired > most:
        return most, why
    return desired, _WITHIN


def _within_policies(
    desired: int, bounds: Bounds, behavior: Obj, history: History, now: datetime
) -> tuple[int, tuple[str, str]]:
    current, minimum, maximum = bounds
    if desired > current:
        fastest = max(current, _up_limit(current, behavior["scaleUp"], history, now))
        most, why = (fastest, _TOO_FAST_UP) if maximum > fastest else (maximum, _TOO_MANY)
        if desired > most:
            return most, why
    elif desired < current:
        fastest = min(current, _down_limit(current, behavior["scaleDown"], history, now))
        least, why = (fastest, _TOO_FAST_DOWN) if minimum < fastest else (minimum, _TOO_FEW)
        if desired < least:
            return least, why
    return desired, _WITHIN


def _at_start(current: int, period: int, history: History, now: datetime) -> int:
    """How many replicas there were when the period began."""
    added = sum(moment.replicas for moment in since(history.ups, now, period))
    taken = sum(moment.replicas for moment in since(history.downs, now, period))
    return current - added + taken


def _up_limit(current: int, rules: Obj, history: History, now: datetime) -> int:
    if rules.get("selectPolicy") == "Disabled":
        return current
    limits = []
    for policy in rules.get("policies") or ():
        start = _at_start(current, policy["periodSeconds"], history, now)
        percent = math.ceil(start * (1 + policy["value"] / 100))
        limits.append(start + policy["value"] if policy["type"] == "Pods" else percent)
    select = min if rules.get("selectPolicy") == "Min" else max
    return select(limits, default=_MAX_INT32)


def _down_limit(current: int, rules: Obj, history: History, now: datetime) -> int:
    if rules.get("selectPolicy") == "Disabled":
        return current
    limits = []
    for policy in rules.get("policies") or ():
        start = _at_start(current, policy["periodSeconds"], history, now)
        percent = math.trunc(start * (1 - policy["value"] / 100))
        limits.append(start - policy["value"] if policy["type"] == "Pods" else percent)
    select = max if rules.get("selectPolicy") == "Min" else min
    return select(limits, default=0)
