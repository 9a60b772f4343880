"""What a pod on a hollow node does next, and when: a pure function of the pod.

A pod starts, becomes ready, ends or fails, is started again with a kubelet's pauses, and goes when it is deleted. How
long each takes is told for a group of nodes, and by annotations for a single pod. The life of a pod is that of
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from pinnace.kubelet.hollow import status
from pinnace.kubelet.hollow.status import Place
from pinnace.machinery.meta import Obj, annotations_of, get_in, is_deleting, uid_of
from pinnace.machinery.quantity import Quantity

PREFIX = "hollow.pinnace.dev/"  # of annotations: start-seconds, ready-seconds, run-seconds, stop-seconds, exit-code
DISPUTED_SECONDS = 1.0  # until a pod is called ready again that others said is not
FIRST_BACKOFF, LONGEST_BACKOFF = 10.0, 300.0  # seconds between a container's end and its next start
GRACE_SECONDS = 30.0
KILLED = 137  # exit code


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How pods go on a group of nodes; times are seconds. A pod's own annotations come first."""

    start: float = 0.0  # from being bound to running; up to a quarter more or less by chance
    ready: float = 0.0  # from running to ready
    run: float | None = 1.0  # for which the containers of pods run that end (no restartPolicy Always); None: for ever
    stop: float = 0.0  # from the wish to delete a pod to its end; at most its grace period
    failure_rate: float = 0.0  # the share of pods that end whose containers exit with 1
    cpu: str = "10m"  # what each container uses
    memory: str = "20Mi"


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to a pod once it has been in `stage` for `after` seconds; without a `status`, it is removed."""

    stage: str
    after: float
    status: Callable[[datetime, Place], Obj] | None  # what its status says then


def next_step(pod: Obj, behaviour: Behaviour) -> Step | None:
    """None for a pod that waits for nothing."""
    states: list[Obj] = get_in(pod, "status", "containerStatuses") or []
    phase = get_in(pod, "status", "phase")
    ended = phase in ("Succeeded", "Failed")
    if is_deleting(pod):
        return _deletion(pod, behaviour, told=ended or not states)
    if ended:
        return None
    if not states:
        start = seconds(pod, "start", behaviour.start) * (0.75 + _chance(pod, "start") / 2)
        at_once = not seconds(pod, "ready", behaviour.ready)
        return Step("bound", start, lambda now, place: status.running(pod, place, now, ready=at_once))
    if any("waiting" in state["state"] for state in states):
        restarts = max(state["restartCount"] for state in states)
        pause = min(FIRST_BACKOFF * 2 ** (restarts - 1), LONGEST_BACKOFF)
        return Step(f"backoff {restarts}", pause, lambda now, _: status.restarted(pod, now))
    return _while_running(pod, behaviour, states)


def _while_running(pod: Obj, behaviour: Behaviour, states: list[Obj]) -> Step | None:
    restarts = max(state["restartCount"] for state in states)
    ready = seconds(pod, "ready", behaviour.ready)
    end = _end(pod, behaviour, restarts)
    if not all(state["ready"] for state in states) and (end is None or ready <= end.after):
        return Step(f"running {restarts}", ready, lambda now, _: status.ready(pod, now))
    if all(state["ready"] for state in states) and is_disputed(pod):
        return Step("disputed", DISPUTED_SECONDS, lambda now, _: status.ready(pod, now))
    return end


def is_disputed(pod: Obj) -> bool:
    """Whether somebody says of a pod that it is not ready: its node was silent for a while."""
    conditions = get_in(pod, "status", "conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "False" for one in conditions)


def _end(pod: Obj, behaviour: Behaviour, restarts: int) -> Step | None:
    """How the containers of a pod that runs will end; None when they run for ever."""
    stage = f"running {restarts}"
    policy = get_in(pod, "spec", "restartPolicy") or "Always"
    run = seconds(pod, "run", behaviour.run if policy != "Always" else None)
    deadline = get_in(pod, "spec", "activeDeadlineSeconds")
    if deadline is not None and (run is None or deadline < run):
        return Step("active", float(deadline), lambda now, _: status.past_deadline(pod, now))
    if run is None:
        return None
    code = exit_code(pod, behaviour)
    if policy == "Never" or (policy == "OnFailure" and not code):
        return Step(stage, run, lambda now, _: status.finished(pod, now, code))
    if not restarts:  # the first start again comes without a pause
        return Step(stage, run, lambda now, _: status.restarted(pod, now, code))
    return Step(stage, run, lambda now, _: status.crashed(pod, now, code))


def _deletion(pod: Obj, behaviour: Behaviour, *, told: bool) -> Step:
    """The last status is written only where somebody waits to read it: who has a finalizer on the pod."""
    grace = float(pod["metadata"].get("deletionGracePeriodSeconds", GRACE_SECONDS))
    after = min(seconds(pod, "stop", behaviour.stop), grace)
    if told or not pod["metadata"].get("finalizers"):
        return Step("deleting", after, None)
    return Step("deleting", after, lambda now, _: status.finished(pod, now, KILLED))


def exit_code(pod: Obj, behaviour: Behaviour) -> int:
    """With which the pod's containers end."""
    told = annotations_of(pod).get(f"{PREFIX}exit-code", "")
    if told.isdigit():
        return min(int(told), 255)
    return 1 if _chance(pod, "fails") < behaviour.failure_rate else 0


def usage(pod: Obj, behaviour: Behaviour) -> tuple[str, str]:
    """CPU and memory, quantities, that each container uses."""
    told = annotations_of(pod)
    return _quantity(told.get(f"{PREFIX}cpu"), behaviour.cpu), _quantity(told.get(f"{PREFIX}memory"), behaviour.memory)


def _quantity(told: str | None, otherwise: str) -> str:
    try:
        return otherwise if told is None else str(Quantity.parse(told))
    except ValueError:
        return otherwise


T = TypeVar("T", float, float | None)


def seconds(pod: Obj, what: str, otherwise: T) -> T:
    """What the annotation `<what>-seconds` says; one that is no time is as if it were not there."""
    told = annotations_of(pod).get(f"{PREFIX}{what}-seconds")
    if told is None:
        return otherwise
    try:
        value = float(told)
    except ValueError:
        return otherwise
    return value if 0 <= value < 1e9 else otherwise


def _chance(pod: Obj, what: str) -> float:
    """A number in [0, 1) that is always the same for this pod."""
    return zlib.crc32(f"{what} {uid_of(pod)}".encode()) / 2**32
