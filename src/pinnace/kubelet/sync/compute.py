"""What must change so that the runtime has what a pod asks for: a pure function from both to a list of actions.

The rules are those of the kubelet's pod sync: a new sandbox when the old one is gone, init containers in order with
native sidecars kept running, main containers by restart policy, containers of another image replaced
(https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/,
https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pinnace.cri.api import ContainerState, ContainerStatus, NamespaceMode, PodSandboxState
from pinnace.kubelet.pods import (
    container_hash,
    containers,
    ephemeral_containers,
    init_containers,
    is_host_network,
    is_sidecar,
    restart_policy,
)
from pinnace.kubelet.runtime.status import PodRuntimeStatus, spec_hash
from pinnace.machinery.meta import Obj, is_deleting


class Health(NamedTuple):
    """What probes say of one container instance; the defaults are those of a container without probes."""

    started: bool = True  # the startup probe has succeeded
    live: bool = True  # the liveness probe has not given up
    startup_failed: bool = False  # the startup probe has given up
    ready: bool = True


HealthOf = Mapping[str, Health]
"""By container id; an id that is missing has no probes, or none that has answered."""


@dataclass(frozen=True, slots=True)
class Kill:
    """Stop one container instance."""

    container_id: str
    name: str
    message: str  # of the Killing event
    reason: str  # Liveness, Startup, Changed, Unknown, Resize


@dataclass(slots=True)
class Actions:
    """The difference between what is wanted and what is there."""

    kill_pod: bool = False  # stop every container and the sandbox
    create_sandbox: bool = False
    attempt: int = 0  # of the sandbox to create
    restart_all: str = ""  # the container whose end starts all of the pod anew, in the same sandbox
    kill: list[Kill] = field(default_factory=list)
    start_init: list[str] = field(default_factory=list)  # names of init containers and sidecars
    start: list[str] = field(default_factory=list)
    start_ephemeral: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(
            self.kill_pod
            or self.create_sandbox
            or self.restart_all
            or self.kill
            or self.start_init
            or self.start
            or self.start_ephemeral
        )


def sandbox_changed(pod: Obj, runtime: PodRuntimeStatus) -> tuple[bool, int]:
    """Whether the pod needs a new sandbox, and that one's attempt number."""
    newest = runtime.sandbox
    if newest is None:
        return True, 0
    following = newest.metadata.attempt + 1
    ready = [box for box in runtime.sandboxes if box.state is PodSandboxState.READY]
    if len(ready) > 1 or newest.state is not PodSandboxState.READY:
        return True, following
    wanted = NamespaceMode.NODE if is_host_network(pod) else NamespaceMode.POD
    if newest.namespaces.network is not wanted:
        return True, following
    if not is_host_network(pod) and not newest.ips:
        return True, following
    return False, newest.metadata.attempt


def compute_actions(pod: Obj, runtime: PodRuntimeStatus, health: HealthOf, resized: Collection[str] = ()) -> Actions:
    """What to do now; nothing to do is an empty `Actions`. `resized` names containers that a new size restarts."""
    changed, attempt = sandbox_changed(pod, runtime)
    if changed:
        return _with_new_sandbox(pod, runtime, attempt)
    actions = Actions(attempt=attempt, restart_all=_restarts_all(pod, runtime))
    if actions.restart_all:
        return actions
    for container in ephemeral_containers(pod):
        if runtime.latest(container["name"]) is None:
            actions.start_ephemeral.append(container["name"])
    if not _init_actions(pod, runtime, health, actions, resized) or actions.kill_pod:
        return actions
    kept = _main_actions(pod, runtime, health, actions, resized)
    if kept == 0 and not actions.start:
        actions.kill_pod = True  # nothing is left that must run, so sidecars have no one to serve
        actions.start_init = []
    return actions


def _with_new_sandbox(pod: Obj, runtime: PodRuntimeStatus, attempt: int) -> Actions:
    actions = Actions(kill_pod=bool(runtime.sandboxes), create_sandbox=True, attempt=attempt)
    if attempt > 0 and runtime.containers and not any(_may_run_again(pod, one) for one in containers(pod)):
        actions.create_sandbox = False
        return actions
    start = [
        container["name"]
        for container in containers(pod)
        if not _has_ended_for_good(pod, container, runtime.latest(container["name"]))
    ]
    if not start:
        actions.create_sandbox = False
    elif init_containers(pod):
        actions.start_init = [init_containers(pod)[0]["name"]]
    else:
        actions.start = start
    return actions


def _may_run_again(pod: Obj, container: Obj) -> bool:
    return _policy(pod, container) != "Never" or bool(container.get("restartPolicyRules"))


def _has_ended_for_good(pod: Obj, container: Obj, status: ContainerStatus | None) -> bool:
    """Whether a new sandbox need not run the container: it succeeded, or it is not to be restarted by itself."""
    if status is None or status.state is not ContainerState.EXITED:
        return False
    if status.exit_code == 0 and _policy(pod, container) == "OnFailure":
        return not restarts(pod, container, 0)
    return bool(container.get("restartPolicy")) and not restarts(pod, container, status.exit_code)


def _policy(pod: Obj, container: Obj) -> str:
    """The container's restart policy, which wins over the pod's."""
    return container.get("restartPolicy") or restart_policy(pod)


def has_initialized(pod: Obj, runtime: PodRuntimeStatus) -> bool:
    """Whether a main container was started in the present sandbox, so that init containers lie behind."""
    for container in containers(pod):
        status = runtime.current(container["name"])
        if status is not None and status.state in (ContainerState.RUNNING, ContainerState.EXITED):
            return True
    return False


def _init_actions(
    pod: Obj, runtime: PodRuntimeStatus, health: HealthOf, actions: Actions, resized: Collection[str]
) -> bool:
    """Walk the init containers in order; whether main containers may run."""
    initialized = has_initialized(pod, runtime)
    listed = init_containers(pod)
    for index, container in enumerate(listed):
        status = runtime.current(container["name"])
        if is_sidecar(container):
            serving = _sidecar_action(container, status, health, actions, resized)
            passed = any(runtime.current(later["name"]) is not None for later in listed[index + 1 :])
            if not serving and not initialized and not passed:
                return False
        elif not initialized and not _init_done(pod, container, status, actions):
            return False
    return True


def _sidecar_action(
    container: Obj, status: ContainerStatus | None, health: HealthOf, actions: Actions, resized: Collection[str]
) -> bool:
    """Keep a sidecar running; whether the containers after it may start."""
    name = container["name"]
    if status is None or status.state is not ContainerState.RUNNING:
        actions.start_init.append(name)
        return False
    kill = _reason_to_kill(container, status, health)
    if kill is not None:
        reason, message = kill
        actions.kill.append(Kill(status.id, name, f"{message}, will be restarted", reason))
        actions.start_init.append(name)
        return False
    if name in resized:
        actions.kill.append(_resize(status, name))
        actions.start_init.append(name)
    return health.get(status.id, Health()).started


def _init_done(pod: Obj, container: Obj, status: ContainerStatus | None, actions: Actions) -> bool:
    """Move one init container on; whether it is behind us."""
    name = container["name"]
    if status is None or status.state in (ContainerState.CREATED, ContainerState.UNKNOWN):
        if status is not None and status.state is ContainerState.UNKNOWN:
            actions.kill.append(_unknown(status, name, "Init container"))
        actions.start_init.append(name)
        return False
    if status.state is ContainerState.RUNNING:
        return False
    if status.exit_code == 0:
        return True
    if not restarts(pod, container, status.exit_code):
        actions.kill_pod = True
        actions.start_init = []
    else:
        actions.start_init.append(name)
    return False


def _main_actions(
    pod: Obj, runtime: PodRuntimeStatus, health: HealthOf, actions: Actions, resized: Collection[str]
) -> int:
    """Decide for each main container; how many stay as they are."""
    kept = 0
    for container in containers(pod):
        name = container["name"]
        status = runtime.latest(name)
        if status is None or status.state is not ContainerState.RUNNING:
            if should_restart(pod, container, status):
                actions.start.append(name)
                if status is not None and status.state is ContainerState.UNKNOWN:
                    actions.kill.append(_unknown(status, name, "Container"))
            continue
        kill = _reason_to_kill(container, status, health)
        if kill is None and name in resized:
            actions.kill.append(_resize(status, name))
            actions.start.append(name)
            continue
        if kill is None:
            kept += 1
            continue
        reason, message = kill
        if reason == "Changed" or restarts(pod, container, None):
            message += ", will be restarted"
            actions.start.append(name)
        actions.kill.append(Kill(status.id, name, message, reason))
    return kept


def _reason_to_kill(container: Obj, status: ContainerStatus, health: HealthOf) -> tuple[str, str] | None:
    name = container["name"]
    if spec_hash(status) not in ("", container_hash(container)):
        return "Changed", f"Container {name} definition changed"
    known = health.get(status.id, Health())
    if not known.live:
        return "Liveness", f"Container {name} failed liveness probe"
    if known.startup_failed:
        return "Startup", f"Container {name} failed startup probe"
    return None


def _resize(status: ContainerStatus, name: str) -> Kill:
    return Kill(status.id, name, f"Container {name} resize requires restart", "Resize")


def _unknown(status: ContainerStatus, name: str, kind: str) -> Kill:
    return Kill(status.id, name, f"{kind} is in {status.state.value} state, try killing it before restart", "Unknown")


def should_restart(pod: Obj, container: Obj, status: ContainerStatus | None) -> bool:
    """Whether a main container that does not run is to run (again)."""
    if is_deleting(pod):
        return False
    if status is None or status.state in (ContainerState.UNKNOWN, ContainerState.CREATED):
        return True
    if status.state is ContainerState.RUNNING:
        return False
    return restarts(pod, container, status.exit_code)


def restarts(pod: Obj, container: Obj, exit_code: int | None) -> bool:
    """The restart policy's answer to an exit (None: to being killed): the container's rules, its policy, the pod's."""
    if exit_code is not None and _ruled(container, exit_code):
        return True
    policy = _policy(pod, container)
    if policy == "Always":
        return True
    if policy == "OnFailure":
        return exit_code != 0
    return False


def _ruled(container: Obj, exit_code: int) -> str:
    """What the first of the container's rules that fits says to do; empty where none does."""
    for rule in container.get("restartPolicyRules") or ():
        if _rule_matches(rule.get("exitCodes") or {}, exit_code):
            return str(rule.get("action") or "")
    return ""


def _restarts_all(pod: Obj, runtime: PodRuntimeStatus) -> str:
    """The container that ended so that all of the pod starts anew; empty where none did."""
    if is_deleting(pod):
        return ""
    for container in (*init_containers(pod), *containers(pod)):
        status = runtime.current(container["name"])
        ended = status is not None and status.state is ContainerState.EXITED
        if status is not None and ended and _ruled(container, status.exit_code) == "RestartAllContainers":
            return str(container["name"])
    return ""


def _rule_matches(exit_codes: Obj, exit_code: int) -> bool:
    listed = exit_code in (exit_codes.get("values") or ())
    return listed if exit_codes.get("operator") == "In" else not listed
