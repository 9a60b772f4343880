"""Which pods make room for a critical one on a node that has none: as few as possible, of the lowest class of quality.

Pure. Only what a critical pod lacks is freed; pods that are critical themselves stay. Specified by
https://kubernetes.io/docs/tasks/administer-cluster/guaranteed-scheduling-critical-addon-pods/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pinnace.kubelet.eviction.ranking import is_critical, priority
from pinnace.kubelet.pods import BEST_EFFORT, BURSTABLE, GUARANTEED, amount_of, qos_class, resource_requests
from pinnace.machinery.meta import Obj
from pinnace.machinery.metrics import Counter

REASON = "Preempting"
MESSAGE = "Preempted in order to admit critical pod"
DISRUPTION = "Pod was preempted by Kubelet to accommodate a critical pod."

Amounts = dict[str, int]

preemptions = Counter(
    "kubelet_preemptions", "Cumulative number of pod preemptions by preemption resource", ("preemption_signal",)
)


def lacking(pod: Obj, others: Iterable[Obj], allocatable: Mapping[str, str]) -> Amounts:
    """What must be freed of each resource for the pod to fit."""
    used: Amounts = {}
    for one in others:
        for name, amount in _takes(one).items():
            used[name] = used.get(name, 0) + amount
    missing = {}
    for name, amount in _takes(pod).items():
        has = amount_of(name, allocatable[name]) if name in allocatable else 0
        short = used.get(name, 0) + amount - has
        if amount > 0 and short > 0:
            missing[name] = short
    return missing


def _takes(pod: Obj) -> Amounts:
    return {"pods": 1, **resource_requests(pod)}


def victims(pod: Obj, others: Iterable[Obj], missing: Amounts) -> list[Obj] | None:
    """The pods to end, so that what is missing is free; None where ending all that may be would not do."""
    may_go = [one for one in others if _preemptable(pod, one)]
    classes = {name: [one for one in may_go if qos_class(one) == name] for name in (GUARANTEED, BURSTABLE, BEST_EFFORT)}
    if _left(missing, may_go):
        return None
    # Of a better class only what all of the worse ones together cannot free.
    guaranteed = _nearest(classes[GUARANTEED], _left(missing, classes[BURSTABLE] + classes[BEST_EFFORT]))
    burstable = _nearest(classes[BURSTABLE], _left(missing, classes[BEST_EFFORT] + guaranteed))
    best_effort = _nearest(classes[BEST_EFFORT], _left(missing, burstable + guaranteed))
    return [*best_effort, *burstable, *guaranteed]


def _preemptable(pod: Obj, other: Obj) -> bool:
    if is_critical(pod) and not is_critical(other):
        return True
    return priority(pod) > priority(other)


def _left(missing: Amounts, ended: Iterable[Obj]) -> Amounts:
    """What is missing still once some pods have ended."""
    left = dict(missing)
    for one in ended:
        for name, amount in _takes(one).items():
            if name in left:
                left[name] -= amount
    return {name: amount for name, amount in left.items() if amount > 0}


def _nearest(pods: list[Obj], missing: Amounts) -> list[Obj]:
    """Pods one by one, each the one that leaves the least missing and wastes the least."""
    chosen: list[Obj] = []
    rest = list(pods)
    while missing and rest:
        best = min(rest, key=lambda one: (_distance(missing, one), sum(_takes(one).values()), priority(one)))
        rest.remove(best)
        chosen.append(best)
        missing = _left(missing, [best])
    return chosen


def _distance(missing: Amounts, pod: Obj) -> float:
    """How far one pod is from freeing all that is missing: 0 where it does."""
    takes = _takes(pod)
    return sum((max(0, amount - takes.get(name, 0)) / amount) ** 2 for name, amount in missing.items())
