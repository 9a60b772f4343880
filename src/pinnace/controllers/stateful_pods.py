"""Which pods of a StatefulSet come, wait and go next, by their ordinals, and what each of them is called and stores.

Pure functions over a StatefulSet, its pods and its revisions. Specified by
https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pinnace.controllers.pods import from_template, is_available, is_finished, is_ready
from pinnace.controllers.revisions import HASH_LABEL
from pinnace.controllers.rollout import replicas_of, scaled
from pinnace.machinery.meta import Obj, get_in, is_deleting, key_of, labels_of, name_of, namespace_of, owner_reference

REVISION_LABEL = "controller.kubernetes.io/hash"  # of ControllerRevisions
POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"

# Names and contents.


def ordinal_of(stateful_set: Obj, name: str) -> int | None:
    """The ordinal in a pod's name; None for a name that is not one of this set's."""
    found = re.fullmatch(re.escape(name_of(stateful_set)) + r"-(0|[1-9][0-9]*)", name)
    return int(found[1]) if found else None


def ordinals(stateful_set: Obj) -> range:
    start = int(get_in(stateful_set, "spec", "ordinals", "start", default=0))
    return range(start, start + replicas_of(stateful_set))


def claim_name(stateful_set: Obj, template: Obj, ordinal: int) -> str:
    return f"{name_of(template)}-{name_of(stateful_set)}-{ordinal}"


def make_claims(stateful_set: Obj, ordinal: int) -> list[Obj]:
    """The claims to storage of the pod with this ordinal."""
    selector = get_in(stateful_set, "spec", "selector", "matchLabels", default={})
    claims = []
    for template in get_in(stateful_set, "spec", "volumeClaimTemplates", default=()):
        metadata: Obj = {
            "name": claim_name(stateful_set, template, ordinal),
            "namespace": namespace_of(stateful_set),
            "labels": {**labels_of(template), **selector},
        }
        if template["metadata"].get("annotations"):
            metadata["annotations"] = template["metadata"]["annotations"]
        claims.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": metadata,
                "spec": template.get("spec") or {},
            }
        )
    return claims


def going_claims(stateful_set: Obj, ordinal: int, find: Callable[[str], Obj | None]) -> list[str]:
    """Those of a pod's claims that are being deleted: a pod made now would hold on to them. `find` takes a key."""
    found = [find(key_of(claim)) for claim in make_claims(stateful_set, ordinal)]
    return [name_of(claim) for claim in found if claim is not None and is_deleting(claim)]


def make_pod(stateful_set: Obj, revision: Obj, ordinal: int) -> Obj:
    """The pod with this ordinal, as the revision's template has it."""
    template = {key: value for key, value in revision["data"]["spec"]["template"].items() if key != "$patch"}
    name = f"{name_of(stateful_set)}-{ordinal}"
    pod = from_template(template, stateful_set, name=name)
    identity = {HASH_LABEL: name_of(revision), POD_NAME: name, POD_INDEX: str(ordinal)}
    labels = {**pod["metadata"].get("labels", {}), **identity}
    spec = {**pod["spec"], "hostname": name, "subdomain": stateful_set["spec"].get("serviceName", "")}
    claims = get_in(stateful_set, "spec", "volumeClaimTemplates", default=())
    if claims:
        claimed = {name_of(one): claim_name(stateful_set, one, ordinal) for one in claims}
        volumes = [one for one in spec.get("volumes") or () if one["name"] not in claimed]
        made = [{"name": key, "persistentVolumeClaim": {"claimName": claim}} for key, claim in claimed.items()]
        spec["volumes"] = made + volumes
    return {**pod, "metadata": {**pod["metadata"], "labels": labels}, "spec": spec}


def claim_owners(stateful_set: Obj, claim: Obj, pod: Obj | None, *, condemned: bool) -> list[Obj]:
    """The owner references of a claim under the set's retention policy; those of others are kept."""
    policy = get_in(stateful_set, "spec", "persistentVolumeClaimRetentionPolicy", default={})
    owners = [
        one
        for one in claim["metadata"].get("ownerReferences") or ()
        if not (one["kind"] == "StatefulSet" and one["name"] == name_of(stateful_set))
        and not (one["kind"] == "Pod" and ordinal_of(stateful_set, one["name"]) is not None)
    ]
    if condemned and policy.get("whenScaled") == "Delete":
        return owners if pod is None else [*owners, owner_reference(pod)]
    return [*owners, owner_reference(stateful_set)] if policy.get("whenDeleted") == "Delete" else owners


# What to do.


@dataclass(slots=True)
class Step:
    """Ordinals to be made, and pods to be deleted; `ended` are those among them that ended by themselves."""

    ordinals: list[int] = field(default_factory=list)
    doomed: list[Obj] = field(default_factory=list)
    ended: list[Obj] = field(default_factory=list)


def is_ordered(stateful_set: Obj) -> bool:
    return bool(get_in(stateful_set, "spec", "podManagementPolicy", default="OrderedReady") == "OrderedReady")


def is_rolling(stateful_set: Obj) -> bool:
    return bool(get_in(stateful_set, "spec", "updateStrategy", "type", default="RollingUpdate") == "RollingUpdate")


def min_ready(stateful_set: Obj) -> int:
    return int(get_in(stateful_set, "spec", "minReadySeconds", default=0))


def partition_of(stateful_set: Obj) -> int:
    """How many pods, from the first, keep the current revision."""
    return int(get_in(stateful_set, "spec", "updateStrategy", "rollingUpdate", "partition", default=0))


def wants_current(stateful_set: Obj, ordinal: int) -> bool:
    """Whether a pod made now is one of the current revision rather than of the update."""
    return is_rolling(stateful_set) and ordinal < ordinals(stateful_set).start + partition_of(stateful_set)


def max_unavailable(stateful_set: Obj) -> int:
    value = get_in(stateful_set, "spec", "updateStrategy", "rollingUpdate", "maxUnavailable", default=1)
    return max(1, scaled(value, replicas_of(stateful_set), up=False))


def plan(stateful_set: Obj, pods: Iterable[Obj], update: str, now: datetime) -> Step:
    """The next step towards the pods wanted; `update` names the revision of the present template."""
    there = _by_ordinal(stateful_set, pods)
    wanted = ordinals(stateful_set)
    step = Step()
    if not (_fill(stateful_set, there, step, now) and _condemn(stateful_set, there, step, now)):
        return step
    if is_rolling(stateful_set) and not step.ordinals and not step.doomed:
        slots = [(ordinal, there[ordinal]) for ordinal in reversed(wanted) if ordinal in there]
        step.doomed += _roll(stateful_set, slots, update, now)
    return step


def _by_ordinal(stateful_set: Obj, pods: Iterable[Obj]) -> dict[int, Obj]:
    found = ((ordinal_of(stateful_set, name_of(pod)), pod) for pod in pods)
    return {ordinal: pod for ordinal, pod in sorted(found, key=lambda one: one[0] or 0) if ordinal is not None}


def _is_healthy(stateful_set: Obj, pod: Obj, now: datetime) -> bool:
    return not is_deleting(pod) and is_ready(pod) and is_available(pod, min_ready(stateful_set), now)


def _fill(stateful_set: Obj, there: dict[int, Obj], step: Step, now: datetime) -> bool:
    """Make what is missing: in order, each pod once all before it are healthy. Whether anything more may be done."""
    ordered = is_ordered(stateful_set)
    for ordinal in ordinals(stateful_set):
        pod = there.get(ordinal)
        if pod is None:
            step.ordinals.append(ordinal)
        elif is_finished(pod) and not is_deleting(pod):
            step.ended.append(pod)
            step.doomed.append(pod)
        elif _is_healthy(stateful_set, pod, now):
            continue
        if ordered:
            return False
    return True


def _condemn(stateful_set: Obj, there: dict[int, Obj], step: Step, now: datetime) -> bool:
    """Delete what is too much, from the highest ordinal; in order, each pod once all behind it are gone."""
    ordered = is_ordered(stateful_set)
    wanted = ordinals(stateful_set)
    surplus = [pod for ordinal, pod in there.items() if ordinal not in wanted]
    unhealthy = [pod for pod in there.values() if not _is_healthy(stateful_set, pod, now)]
    first_unhealthy = name_of(unhealthy[0]) if unhealthy else ""
    for pod in reversed(surplus):
        if ordered and is_deleting(pod):
            return False
        if ordered and not _is_healthy(stateful_set, pod, now) and name_of(pod) != first_unhealthy:
            return False
        if not is_deleting(pod):
            step.doomed.append(pod)
            if ordered:
                return False
    return True


def _roll(stateful_set: Obj, slots: Sequence[tuple[int, Obj]], update: str, now: datetime) -> Iterator[Obj]:
    """Old pods to be replaced, from the highest ordinal, while no more than allowed are unavailable."""
    allowed = max_unavailable(stateful_set)
    for ordinal, pod in slots:
        if allowed <= 0 or wants_current(stateful_set, ordinal):
            return
        if labels_of(pod).get(HASH_LABEL) != update and not is_deleting(pod):
            yield pod
            allowed -= 1
        elif not _is_healthy(stateful_set, pod, now):
            allowed -= 1


# Status.


def status_of(stateful_set: Obj, pods: Sequence[Obj], current: str, update: str, now: datetime) -> Obj:
    """The status that `pods` give the set; a rollout that is through makes the update the current revision."""
    alive = [pod for pod in pods if not is_deleting(pod)]
    ready = [pod for pod in pods if is_ready(pod)]
    updated = sum(labels_of(pod).get(HASH_LABEL) == update for pod in alive)
    on_current = sum(labels_of(pod).get(HASH_LABEL) == current for pod in alive)
    if is_rolling(stateful_set) and updated == len(pods) == len(ready) == replicas_of(stateful_set):
        current, on_current = update, updated
    counts = {"readyReplicas": len(ready), "currentReplicas": on_current, "updatedReplicas": updated}
    status: Obj = {
        "observedGeneration": stateful_set["metadata"].get("generation", 0),
        "replicas": len(pods),
        "availableReplicas": sum(is_available(pod, min_ready(stateful_set), now) for pod in ready),
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": get_in(stateful_set, "status", "collisionCount", default=0),
        **{name: count for name, count in counts.items() if count},
    }
    conditions = get_in(stateful_set, "status", "conditions")
    return {**status, "conditions": conditions} if conditions else status
