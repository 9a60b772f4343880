"""What a Deployment's status says: its counts, and whether its rollout is available, progressing, complete or stuck.

Pure functions; words and reasons are those that `kubectl rollout status` and people look for. Specified by
https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from pinnace.controllers.conditions import condition, find, with_condition, without
from pinnace.controllers.rollout import available_of, replicas_of, surge_and_unavailable, total
from pinnace.machinery.meta import Obj, format_time, get_in, name_of, parse_time

_NO_DEADLINE = 2**31 - 1


def new_condition(type: str, status: str, reason: str, message: str, now: datetime) -> Obj:  # noqa: A002
    moment = format_time(now)
    return {
        "type": type,
        "status": status,
        "lastUpdateTime": moment,
        "lastTransitionTime": moment,
        "reason": reason,
        "message": message,
    }


def deadline_of(deployment: Obj) -> int | None:
    """`progressDeadlineSeconds`, None where it stands for never."""
    deadline = get_in(deployment, "spec", "progressDeadlineSeconds")
    return None if deadline is None or deadline == _NO_DEADLINE else int(deadline)


def counted(deployment: Obj, new: Obj | None, replica_sets: Sequence[Obj], now: datetime) -> Obj:
    """The status with fresh counts and the condition Available; other conditions as they are."""
    available = sum(map(available_of, replica_sets))
    counts = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": _sum(replica_sets, "replicas"),
        "updatedReplicas": _sum([new] if new is not None else [], "replicas"),
        "readyReplicas": _sum(replica_sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total(replica_sets) - available),
    }
    status: Obj = {name: count for name, count in counts.items() if count}
    terminating = [get_in(one, "status", "terminatingReplicas") for one in replica_sets]
    if terminating and None not in terminating:  # before 1.35 nobody counts them
        status["terminatingReplicas"] = sum(terminating)
    if (collisions := get_in(deployment, "status", "collisionCount")) is not None:
        status["collisionCount"] = collisions
    conditions = get_in(deployment, "status", "conditions", default=())
    status["conditions"] = with_condition(conditions, _availability(deployment, available, now))
    return status


def _sum(replica_sets: Sequence[Obj], field: str) -> int:
    return sum(int(get_in(one, "status", field, default=0)) for one in replica_sets)


def _availability(deployment: Obj, available: int, now: datetime) -> Obj:
    _, unavailable = surge_and_unavailable(deployment)
    if available >= replicas_of(deployment) - unavailable:
        message = "Deployment has minimum availability."
        return new_condition("Available", "True", "MinimumReplicasAvailable", message, now)
    message = "Deployment does not have minimum availability."
    return new_condition("Available", "False", "MinimumReplicasUnavailable", message, now)


def is_complete(deployment: Obj, status: Obj) -> bool:
    """Whether all pods wanted are of the new template and available, and no other is left."""
    wanted = replicas_of(deployment)
    return bool(
        status.get("updatedReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
        and status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    )


def _has_progressed(deployment: Obj, status: Obj) -> bool:
    old = deployment.get("status") or {}

    def grew(field: str) -> bool:
        return bool(status.get(field, 0) > old.get(field, 0))

    def outdated(of: Obj) -> int:
        return int(of.get("replicas", 0) - of.get("updatedReplicas", 0))

    shrank = outdated(status) < outdated(old)
    return grew("updatedReplicas") or shrank or grew("readyReplicas") or grew("availableReplicas")


def _is_late(deployment: Obj, now: datetime) -> bool:
    deadline, progress = deadline_of(deployment), condition(deployment, "Progressing")
    if deadline is None or progress is None or progress["reason"] == "NewReplicaSetAvailable":
        return False
    if progress["reason"] == "ProgressDeadlineExceeded":
        return True
    return parse_time(progress["lastUpdateTime"]) + timedelta(seconds=deadline) < now


def rolled_out(deployment: Obj, new: Obj | None, replica_sets: Sequence[Obj], now: datetime) -> Obj:
    """The status after a step of a rollout, with the conditions Progressing and ReplicaFailure."""
    status = counted(deployment, new, replica_sets, now)
    conditions: list[Obj] = status["conditions"]
    progress = condition(deployment, "Progressing")
    if deadline_of(deployment) is None:
        conditions = without(conditions, "Progressing")
    else:
        settled = status.get("replicas", 0) == status.get("updatedReplicas", 0) and (
            progress is not None and progress["reason"] == "NewReplicaSetAvailable"
        )
        if not settled:
            conditions = _with_progress(deployment, new, status, conditions, progress, now)
    failure = _failure(new, replica_sets)
    conditions = with_condition(conditions, failure) if failure else without(conditions, "ReplicaFailure")
    status["conditions"] = conditions
    return status


def _with_progress(
    deployment: Obj, new: Obj | None, status: Obj, conditions: list[Obj], progress: Obj | None, now: datetime
) -> list[Obj]:
    who = f'ReplicaSet "{name_of(new)}"' if new is not None else f'Deployment "{name_of(deployment)}"'
    if is_complete(deployment, status):
        message = f"{who} has successfully progressed."
        return with_condition(conditions, new_condition("Progressing", "True", "NewReplicaSetAvailable", message, now))
    if _has_progressed(deployment, status):
        fresh = new_condition("Progressing", "True", "ReplicaSetUpdated", f"{who} is progressing.", now)
        if progress is not None and progress["status"] == "True":
            fresh["lastTransitionTime"] = progress["lastTransitionTime"]
        return [*without(conditions, "Progressing"), fresh]  # anew each time: lastUpdateTime restarts the deadline
    if _is_late(deployment, now):
        message = f"{who} has timed out progressing."
        return with_condition(
            conditions, new_condition("Progressing", "False", "ProgressDeadlineExceeded", message, now)
        )
    return conditions


def _failure(new: Obj | None, replica_sets: Sequence[Obj]) -> Obj | None:
    """The failure of the new set, else of any, as a condition of the Deployment."""
    ordered = ([new] if new is not None else []) + list(replica_sets)
    for one in ordered:
        failure = condition(one, "ReplicaFailure")
        if failure is not None:
            return {**failure, "lastUpdateTime": failure["lastTransitionTime"]}
    return None


def check_again_in(deployment: Obj, status: Obj, now: datetime) -> float | None:
    """Seconds until the rollout would be late, where nothing else would wake the controller."""
    deadline = deadline_of(deployment)
    progress = find(status.get("conditions") or (), "Progressing")
    if deadline is None or progress is None or is_complete(deployment, status):
        return None
    if progress["reason"] in ("ProgressDeadlineExceeded", "NewReplicaSetAvailable"):
        return None
    due = parse_time(progress["lastUpdateTime"]) + timedelta(seconds=deadline)
    return max(0.0, (due - now).total_seconds()) + 1


def pause_condition(deployment: Obj, now: datetime) -> Obj | None:
    """The condition Progressing that says a rollout was paused or resumed; None where it says so already."""
    progress = condition(deployment, "Progressing")
    if deadline_of(deployment) is None or (progress and progress["reason"] == "ProgressDeadlineExceeded"):
        return None
    says_paused = progress is not None and progress["reason"] == "DeploymentPaused"
    paused = bool(get_in(deployment, "spec", "paused"))
    if paused and not says_paused:
        return new_condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", now)
    if not paused and says_paused:
        return new_condition("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed", now)
    return None
