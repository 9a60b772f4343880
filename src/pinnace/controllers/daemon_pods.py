"""Which nodes a DaemonSet's pods belong on, and which pods come and go there: now, and while it is rolled out.

Pure functions over a DaemonSet, nodes and pods. Specified by
https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/ and
https://kubernetes.io/docs/tasks/manage-daemon/update-daemon-set/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from pinnace.apis.core.node_selection import node_selector_matches, untolerated
from pinnace.controllers.pods import from_template, is_available, is_ready, phase
from pinnace.controllers.revisions import HASH_LABEL
from pinnace.controllers.rollout import scaled
from pinnace.machinery.meta import Obj, annotations_of, get_in, is_deleting, labels_of, name_of, uid_of

GENERATION = "deprecated.daemonset.template.generation"  # annotation of a DaemonSet
GENERATION_LABEL = "pod-template-generation"  # of its pods

ByNode = Mapping[str, Sequence[Obj]]
"""A DaemonSet's pods by the name of the node they are for."""

# Pods.


def _tolerations(host_network: bool) -> list[Obj]:
    """What every daemon's pod puts up with."""
    found = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute"}
        for key in ("not-ready", "unreachable")
    ]
    keys = ["disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"]
    keys += ["network-unavailable"] if host_network else []
    return found + [{"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoSchedule"} for key in keys]


def tolerations_of(daemon_set: Obj) -> list[Obj]:
    """The template's tolerations and those that every daemon has."""
    spec = daemon_set["spec"]["template"].get("spec") or {}
    own = list(spec.get("tolerations") or ())
    return own + [one for one in _tolerations(bool(spec.get("hostNetwork"))) if one not in own]


def make_pod(daemon_set: Obj, node: str, digest: str) -> Obj:
    """The pod for one node: the scheduler places it there, because nothing else fits its affinity."""
    pod = from_template(daemon_set["spec"]["template"], daemon_set)
    labels = {**pod["metadata"].get("labels", {}), HASH_LABEL: digest}
    if generation_of(daemon_set):
        labels[GENERATION_LABEL] = generation_of(daemon_set)
    affinity = dict(pod["spec"].get("affinity") or {})
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    affinity["nodeAffinity"] = {**(affinity.get("nodeAffinity") or {}), **required}
    spec = {**pod["spec"], "affinity": affinity, "tolerations": tolerations_of(daemon_set)}
    return {**pod, "metadata": {**pod["metadata"], "labels": labels}, "spec": spec}


def generation_of(daemon_set: Obj) -> str:
    return annotations_of(daemon_set).get(GENERATION, "")


def is_updated(daemon_set: Obj, pod: Obj, digest: str) -> bool:
    """Whether the pod was made from the present template."""
    labels, generation = labels_of(pod), generation_of(daemon_set)
    return labels.get(HASH_LABEL) == digest or bool(generation and labels.get(GENERATION_LABEL) == generation)


def target_node(pod: Obj) -> str:
    """The node a daemon's pod is on, or is to be on; empty where that cannot be told."""
    name: str = get_in(pod, "spec", "nodeName", default="")
    if name:
        return name
    required = get_in(
        pod, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", default={}
    )
    for term in required.get("nodeSelectorTerms") or ():
        for one in term.get("matchFields") or ():
            if one["key"] == "metadata.name" and one["operator"] == "In" and len(one.get("values") or ()) == 1:
                return str(one["values"][0])
    return ""


def by_node(pods: Iterable[Obj]) -> dict[str, list[Obj]]:
    """The pods by node, oldest first; those that have ended and are being deleted hold no place."""
    found: dict[str, list[Obj]] = {}
    for pod in sorted(pods, key=_age):
        ended = phase(pod) in ("Succeeded", "Failed") and is_deleting(pod)
        node = target_node(pod)
        if node and not ended:
            found.setdefault(node, []).append(pod)
    return found


def _age(pod: Obj) -> tuple[bool, str, str]:
    """Pods on a node before pods on their way to it, then by age."""
    return not get_in(pod, "spec", "nodeName"), pod["metadata"].get("creationTimestamp", ""), name_of(pod)


# Nodes.


class Fit(NamedTuple):
    """Whether a daemon should come to a node, and whether one that is there may stay."""

    should_run: bool
    may_stay: bool


def fit(daemon_set: Obj, node: Obj) -> Fit:
    spec = daemon_set["spec"]["template"].get("spec") or {}
    if spec.get("nodeName") and spec["nodeName"] != name_of(node):
        return Fit(should_run=False, may_stay=False)
    required = get_in(spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    terms = required.get("nodeSelectorTerms") or () if required is not None else None
    if not node_selector_matches(spec.get("nodeSelector") or {}, terms, name_of(node), labels_of(node)):
        return Fit(should_run=False, may_stay=False)
    taints, tolerations = get_in(node, "spec", "taints", default=()), tolerations_of(daemon_set)
    if untolerated(taints, tolerations, ("NoExecute", "NoSchedule")) is None:
        return Fit(should_run=True, may_stay=True)
    return Fit(should_run=False, may_stay=untolerated(taints, tolerations, ("NoExecute",)) is None)


# What to do.


@dataclass(slots=True)
class Step:
    """Nodes that need a pod, and pods that must go; `ended` are those among them that ended by themselves."""

    nodes: list[str] = field(default_factory=list)
    doomed: list[Obj] = field(default_factory=list)
    ended: list[Obj] = field(default_factory=list)


def manage(
    daemon_set: Obj, nodes: Iterable[Obj], pods: ByNode, digest: str, now: datetime, held: Callable[[Obj], bool]
) -> Step:
    """One pod on every node that should have one; failed pods that are `held` are not replaced yet."""
    step, known = Step(), set()
    for node in nodes:
        name = name_of(node)
        known.add(name)
        _manage_node(daemon_set, node, pods.get(name), digest, now, held, step)
    for name, there in pods.items():
        if name not in known:  # what is bound to a node that is gone is for the pod garbage collector
            step.doomed += [pod for pod in there if not get_in(pod, "spec", "nodeName") and not is_deleting(pod)]
    return step


def _manage_node(
    daemon_set: Obj,
    node: Obj,
    there: Sequence[Obj] | None,
    digest: str,
    now: datetime,
    held: Callable[[Obj], bool],
    step: Step,
) -> None:
    fits = fit(daemon_set, node)
    if not there:
        if fits.should_run:
            step.nodes.append(name_of(node))
        return
    alive = [pod for pod in there if not is_deleting(pod)]
    if not fits.may_stay:
        step.doomed += alive
        return
    running = []
    for pod in alive:
        if phase(pod) == "Succeeded" or (phase(pod) == "Failed" and not held(pod)):
            step.ended.append(pod)
            step.doomed.append(pod)
        elif phase(pod) != "Failed":
            running.append(pod)
    if not surges(daemon_set):
        step.doomed += running[1:]
    elif not running:
        if fits.should_run and not any(phase(pod) == "Failed" for pod in alive):
            step.nodes.append(name_of(node))
    else:
        step.doomed += _superseded(daemon_set, running, digest, now)


def _superseded(daemon_set: Obj, running: Sequence[Obj], digest: str, now: datetime) -> list[Obj]:
    """Of pods on one node: all but the oldest of each revision, and the old one once the new can do without it."""
    new = [pod for pod in running if labels_of(pod).get(HASH_LABEL) == digest]
    old = [pod for pod in running if labels_of(pod).get(HASH_LABEL) != digest]
    doomed = [*new[1:], *old[1:]]
    if new and old and (not is_ready(old[0]) or is_available(new[0], min_ready(daemon_set), now)):
        doomed.append(old[0])
    return doomed


def min_ready(daemon_set: Obj) -> int:
    return int(get_in(daemon_set, "spec", "minReadySeconds", default=0))


# Rolling update.


def is_rolling(daemon_set: Obj) -> bool:
    return bool(get_in(daemon_set, "spec", "updateStrategy", "type", default="RollingUpdate") == "RollingUpdate")


def surges(daemon_set: Obj) -> bool:
    """Whether a new pod may come before the old one goes."""
    surge = get_in(daemon_set, "spec", "updateStrategy", "rollingUpdate", "maxSurge", default=0)
    return is_rolling(daemon_set) and surge not in (0, "0%")


def limits(daemon_set: Obj, desired: int) -> tuple[int, int]:
    """`maxSurge` and `maxUnavailable` as pods, both rounded up; never both 0."""
    rolling = get_in(daemon_set, "spec", "updateStrategy", "rollingUpdate", default={})
    surge = scaled(rolling.get("maxSurge", 0), desired, up=True)
    unavailable = scaled(rolling.get("maxUnavailable", 1), desired, up=True)
    return (surge, unavailable) if surge or unavailable else (0, 1)


def roll(daemon_set: Obj, nodes: Iterable[Obj], pods: ByNode, digest: str, now: datetime) -> Step:
    """The next step from old pods to new ones."""
    known = list(nodes)
    desired = [node for node in known if fit(daemon_set, node).should_run]
    # Pods on their way to a node that must not have one any more are `manage`'s to take away.
    surge, unavailable = limits(daemon_set, len(desired))
    return (
        _surge(daemon_set, pods, digest, now, surge) if surge else _replace(daemon_set, pods, digest, now, unavailable)
    )


def _replace(daemon_set: Obj, pods: ByNode, digest: str, now: datetime, allowed: int) -> Step:
    """Delete old pods, as many as may be unavailable; those that are unavailable anyway go at once."""
    down = 0
    broken: list[Obj] = []
    candidates: list[Obj] = []
    for there in pods.values():
        new, old = _split(daemon_set, there, digest)
        if len(new) + len(old) != 1:
            down += 1  # somebody is coming or going here: wait for that
        elif new:
            down += not is_available(new[0], min_ready(daemon_set), now)
        elif is_available(old[0], min_ready(daemon_set), now):
            candidates.append(old[0])
        else:
            down += 1
            broken.append(old[0])
    return Step(doomed=[*broken, *candidates[: max(0, allowed - down)]])


def _surge(daemon_set: Obj, pods: ByNode, digest: str, now: datetime, allowed: int) -> Step:
    """Make new pods beside old ones, as many as may surge; delete an old pod once its successor is available."""
    surging = 0
    broken: list[str] = []
    candidates: list[str] = []
    doomed: list[Obj] = []
    for node, there in pods.items():
        new, old = _split(daemon_set, there, digest)
        if len(new) > 1 or len(old) > 1:
            surging += 1
        elif old and new:
            if is_available(new[0], min_ready(daemon_set), now):
                doomed.append(old[0])
            else:
                surging += 1
        elif old:
            available = is_available(old[0], min_ready(daemon_set), now)
            (candidates if available else broken).append(node)
    return Step(nodes=[*broken, *candidates[: max(0, allowed - surging)]], doomed=doomed)


def _split(daemon_set: Obj, there: Sequence[Obj], digest: str) -> tuple[list[Obj], list[Obj]]:
    """Pods with the present template, and others; those being deleted are neither."""
    alive = [pod for pod in there if not is_deleting(pod)]
    new = [pod for pod in alive if is_updated(daemon_set, pod, digest)]
    uids = {uid_of(pod) for pod in new}
    return new, [pod for pod in alive if uid_of(pod) not in uids]


# Status.


def status_of(daemon_set: Obj, nodes: Iterable[Obj], pods: ByNode, digest: str, now: datetime) -> Obj:
    """How many nodes should have a pod, and how those fare that have one."""
    desired = misscheduled = 0
    first: list[Obj] = []
    for node in nodes:
        there = pods.get(name_of(node)) or ()
        if not fit(daemon_set, node).should_run:
            misscheduled += bool(there)
            continue
        desired += 1
        first += there[:1]
    available = sum(is_available(pod, min_ready(daemon_set), now) for pod in first)
    optional = {
        "observedGeneration": daemon_set["metadata"].get("generation", 0),
        "updatedNumberScheduled": sum(is_updated(daemon_set, pod, digest) for pod in first),
        "numberAvailable": available,
        "numberUnavailable": desired - available,
        "collisionCount": get_in(daemon_set, "status", "collisionCount", default=0),
    }
    status: Obj = {
        "currentNumberScheduled": len(first),
        "desiredNumberScheduled": desired,
        "numberMisscheduled": misscheduled,
        "numberReady": sum(map(is_ready, first)),
        **{name: count for name, count in optional.items() if count},
    }
    conditions = get_in(daemon_set, "status", "conditions")
    return {**status, "conditions": conditions} if conditions else status
