"""How a pod is shown by `kubectl get`: above all the one word that says how it is doing.

The word is the phase, overruled by what holds an init container up, what its containers report, and by deletion
(https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.fields import AGE, NAME, NONE, age, column, name, spec_of, status_of, wide
from pinnace.machinery.duration import since
from pinnace.machinery.meta import Obj, is_deleting

COLUMNS = (
    NAME,
    column("Ready", description="How many containers are ready, of how many there are."),
    column("Status", description="The phase, or what keeps the pod from it."),
    column("Restarts", description="How often containers were restarted, and when the last one was."),
    AGE,
    wide("IP"),
    wide("Node"),
    wide("Nominated Node"),
    wide("Readiness Gates"),
)


class _Tally:
    """Restarts, and when the last container ended that was restarted."""

    __slots__ = ("count", "last")

    def __init__(self) -> None:
        self.count = 0
        self.last = ""

    def add(self, status: Obj) -> None:
        self.count += status.get("restartCount") or 0
        ended = ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
        self.last = max(self.last, ended)  # RFC 3339 in UTC sorts as text

    def text(self, now: datetime) -> str:
        return f"{self.count} ({since(self.last, now)} ago)" if self.count and self.last else str(self.count)


def row(pod: Obj, now: datetime) -> list[Any]:
    spec, status = spec_of(pod), status_of(pod)
    ready, total, reason, restarts = _summary(pod, spec, status)
    ips = status.get("podIPs") or ()
    ip = ips[0].get("ip") if ips else status.get("podIP")
    return [
        name(pod),
        f"{ready}/{total}",
        reason,
        restarts.text(now),
        age(pod, now),
        ip or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _gates(spec, status),
    ]


def status_word(pod: Obj) -> str:
    """The STATUS column alone: `Running`, `Init:0/2`, `CrashLoopBackOff`, `Terminating`…"""
    return _summary(pod, spec_of(pod), status_of(pod))[2]


def _summary(pod: Obj, spec: Obj, status: Obj) -> tuple[int, int, str, _Tally]:
    conditions = {condition.get("type"): condition for condition in status.get("conditions") or ()}
    sidecars = {
        container.get("name")
        for container in spec.get("initContainers") or ()
        if container.get("restartPolicy") == "Always"
    }
    phase = status.get("phase") or ""
    reason = status.get("reason") or phase
    if conditions.get("PodScheduled", {}).get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    ready, blocked, restarts, sidecar_restarts = _init_progress(spec, status, sidecars)
    if not blocked or conditions.get("Initialized", {}).get("status") == "True":
        restarts = sidecar_restarts
        is_ready = conditions.get("Ready", {}).get("status") == "True"
        running, reason = _containers(status, reason, is_ready, restarts)
        ready += running
    else:
        reason = blocked
    if is_deleting(pod):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif phase not in ("Failed", "Succeeded"):
            reason = "Terminating"
    return ready, len(spec.get("containers") or ()) + len(sidecars), reason, restarts


def _init_progress(spec: Obj, status: Obj, sidecars: set[str | None]) -> tuple[int, str, _Tally, _Tally]:
    """Ready sidecars, what the first unfinished init container waits for, all restarts, and the sidecars' alone."""
    ready, restarts, sidecar_restarts = 0, _Tally(), _Tally()
    for index, container in enumerate(status.get("initContainerStatuses") or ()):
        restarts.add(container)
        stays = container.get("name") in sidecars
        if stays:
            sidecar_restarts.add(container)
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if stays and container.get("started"):
            ready += bool(container.get("ready"))
            continue
        if terminated is not None:
            return ready, f"Init:{_ended(terminated)}", restarts, sidecar_restarts
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return ready, f"Init:{waiting['reason']}", restarts, sidecar_restarts
        total = len(spec.get("initContainers") or ())
        return ready, f"Init:{index}/{total}", restarts, sidecar_restarts
    return ready, "", restarts, sidecar_restarts


def _ended(terminated: Obj) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode') or 0}"


def _containers(status: Obj, reason: str, is_ready: bool, restarts: _Tally) -> tuple[int, str]:
    """How many containers run and are ready, and the reason that the first one in trouble gives."""
    running = 0
    for container in reversed(status.get("containerStatuses") or ()):
        restarts.add(container)
        state = container.get("state") or {}
        if (state.get("waiting") or {}).get("reason"):
            reason = state["waiting"]["reason"]
        elif state.get("terminated") is not None:
            reason = _ended(state["terminated"])
        elif container.get("ready") and state.get("running") is not None:
            running += 1
    if reason == "Completed" and running:
        reason = "Running" if is_ready else "NotReady"
    return running, reason


def _gates(spec: Obj, status: Obj) -> str:
    gates = spec.get("readinessGates") or ()
    if not gates:
        return NONE
    true = {condition.get("type") for condition in status.get("conditions") or () if condition.get("status") == "True"}
    return f"{sum(gate.get('conditionType') in true for gate in gates)}/{len(gates)}"
