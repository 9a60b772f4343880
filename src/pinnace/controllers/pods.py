"""What controllers ask about pods: whether one is active, ready, available, and which of several should go first.

Pure functions over pod objects. Readiness and phases are specified by
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/, the order of deletion by
https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-a-replicaset.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from pinnace.controllers.conditions import condition
from pinnace.machinery.meta import Obj, annotations_of, get_in, is_deleting, owner_reference, parse_time, uid_of

_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def phase(pod: Obj) -> str:
    return (pod.get("status") or {}).get("phase") or ""


def is_finished(pod: Obj) -> bool:
    """Whether its containers have ended for good."""
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Obj) -> bool:
    """Whether it counts as a replica: neither finished nor being deleted."""
    return not is_finished(pod) and not is_deleting(pod)


def is_ready(pod: Obj) -> bool:
    found = condition(pod, "Ready")
    return found is not None and found.get("status") == "True"


def ready_since(pod: Obj) -> datetime | None:
    """When it last became ready; None while it is not."""
    found = condition(pod, "Ready")
    if found is None or found.get("status") != "True" or not found.get("lastTransitionTime"):
        return None
    return parse_time(found["lastTransitionTime"])


def is_available(pod: Obj, min_ready_seconds: int, now: datetime) -> bool:
    """Whether it has been ready for `min_ready_seconds`."""
    return is_ready(pod) and available_in(pod, min_ready_seconds, now) <= 0


def available_in(pod: Obj, min_ready_seconds: int, now: datetime) -> float:
    """Seconds until a ready pod is available; 0 once it is."""
    if min_ready_seconds == 0:
        return 0.0
    since = ready_since(pod)
    if since is None:
        return float(min_ready_seconds)
    return max(0.0, (since + timedelta(seconds=min_ready_seconds) - now).total_seconds())


def restarts(pod: Obj) -> int:
    """The most restarts of any of its containers."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return max((status.get("restartCount") or 0 for status in statuses), default=0)


def from_template(template: Obj, owner: Obj, *, generate_name: str = "", name: str = "") -> Obj:
    """The pod that a template asks for, owned by `owner`."""
    metadata = template.get("metadata") or {}
    made: Obj = {"namespace": owner["metadata"]["namespace"], "ownerReferences": [owner_reference(owner)]}
    if name:
        made["name"] = name
    else:
        made["generateName"] = generate_name or f"{owner['metadata']['name']}-"
    for field in ("labels", "annotations"):
        if metadata.get(field):
            made[field] = dict(metadata[field])
    if metadata.get("finalizers"):
        made["finalizers"] = list(metadata["finalizers"])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": made, "spec": template.get("spec") or {}}


def first_to_go(pods: Iterable[Obj], related: Iterable[Obj], now: datetime) -> list[Obj]:
    """`pods` in the order in which a scale-down takes them.

    `related` are all pods of the same workload: of nodes that hold many of them, one goes sooner.
    """
    crowd = Counter(get_in(pod, "spec", "nodeName", default="") for pod in related if is_active(pod))

    def rank(pod: Obj) -> tuple[Any, ...]:
        node = get_in(pod, "spec", "nodeName", default="")
        since = ready_since(pod)
        created = pod["metadata"].get("creationTimestamp")
        return (
            bool(node),
            _PHASES.get(phase(pod), 2),
            is_ready(pod),
            deletion_cost(pod),
            -crowd[node],
            _age_rank(since, now),
            -restarts(pod),
            _age_rank(parse_time(created) if created else None, now),
            uid_of(pod),
        )

    return sorted(pods, key=rank)


def deletion_cost(pod: Obj) -> int:
    """The author's wish to keep this pod longer than others; 0 unless annotated with a number."""
    try:
        return int(annotations_of(pod).get(_DELETION_COST, "0"))
    except ValueError:
        return 0


def _age_rank(moment: datetime | None, now: datetime) -> int:
    """Ages compare by power of two, so that among about equally old pods chance (the uid) decides."""
    if moment is None:
        return -1
    seconds = (now - moment).total_seconds()
    return int(math.log2(seconds)) + 1 if seconds >= 1 else 0
