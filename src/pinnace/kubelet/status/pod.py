"""A pod's status: phase, conditions and addresses from what the pod asks for and what the runtime reports.

Pure: `pod_status` makes the whole status, `merge` guards what must never be undone (a terminal phase, conditions of
others), `status_patch` says what of it changed. Specified by
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pinnace.cri.api import PodSandboxState
from pinnace.kubelet.pods import containers, init_containers, is_host_network, is_sidecar, qos_class
from pinnace.kubelet.runtime.status import PodRuntimeStatus
from pinnace.kubelet.status.container import Report, container_statuses
from pinnace.kubelet.sync.compute import restarts
from pinnace.kubelet.sync.termination import share_limit
from pinnace.machinery.meta import Obj, format_time, uid_of

OWN_CONDITIONS = (
    "PodResizePending",
    "PodResizeInProgress",
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "AllContainersRestarting",
)
"""The conditions that the kubelet writes; all others belong to somebody else."""
BY_KUBELET = "TerminationByKubelet"
"""The reason of a DisruptionTarget that is the kubelet's own, too."""


def is_own(condition: Obj) -> bool:
    """Whether the kubelet wrote the condition."""
    return condition["type"] in OWN_CONDITIONS or condition.get("reason") == BY_KUBELET


def with_conditions_of_others(status: Obj, found: Obj) -> Obj:
    """The kubelet's status, with the conditions of others as `found` in the API by now."""
    own = [one for one in status.get("conditions") or () if is_own(one)]
    kinds = {one["type"] for one in own}
    others = [one for one in found.get("conditions") or () if not is_own(one) and one["type"] not in kinds]
    return {**status, "conditions": [*own, *others]}


def pod_status(pod: Obj, runtime: PodRuntimeStatus, before: Obj, report: Report) -> Obj:
    """The status to show, `before` being the one shown last."""
    inits = container_statuses(pod, "initContainers", runtime, before, report)
    mains = container_statuses(pod, "containers", runtime, before, report)
    ephemerals = container_statuses(pod, "ephemeralContainers", runtime, before, report)
    status: Obj = {}
    generation = pod["metadata"].get("generation")
    if generation:
        status["observedGeneration"] = generation
    phase = pod_phase(pod, inits, mains, terminating=report.terminating)
    status["phase"] = phase
    for kept in ("reason", "message"):
        if before.get("phase") == "Failed" and before.get(kept):
            status[kept] = before[kept]
    if before.get("phase") in ("Failed", "Succeeded"):
        phase = status["phase"] = before["phase"]
    _limit_messages([*inits, *mains, *ephemerals])
    status["conditions"] = conditions(pod, phase, inits, mains, runtime, before, report)
    if report.host_ips:
        status["hostIP"] = report.host_ips[0]
        status["hostIPs"] = [{"ip": address} for address in report.host_ips]
    addresses = list(report.host_ips) if is_host_network(pod) and report.host_ips else list(runtime.ips)
    if not addresses and phase in ("Running", "Succeeded", "Failed"):
        addresses = [one["ip"] for one in before.get("podIPs") or ()]
    if addresses:
        status["podIP"] = addresses[0]
        status["podIPs"] = [{"ip": address} for address in addresses]
    status["startTime"] = before.get("startTime") or format_time(report.now)
    if inits:
        status["initContainerStatuses"] = inits
    status["containerStatuses"] = mains
    status["qosClass"] = qos_class(pod)
    whole = pod["spec"].get("resources")
    if whole and report.tells_pod_resources and runtime.sandbox is not None:
        status["resources"] = whole
        if whole.get("requests"):
            status["allocatedResources"] = whole["requests"]
    if ephemerals:
        status["ephemeralContainerStatuses"] = ephemerals
    for kept in ("nominatedNodeName", "resourceClaimStatuses", "extendedResourceClaimStatus"):
        if before.get(kept):
            status[kept] = before[kept]
    return status


def _limit_messages(statuses: list[Obj]) -> None:
    """Cut termination messages so that those of one pod stay within what a pod may say."""
    limit = share_limit(len(statuses))
    for status in statuses:
        for state in (status["state"], status["lastState"]):
            terminated = state.get("terminated")
            if terminated and len(terminated.get("message") or "") > limit:
                state["terminated"] = {**terminated, "message": terminated["message"][:limit]}


def pod_phase(pod: Obj, inits: list[Obj], mains: list[Obj], *, terminating: bool) -> str:
    """Pending, Running, Succeeded or Failed."""
    by_name = {status["name"]: status for status in inits}
    pending_init = failed_init = pending_sidecars = 0
    given_up = False  # an init container failed that is not started again
    for container in init_containers(pod):
        status = by_name[container["name"]]
        state = status["state"]
        if is_sidecar(container):
            if not ("running" in state and status["started"]) and not _ended(status):
                pending_sidecars += 1
        elif "terminated" in state or _ended(status):
            code = (state.get("terminated") or status["lastState"]["terminated"])["exitCode"]
            failed_init += code != 0
            given_up = given_up or (code != 0 and not restarts(pod, container, code))
        else:
            pending_init += 1
    running = waiting = stopped = succeeded = 0
    for status in mains:
        state = status["state"]
        if "running" in state:
            running += 1
        elif "terminated" in state:
            stopped += 1
            succeeded += state["terminated"]["exitCode"] == 0
        elif _ended(status):
            stopped += 1
        else:
            waiting += 1
    if given_up or (failed_init and terminating):
        return "Failed"
    main_began = running + stopped > 0
    if pending_init or (pending_sidecars and not main_began) or (failed_init and not main_began):
        return "Pending"
    if waiting:
        return "Pending"
    if running:
        return "Running"
    if stopped:
        return _stopped_phase(pod, mains, stopped, succeeded, terminating=terminating)
    return "Pending"


def _ended(status: Obj) -> bool:
    """Whether a container that waits has run before."""
    return "waiting" in status["state"] and "terminated" in (status.get("lastState") or {})


def _stopped_phase(pod: Obj, mains: list[Obj], stopped: int, succeeded: int, *, terminating: bool) -> str:
    if terminating:
        return "Succeeded" if stopped == succeeded else "Failed"
    by_name = {container["name"]: container for container in pod["spec"].get("containers") or ()}
    for status in mains:
        terminated = status["state"].get("terminated")
        if terminated is None or restarts(pod, by_name[status["name"]], terminated["exitCode"]):
            return "Running"
    return "Succeeded" if stopped == succeeded else "Failed"


def conditions(
    pod: Obj, phase: str, inits: list[Obj], mains: list[Obj], runtime: PodRuntimeStatus, before: Obj, report: Report
) -> list[Obj]:
    """The kubelet's own conditions, then those of others."""
    known = {condition["type"]: condition for condition in before.get("conditions") or ()}
    containers_ready = containers_ready_condition(pod, phase, inits, mains)
    made = [
        *report.resizes,
        _sandbox_condition(pod, runtime),
        initialized_condition(pod, phase, inits, mains),
        ready_condition(pod, containers_ready, known),
        containers_ready,
        {"type": "PodScheduled", "status": "True"},
    ]
    if report.tells_restarts and may_restart_all(pod):
        made.append(restarting_condition(phase, restarting=report.restarting_all))
    generation = pod["metadata"].get("generation")
    shown = [_timed(condition, known.get(condition["type"]), generation, report) for condition in made]
    return shown + [condition for kind, condition in known.items() if kind not in OWN_CONDITIONS]


def _timed(condition: Obj, old: Obj | None, generation: Any, report: Report) -> Obj:
    """A condition with the moment of its last change, which is the old one's unless the status changed."""
    timed: Obj = {"type": condition["type"]}
    generation = condition.get("observedGeneration") or generation
    if generation:
        timed["observedGeneration"] = generation
    timed["status"] = condition["status"]
    timed["lastProbeTime"] = None
    unchanged = old is not None and old.get("status") == condition["status"]
    timed["lastTransitionTime"] = (old or {}).get("lastTransitionTime") if unchanged else format_time(report.now)
    for name in ("reason", "message"):
        if condition.get(name):
            timed[name] = condition[name]
    return timed


def may_restart_all(pod: Obj) -> bool:
    """Whether a rule of some container starts all of the pod anew."""
    rules = (rule for one in (*init_containers(pod), *containers(pod)) for rule in one.get("restartPolicyRules") or ())
    return any(rule.get("action") == "RestartAllContainers" for rule in rules)


def restarting_condition(phase: str, *, restarting: bool) -> Obj:
    """Whether all of the pod's containers are being stopped to begin anew."""
    kind, ended = "AllContainersRestarting", {"Succeeded": "PodCompleted", "Failed": "PodFailed"}
    if phase in ended:
        return {"type": kind, "status": "False", "reason": ended[phase]}
    if not restarting:
        return {"type": kind, "status": "False"}
    reason, message = "RestartAllContainersStarted", "container exited with restart policy rule"
    return {"type": kind, "status": "True", "reason": reason, "message": message}


def _sandbox_condition(pod: Obj, runtime: PodRuntimeStatus) -> Obj:
    sandbox = runtime.sandbox
    ready = sandbox is not None and sandbox.state is PodSandboxState.READY
    ready = ready and (is_host_network(pod) or bool(runtime.ips))
    return {"type": "PodReadyToStartContainers", "status": "True" if ready else "False"}


def initialized_condition(pod: Obj, phase: str, inits: list[Obj], mains: list[Obj]) -> Obj:
    incomplete = []
    by_name = {status["name"]: status for status in inits}
    for container in init_containers(pod):
        status = by_name[container["name"]]
        done = bool(status["started"]) if is_sidecar(container) else bool(status["ready"])
        if not done:
            incomplete.append(container["name"])
    if phase == "Succeeded":
        return {"type": "Initialized", "status": "True", "reason": "PodCompleted"}
    if incomplete and not any("waiting" not in one["state"] or _ended(one) for one in mains):
        return {
            "type": "Initialized",
            "status": "False",
            "reason": "ContainersNotInitialized",
            "message": f"containers with incomplete status: [{' '.join(incomplete)}]",
        }
    return {"type": "Initialized", "status": "True"}


def containers_ready_condition(pod: Obj, phase: str, inits: list[Obj], mains: list[Obj]) -> Obj:
    sidecars = {container["name"] for container in init_containers(pod) if is_sidecar(container)}
    unready = [one["name"] for one in inits if one["name"] in sidecars and not one["ready"]]
    unready += [one["name"] for one in mains if not one["ready"]]
    if phase == "Succeeded":
        return {"type": "ContainersReady", "status": "False", "reason": "PodCompleted"}
    if phase == "Failed":
        return {"type": "ContainersReady", "status": "False", "reason": "PodFailed"}
    if unready:
        return {
            "type": "ContainersReady",
            "status": "False",
            "reason": "ContainersNotReady",
            "message": f"containers with unready status: [{' '.join(unready)}]",
        }
    return {"type": "ContainersReady", "status": "True"}


def ready_condition(pod: Obj, containers_ready: Obj, known: dict[str, Obj]) -> Obj:
    """ContainersReady and every readiness gate."""
    if containers_ready["status"] != "True":
        return {**containers_ready, "type": "Ready"}
    unready = []
    for gate in pod["spec"].get("readinessGates") or ():
        name = gate["conditionType"]
        condition = known.get(name)
        if condition is None:
            unready.append(f'corresponding condition of pod readiness gate "{name}" does not exist.')
        elif condition.get("status") != "True":
            unready.append(f'the status of pod readiness gate "{name}" is not "True", but {condition.get("status")}')
    if unready:
        message = ", ".join(unready)
        return {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady", "message": message}
    return {"type": "Ready", "status": "True"}


def merge(before: Obj, after: Obj, *, alive: bool) -> Obj:
    """The status that may be written: a terminal phase waits for the last process and, once shown, stays."""
    if before.get("phase") in ("Succeeded", "Failed") and after.get("phase") != before["phase"]:
        return {**after, "phase": before["phase"]}
    if after.get("phase") in ("Succeeded", "Failed") and before.get("phase") not in ("Succeeded", "Failed") and alive:
        held = dict(after)
        held["phase"] = before.get("phase") or "Pending"
        held.pop("reason", None)
        held.pop("message", None)
        return held
    return after


def rejected_status(pod: Obj, reason: str, message: str, before: Obj, report: Report) -> Obj:
    """The status of a pod that the node does not take: why, and nothing of containers, of which there are none."""
    status: Obj = {"phase": "Failed", "reason": reason, "message": message}
    status["qosClass"] = qos_class(pod)
    if pod["metadata"].get("generation"):
        status["observedGeneration"] = pod["metadata"]["generation"]
    status["startTime"] = before.get("startTime") or format_time(report.now)
    of_others = [one for one in before.get("conditions") or () if one["type"] not in OWN_CONDITIONS]
    return {**status, "conditions": of_others}


def disrupted(conditions: Iterable[Obj], pod: Obj, message: str, now: datetime) -> list[Obj]:
    """The conditions with DisruptionTarget: the node ends the pod though nobody asked for that."""
    conditions = list(conditions)
    if any(one["type"] == "DisruptionTarget" and one.get("message") == message for one in conditions):
        return conditions
    kept = [one for one in conditions if one["type"] != "DisruptionTarget"]
    condition: Obj = {"type": "DisruptionTarget", "status": "True", "lastProbeTime": None}
    if pod["metadata"].get("generation"):
        condition["observedGeneration"] = pod["metadata"]["generation"]
    condition |= {"lastTransitionTime": format_time(now), "reason": BY_KUBELET, "message": message}
    return [*kept, condition]


def status_patch(pod: Obj, before: Obj, after: Obj) -> Obj | None:
    """A strategic merge patch that turns one status into the other; None where they are the same.

    Only the kubelet's own conditions that changed are named, so that those of others, written meanwhile, stay.
    """
    changed: Obj = {}
    for name, value in after.items():
        if name == "conditions":
            known = {condition["type"]: condition for condition in before.get("conditions") or ()}
            news = [
                _replacing(known.get(one["type"]), one)
                for one in value
                if is_own(one) and _comparable(known.get(one["type"])) != _comparable(one)
            ]
            kept = {condition["type"] for condition in value}
            news += [
                {"type": kind, "$patch": "delete"} for kind in known if kind in OWN_CONDITIONS and kind not in kept
            ]
            if news:
                changed["conditions"] = news
        elif before.get(name) != value:
            if name in ("podIPs", "hostIPs") and before.get(name):
                changed[name] = [*value, {"$patch": "replace"}]
            else:
                changed[name] = value
    for name in before:
        if name not in after and name not in ("conditions", "resize"):
            changed[name] = None
    if not changed:
        return None
    return {"metadata": {"uid": uid_of(pod)}, "status": changed}


def _replacing(old: Obj | None, new: Obj) -> Obj:
    """The new condition, with nulls for what the old one had besides: the merge would keep it."""
    return {**{name: None for name in old or () if name not in new}, **new}


def _comparable(condition: Obj | None) -> Obj | None:
    if condition is None:
        return None
    return {name: value for name, value in condition.items() if value is not None and name != "lastProbeTime"}


def without_nulls(value: Any) -> Any:
    """The value as the API server would store it: members that are null left out."""
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value
