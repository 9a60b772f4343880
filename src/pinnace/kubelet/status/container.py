"""The API's view of containers: one entry of `containerStatuses` from what the runtime says of a container.

Pure. Which instance is shown, when a container that exited counts as waiting, and what is said of one that was lost are
the kubelet's rules (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-states).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from pinnace.cri.api import ContainerState, ContainerStatus
from pinnace.kubelet.pods import init_containers, is_sidecar
from pinnace.kubelet.resources.amounts import actual_resources
from pinnace.kubelet.runtime.status import PodRuntimeStatus, restart_count
from pinnace.kubelet.sync.compute import Health
from pinnace.machinery.meta import Obj, format_time


class Waiting(NamedTuple):
    """Why a container does not start: `CrashLoopBackOff`, `ErrImagePull`, …"""

    reason: str
    message: str


@dataclass(slots=True)
class Report:
    """Everything besides the pod and the runtime's status that a pod's status is made of."""

    now: datetime
    health: Mapping[str, Health] = field(default_factory=dict)  # by container id
    waiting: Mapping[str, Waiting] = field(default_factory=dict)  # by container name
    messages: Callable[[ContainerStatus], str] = lambda status: status.message  # termination messages
    host_ips: list[str] = field(default_factory=list)
    scheme: str = "pinnace"
    terminating: bool = False  # the kubelet is stopping the pod: nothing will be restarted
    restarts: Callable[[Obj, ContainerStatus], bool] = lambda _container, _status: False
    tells_users: bool = False  # whether it shows who containers run as (1.33)
    tells_images: bool = False  # whether this minor of the API shows what images are mounted as volumes (1.36)
    tells_pod_resources: bool = False  # whether it shows the resources of the pod as a whole (1.35)
    tells_restarts: bool = False  # whether it shows that all containers begin anew (1.35, by a gate)
    restarting_all: bool = False  # whether they do now
    devices: Callable[[Obj], list[Obj]] = lambda _container: []  # how those of a container are (1.36, by a gate)
    resizes: list[Obj] = field(default_factory=list)  # the pod's conditions that tell of a resize


def moment(nanoseconds: int) -> str:
    """`metav1.Time` of a CRI time; zero, when a container could not be started, is 1970."""
    return format_time(datetime.fromtimestamp(nanoseconds / 1e9, UTC))


def terminated_state(status: ContainerStatus, report: Report) -> Obj:
    """`state.terminated` of an exited container."""
    reason = status.reason or ("Completed" if status.exit_code == 0 else "Error")
    state: Obj = {"exitCode": status.exit_code, "reason": reason}
    message = report.messages(status)
    if message:
        state["message"] = message
    state["startedAt"] = moment(status.started_at)
    state["finishedAt"] = moment(status.finished_at)
    state["containerID"] = f"{report.scheme}://{status.id}"
    return {"terminated": state}


def _lost_state(message: str) -> Obj:
    return {
        "terminated": {
            "exitCode": 137,
            "reason": "ContainerStatusUnknown",
            "message": message,
            "startedAt": None,
            "finishedAt": None,
        }
    }


def one_status(
    container: Obj,
    runtime: PodRuntimeStatus,
    before: Obj | None,
    default_reason: str,
    report: Report,
    *,
    initialized: bool = True,
) -> Obj:
    """One container's status; `before` is what the API showed last."""
    instances = runtime.instances(container["name"])
    if not instances:
        return _absent(container, before, default_reason, report, initialized)
    newest = instances[0]
    previous = instances[1] if len(instances) > 1 else None
    last_state: Obj = {}
    if previous is not None and previous.state is ContainerState.EXITED:
        last_state = terminated_state(previous, report)
    elif before is not None and restart_count(newest) > 0:
        last_state = _remembered(before, newest, report)
    waiting = report.waiting.get(container["name"])
    if newest.state is ContainerState.RUNNING:
        state: Obj = {"running": {"startedAt": moment(newest.started_at)}}
    elif newest.state is ContainerState.EXITED:
        state = terminated_state(newest, report)
        if waiting is not None and not report.terminating and report.restarts(container, newest):
            last_state, state = state, _waiting(waiting.reason, waiting.message)
    else:
        state = _waiting(waiting.reason, waiting.message) if waiting else _waiting(default_reason)
    shown: Obj = {
        "name": container["name"],
        "state": state,
        "lastState": last_state,
        "ready": False,
        "restartCount": restart_count(newest),
        "image": _image_name(container, newest),
        "imageID": newest.image_ref,
        "containerID": f"{report.scheme}://{newest.id}",
        "started": False,
    }
    if container.get("resources"):
        requests = container["resources"].get("requests")
        if requests:
            shown["allocatedResources"] = requests
        shown["resources"] = actual_resources(container["resources"], newest)
    if report.tells_users and newest.user is not None and newest.user.linux is not None:
        who = newest.user.linux
        groups = {"supplementalGroups": who.supplemental_groups} if who.supplemental_groups else {}
        shown["user"] = {"linux": {"uid": who.uid, "gid": who.gid, **groups}}
    if container.get("volumeMounts"):
        images = {mount.container_path: mount.image.image for mount in newest.mounts if mount.image}
        shown["volumeMounts"] = [_mount_status(mount, images, report) for mount in container["volumeMounts"]]
    return shown


def _mount_status(mount: Obj, images: Mapping[str, str], report: Report) -> Obj:
    """A volume mount as it is; `images` are the references of images that are mounted, by path."""
    shown: Obj = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        shown["readOnly"] = True
        recursive = mount.get("recursiveReadOnly") in ("Enabled", "IfPossible")
        shown["recursiveReadOnly"] = "Enabled" if recursive else "Disabled"
    if report.tells_images and mount["mountPath"] in images:
        shown["volumeStatus"] = {"image": {"imageRef": images[mount["mountPath"]]}}
    return shown


def _image_name(container: Obj, status: ContainerStatus) -> str:
    name = status.image.image
    return name if name and not name.startswith("sha256:") else str(container.get("image", ""))


def _waiting(reason: str, message: str = "") -> Obj:
    state: Obj = {"reason": reason}
    if message:
        state["message"] = message
    return {"waiting": state}


def _remembered(before: Obj, newest: ContainerStatus, report: Report) -> Obj:
    """The last state the API knows, where the runtime no longer has the previous instance."""
    shown = before.get("state", {}).get("terminated")
    identity = f"{report.scheme}://{newest.id}"
    if shown and shown.get("containerID") != identity:
        return {"terminated": shown}
    kept = before.get("lastState") or {}
    if kept.get("terminated", {}).get("containerID") == identity:
        return {}
    return dict(kept)


def _absent(container: Obj, before: Obj | None, default_reason: str, report: Report, initialized: bool) -> Obj:
    """A container the runtime does not have: not started yet, or lost."""
    waiting = report.waiting.get(container["name"])
    shown: Obj = {
        "name": container["name"],
        "state": _waiting(waiting.reason, waiting.message) if waiting else _waiting(default_reason),
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "image": container.get("image", ""),
        "imageID": "",
        "started": False,
    }
    if before is None:
        return shown
    shown["restartCount"] = before.get("restartCount", 0)
    if before.get("lastState"):
        shown["lastState"] = before["lastState"]
    state = before.get("state") or {}
    if "terminated" in state:
        shown.update({"state": state, "imageID": before.get("imageID", "")})
        if before.get("containerID"):
            shown["containerID"] = before["containerID"]
    elif "running" in state:
        if report.terminating:
            shown["state"] = _lost_state("The container could not be located when the pod was terminated")
        else:
            text = "The container could not be located when the pod was deleted.  The container used to be Running"
            shown["lastState"] = _lost_state(text)
            shown["restartCount"] += 1
    elif report.terminating and initialized:
        shown["state"] = _lost_state("The container could not be located when the pod was terminated")
    return shown


def has_initialized(pod: Obj, before: Obj) -> bool:
    """Whether the pod's own containers have had their turn; before that, one that never ran is not a lost one."""
    if not init_containers(pod):
        return True
    for status in before.get("containerStatuses") or ():
        if "waiting" not in (status.get("state") or {}) or (status.get("lastState") or {}).get("terminated"):
            return True
    last = (before.get("initContainerStatuses") or [{}])[-1]
    if is_sidecar(init_containers(pod)[-1]):
        return bool(last.get("started")) and "running" in (last.get("state") or {})
    ends = [(last.get(key) or {}).get("terminated") or {} for key in ("state", "lastState")]
    return any(end.get("exitCode") == 0 for end in ends)


def container_statuses(pod: Obj, kind: str, runtime: PodRuntimeStatus, before: Obj, report: Report) -> list[Obj]:
    """The statuses of `initContainers`, `containers` or `ephemeralContainers`, with `ready` and `started` set."""
    known = {one["name"]: one for one in before.get(_STATUS_KEY[kind]) or ()}
    default_reason = "PodInitializing" if init_containers(pod) else "ContainerCreating"
    if kind == "ephemeralContainers":
        default_reason = "ContainerCreating"
    statuses = []
    initialized = has_initialized(pod, before)
    for container in pod["spec"].get(kind) or ():
        earlier = known.get(container["name"])
        shown = one_status(container, runtime, earlier, default_reason, report, initialized=initialized)
        _set_readiness(kind, container, shown, runtime, report)
        if kind == "containers" and (devices := report.devices(container)):
            shown["allocatedResourcesStatus"] = devices
        statuses.append(shown)
    return statuses


_STATUS_KEY = {
    "initContainers": "initContainerStatuses",
    "containers": "containerStatuses",
    "ephemeralContainers": "ephemeralContainerStatuses",
}


def _set_readiness(kind: str, container: Obj, shown: Obj, runtime: PodRuntimeStatus, report: Report) -> None:
    if kind == "ephemeralContainers":
        del shown["started"]
        return
    if "running" in shown["state"]:
        newest = runtime.latest(container["name"])
        health = report.health.get(newest.id, Health()) if newest else Health()
        shown["started"] = health.started
        if kind == "containers" or is_sidecar(container):
            shown["ready"] = health.started and health.ready
    elif kind == "initContainers" and not is_sidecar(container):
        shown["ready"] = shown["state"].get("terminated", {}).get("exitCode") == 0
