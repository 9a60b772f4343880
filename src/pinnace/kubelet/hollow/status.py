"""What a hollow node writes: the Node, and the status of its pods as a kubelet of a healthy machine would report it.

Pure functions from a pod and a moment to what its status becomes; shapes are those of
https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#PodStatus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from pinnace.kubelet.node.status import node_conditions
from pinnace.machinery.meta import Obj, format_time, get_in

CAPACITY = {"cpu": "8", "memory": "16Gi", "ephemeral-storage": "100Gi", "pods": "110"}
RUNTIME = "hollow://1.0"


def node(name: str, labels: Mapping[str, str], taints: Sequence[Obj]) -> Obj:
    """The Node as it is registered, without status."""
    named = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**named, **labels}},
        "spec": {"taints": list(taints)} if taints else {},
    }


def node_status(before: Obj, name: str, capacity: Mapping[str, str], address: str, port: int, version: str) -> Obj:
    """The whole status but conditions; `address` and `port` lead to its kubelet, `version` is like v1.37.0."""
    amounts = {**CAPACITY, **capacity}
    return {
        **before,
        "capacity": amounts,
        "allocatable": amounts,
        "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {
            "machineID": name,
            "systemUUID": name,
            "bootID": name,
            "kernelVersion": "none",
            "osImage": "none",
            "operatingSystem": "linux",
            "architecture": "amd64",
            "containerRuntimeVersion": RUNTIME,
            "kubeletVersion": version,
            "kubeProxyVersion": version,
        },
    }


def healthy(before: Obj, now: datetime) -> Obj:
    """The conditions of a node that is well."""
    return {"conditions": node_conditions(before, "", now)}


# Pods.


class Place(NamedTuple):
    """Where a pod runs."""

    address: str  # its own
    host: str  # its node's


def running(pod: Obj, place: Place, now: datetime, *, ready: bool) -> Obj:
    """All containers started just now."""
    moment = format_time(now)
    kinds = ("PodReadyToStartContainers", "Initialized", "PodScheduled")
    return {
        "phase": "Running",
        "hostIP": place.host,
        "hostIPs": [{"ip": place.host}],
        "podIP": place.address,
        "podIPs": [{"ip": place.address}],
        "startTime": moment,
        "conditions": [*(_condition(kind, "True", moment) for kind in kinds), *_readiness(ready, moment)],
        "initContainerStatuses": [_init_status(one, moment) for one in get_in(pod, "spec", "initContainers") or ()],
        "containerStatuses": [_started(one, moment, ready=ready) for one in pod["spec"]["containers"]],
    }


def ready(pod: Obj, now: datetime) -> Obj:
    """All containers of a running pod became ready."""
    return {
        "conditions": _readiness(True, format_time(now)),
        "containerStatuses": [{**state, "ready": True} for state in pod["status"]["containerStatuses"]],
    }


def finished(pod: Obj, now: datetime, exit_code: int) -> Obj:
    """All containers ended for good."""
    moment = format_time(now)
    reason = "PodFailed" if exit_code else "PodCompleted"
    return {
        "phase": "Failed" if exit_code else "Succeeded",
        "conditions": [
            {**_condition(kind, "False", moment), "reason": reason} for kind in ("ContainersReady", "Ready")
        ],
        "containerStatuses": [
            {**state, "ready": False, "started": False, "state": {"terminated": _terminated(state, moment, exit_code)}}
            for state in _states(pod, moment)
        ],
    }


def past_deadline(pod: Obj, now: datetime) -> Obj:
    """The pod was active for longer than its activeDeadlineSeconds."""
    message = "Pod was active on the node longer than the specified deadline"
    return {**finished(pod, now, 137), "reason": "DeadlineExceeded", "message": message}


def crashed(pod: Obj, now: datetime, exit_code: int) -> Obj:
    """All containers ended and wait to be started again."""
    moment = format_time(now)
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}
    return {
        "conditions": _readiness(False, moment),
        "containerStatuses": [
            {
                **state,
                "ready": False,
                "started": False,
                "state": {"waiting": waiting},
                "lastState": {"terminated": _terminated(state, moment, exit_code)},
            }
            for state in _states(pod, moment)
        ],
    }


def restarted(pod: Obj, now: datetime, exit_code: int | None = None) -> Obj:
    """All containers started again; with `exit_code`, they ended just now."""
    moment = format_time(now)
    states = []
    for state in _states(pod, moment):
        last = state["lastState"] if exit_code is None else {"terminated": _terminated(state, moment, exit_code)}
        run = {"running": {"startedAt": moment}}
        restarts = state["restartCount"] + 1
        states.append(
            {**state, "ready": True, "started": True, "state": run, "lastState": last, "restartCount": restarts}
        )
    return {"conditions": _readiness(True, moment), "containerStatuses": states}


def _states(pod: Obj, moment: str) -> list[Obj]:
    """The containers' states so far; of a pod that was never started, as if it had been just now."""
    known: list[Obj] = get_in(pod, "status", "containerStatuses") or []
    return known or [_started(one, moment, ready=False) for one in pod["spec"]["containers"]]


def _readiness(ready: bool, moment: str) -> list[Obj]:
    if ready:
        return [_condition(kind, "True", moment) for kind in ("ContainersReady", "Ready")]
    return [
        {**_condition(kind, "False", moment), "reason": "ContainersNotReady"} for kind in ("ContainersReady", "Ready")
    ]


def _condition(kind: str, value: str, moment: str) -> Obj:
    return {"type": kind, "status": value, "lastTransitionTime": moment}


def _init_status(container: Obj, moment: str) -> Obj:
    started = _started(container, moment, ready=True)
    if container.get("restartPolicy") == "Always":  # a sidecar
        return started
    return {**started, "started": False, "state": {"terminated": _terminated(started, moment, 0)}}


def _terminated(state: Obj, moment: str, exit_code: int) -> Obj:
    since = get_in(state, "state", "running", "startedAt", default=moment)
    reason = "Error" if exit_code else "Completed"
    return {
        "exitCode": exit_code,
        "reason": reason,
        "startedAt": since,
        "finishedAt": moment,
        "containerID": state["containerID"],
    }


def _started(container: Obj, moment: str, *, ready: bool) -> Obj:
    image = container.get("image", "")
    return {
        "name": container["name"],
        "image": image,
        "imageID": f"hollow://{image}",
        "containerID": f"hollow://{container['name']}",
        "ready": ready,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": moment}},
        "lastState": {},
    }
