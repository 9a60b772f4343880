"""One task for each pod: brings what runs in line with the newest wish for the pod, and takes it down at the end.

A worker goes through three stages, never back: syncing, terminating, terminated. It is woken by a new wish, a runtime
event, a probe or its own timer; between those it costs nothing. What to do is decided by `compute` and `status`.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path

import structlog

from pinnace.apis.resources import PODS
from pinnace.cri.api import ContainerState, CriError
from pinnace.kubelet.admission.rules import Postponed, Refusal
from pinnace.kubelet.context import Node
from pinnace.kubelet.devices.dra import PrepareError
from pinnace.kubelet.go_words import rpc_error
from pinnace.kubelet.pods import (
    described,
    find_container,
    grace_period,
    is_static,
    log_directory,
)
from pinnace.kubelet.probes.manager import probe_grace
from pinnace.kubelet.resources import resize
from pinnace.kubelet.resources.actuation import actuate, settle
from pinnace.kubelet.resources.amounts import cgroup_parent
from pinnace.kubelet.runtime.status import PodRuntimeStatus, container_name
from pinnace.kubelet.statistics import measures
from pinnace.kubelet.status.pod import disrupted, pod_status, rejected_status
from pinnace.kubelet.sync.compute import Actions, Kill, compute_actions
from pinnace.kubelet.sync.killing import kill_container, kill_pod, remove_pod, stop_all_at_once
from pinnace.kubelet.sync.start_times import StartTimes
from pinnace.kubelet.sync.starting import RETRY, SandboxError, Starter, Stopped, create_sandbox, unless
from pinnace.kubelet.topology.errors import ManagerError, RefusedError
from pinnace.kubelet.volumes.context import VolumeError
from pinnace.kubelet.volumes.pod_volumes import MountErrors, set_up_all, used_volumes
from pinnace.kubelet.volumes.tear_down import remove_volumes, unmount_volumes
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, is_deleting, name_of, namespace_of, parse_time, uid_of

_log = structlog.get_logger()

_ADMISSION_RETRY = 0.1  # seconds, while pods end that make room for this one
_OF_CLAIMS = ("persistentVolumeClaim", "ephemeral", "csi")
_FIRST_MOUNT_RETRY, _LAST_MOUNT_RETRY = 0.5, 122.0

Admit = Callable[[Obj], Refusal | None]


class Stage(Enum):
    SYNCING = "syncing"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    FINISHED = "finished"  # nothing of the pod is left on the node


class PodWorker:
    """The life of one pod on this node."""

    def __init__(self, node: Node, pod: Obj, admit: Admit) -> None:
        self.asked = pod  # as its source has it
        self.pod = node.resizing.take(pod)  # with the sizes that the node has granted
        self.stage = Stage.SYNCING
        self.admitted = False
        self.gone = False  # nobody wishes for the pod any more: its object was removed, or its file
        self._node = node
        self._admit = admit
        self._stopping = asyncio.Event()  # set once the pod is to end: interrupts pulls, hooks and waits
        self._wake = asyncio.Event()
        self._updated = False  # since the last step
        self._restarting_all = False  # all containers are being stopped to begin anew
        self._times = StartTimes(pod)
        self._starter = Starter(node, self._stopping, self._show, self._times)
        self._volumes: dict[str, Path] | None = None
        self._plugins: dict[str, str] = {}  # what makes a volume ready, by its name
        self._volumes_at = 0.0
        self._volumes_stale = False  # what they are made of is another now
        self._mount_retry = _FIRST_MOUNT_RETRY
        self._evicted: Refusal | None = None
        self._rejected = False  # the node does not take the pod: its status says why, and no more
        self._disrupted = ""  # why the node ends the pod before its time
        self._most_grace: int | None = None  # seconds, where the node cannot wait for the pod's own grace period
        self._ended = asyncio.Event()  # set once no container runs any more
        self._next_due = 0.0
        self._killing: asyncio.Task[None] | None = None
        self._grace = 0

    @property
    def uid(self) -> str:
        return uid_of(self.pod)

    @property
    def ending(self) -> bool:
        """Whether the pod is on its way out, or has gone it."""
        return self._stopping.is_set()

    def volumes_of_claims(self) -> list[tuple[Obj, Path]]:
        """The pod's volumes that are ready and not its own alone to know: of claims, or of a driver for it."""
        ready = self._volumes or {}
        return [
            (volume, ready[volume["name"]])
            for volume in self.pod["spec"].get("volumes") or ()
            if volume["name"] in ready and any(volume.get(kind) for kind in _OF_CLAIMS)
        ]

    def plugins_of_volumes(self) -> tuple[list[str], list[str]]:
        """What makes the volumes ready that containers use, and what has those that are."""
        wanted = [one["name"] for one in used_volumes(self.pod)] if self.stage is Stage.SYNCING else []
        ready = self._volumes or {} if self.stage in (Stage.SYNCING, Stage.TERMINATING) else {}
        known = self._plugins
        return [known[name] for name in wanted if name in known], [known[name] for name in ready if name in known]

    # What the outside tells a worker.

    def update(self, pod: Obj) -> None:
        """A newer wish for the pod."""
        self._updated = True
        self.note(pod)
        if is_deleting(pod):
            self._end()
        self.refresh()

    def note(self, pod: Obj) -> None:
        """The pod's object is another, though perhaps in nothing that this worker acts upon."""
        self.asked = pod
        self.pod = self._node.resizing.take(pod)

    def remove(self) -> None:
        """The pod's object or file is gone: stop it and leave nothing."""
        self.gone = True
        self._end()
        self.poke()

    def fail(self, reason: str, message: str, *, grace: int | None = None, disruption: str = "") -> None:
        """Stop the pod for good with phase Failed: eviction, preemption, a node that shuts down.

        `grace` seconds count instead of the pod's own; `disruption` is the message of its condition DisruptionTarget.
        """
        if self._stopping.is_set() and self.stage is not Stage.TERMINATING:
            return
        if self._evicted is None:
            self._evicted = Refusal(reason, message, message)
            self._disrupted = disruption
        self._most_grace = grace
        self._end()
        self.poke()

    async def ended(self) -> None:
        """Wait until none of the pod's containers runs."""
        await self._ended.wait()

    def refresh(self) -> None:
        """What the pod's volumes are made of changed."""
        self._volumes_stale = True
        self.poke()

    def poke(self) -> None:
        """Look again: something may have changed."""
        self._wake.set()

    def _end(self) -> None:
        self._stopping.set()
        if self._killing is not None and self._allowed_grace() < self._grace:
            self._killing.cancel()  # a shorter grace period counts at once

    def _allowed_grace(self) -> int:
        if self.gone and not is_deleting(self.pod):
            return 1
        return grace_period(self.pod) if self._most_grace is None else max(1, self._most_grace)

    # The task.

    async def run(self) -> None:
        """Live until nothing of the pod is left."""
        measures.pod_worker_start.observe(self._times.age())
        while self.stage is not Stage.FINISHED:
            self._wake.clear()
            began, operation = time.perf_counter(), self._operation()
            try:
                delay = await self._step()
            except Postponed:
                delay = _ADMISSION_RETRY
            except CriError as error:
                _log.warning("runtime call failed", pod=described(self.pod), error=rpc_error(error))
                delay = 2.0
            except (OSError, VolumeError) as error:
                _log.warning("pod sync failed", pod=described(self.pod), error=str(error))
                delay = RETRY
            except Exception:
                _log.exception("pod sync failed", pod=described(self.pod))
                delay = RETRY
            measures.pod_worker.observe(time.perf_counter() - began, operation)
            await self._sleep(delay)

    def _operation(self) -> str:
        """What the next step is, as it is measured."""
        if self.ending:
            return "kill"
        updated, self._updated = self._updated, False
        return "create" if not self.admitted else "update" if updated else "sync"

    async def _sleep(self, delay: float | None) -> None:
        if self.stage is Stage.FINISHED or self._wake.is_set():
            return
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _step(self) -> float | None:
        if self.stage is Stage.SYNCING:
            if self._stopping.is_set() or self.gone or is_deleting(self.pod):
                self._stopping.set()
                self.stage = Stage.TERMINATING
            else:
                return await self._sync()
        if self.stage is Stage.TERMINATING:
            await self._terminate()
            self.stage = Stage.TERMINATED
            self._node.objects.unregister(self.uid)
        return await self._clean_up()

    def _runtime(self) -> PodRuntimeStatus:
        return self._node.cache.get(self.uid)

    def _show(self) -> Obj:
        """Work out the status and have it written."""
        node, runtime = self._node, self._runtime()
        before = node.statuses.shown(self.pod)
        report = node.report(
            self.pod,
            self._starter.waiting,
            terminating=self.stage is not Stage.SYNCING,
            restarting_all=self._restarting_all,
        )
        status = pod_status(self.pod, runtime, before, report)
        self._times.note(self.pod, status)
        if self._evicted is not None:
            status.update(phase="Failed", reason=self._evicted.reason, message=self._evicted.message)
        alive = bool(runtime.running())
        if self._disrupted and not alive:
            status["conditions"] = disrupted(status["conditions"], self.pod, self._disrupted, report.now)
        return node.statuses.set(self.pod, status, alive=alive)

    # Syncing.

    async def _sync(self) -> float | None:
        if not self.admitted and not (self._try_to_admit() and await self._take_resources()):
            return 0.0
        self.pod = self._node.resizing.applied(self.asked)
        self._look_after_probes()
        status = self._show()
        if status["phase"] in ("Succeeded", "Failed") or self._deadline_passed(status):
            self._stopping.set()
            self.stage = Stage.TERMINATING
            return 0.0
        try:
            delay = await self._act()
        except Stopped:
            return 0.0
        self._look_after_probes()
        settle(self._node, self.pod)
        status = self._show()
        if status["phase"] in ("Succeeded", "Failed"):
            self._stopping.set()
            self.stage = Stage.TERMINATING
            return 0.0
        return min(delay, self._deadline_left(status))

    def _try_to_admit(self) -> bool:
        """Ask once whether the node takes the pod; what runs already was taken before."""
        phase = (self._node.statuses.shown(self.pod)).get("phase")
        if self._runtime().containers or phase in ("Running", "Succeeded", "Failed"):
            self._node.resizing.admitted(self.pod)
            self.admitted = True
            return True
        refusal = self._admit(self.pod)
        if refusal is None:
            self._node.resizing.admitted(self.pod)
            self.admitted = True
            return True
        self._reject(refusal)
        return False

    async def _take_resources(self) -> bool:
        """Have the pod's CPUs, memory and devices allocated; whether it can run."""
        try:
            await self._node.managers.allocate(self.pod)
        except ManagerError as error:
            reason, text = "UnexpectedAdmissionError", f"Allocate failed due to {error}, which is unexpected"
            if isinstance(error, RefusedError):
                reason, text = error.reason, str(error)
            self.admitted = False
            self._reject(Refusal(reason, f"Pod was rejected: {text}", text))
            return False
        self._node.cpus_changed()
        return True

    async def _give_claims_back(self) -> None:
        try:
            await self._node.claims.unprepare(self.uid)
        except PrepareError as error:
            _log.warning("cannot give devices back", pod=described(self.pod), error=str(error))

    def _reject(self, refusal: Refusal) -> None:
        """The node does not take the pod: it is Failed, and nothing of it runs."""
        node = self._node
        measures.rejections.inc(refusal.reason)
        node.tell(self.pod, "Warning", refusal.reason, refusal.event)
        before = node.statuses.shown(self.pod)
        report = node.report(self.pod, {}, terminating=True)
        status = rejected_status(self.pod, refusal.reason, refusal.message, before, report)
        node.statuses.set(self.pod, status, alive=False)
        self._evicted, self._rejected = refusal, True
        self._stopping.set()
        self.stage = Stage.TERMINATING

    def _deadline_left(self, status: Obj) -> float:
        """Seconds until activeDeadlineSeconds are over."""
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        if seconds is None or not status.get("startTime"):
            return float("inf")
        return max(0.0, float(parse_time(status["startTime"]).timestamp() + int(seconds) - time.time()))

    def _deadline_passed(self, status: Obj) -> bool:
        if self._deadline_left(status) > 0:
            return False
        text = "Pod was active on the node longer than the specified deadline"
        self._node.tell(self.pod, "Normal", "DeadlineExceeded", text)
        self._evicted = Refusal("DeadlineExceeded", text, text)
        return True

    def _look_after_probes(self) -> None:
        runtime = self._runtime()
        address = runtime.ips[0] if runtime.ips else self._node.options.node_ip
        alive = set()
        for status in runtime.running():
            alive.add(status.id)
            container = find_container(self.pod, container_name(status))
            if container is not None:
                self._node.probes.ensure(self.pod, container, status, address)
        self._node.probes.keep_only(self.uid, alive)

    async def _act(self) -> float:
        """Do the difference once; seconds until the pod should be looked at again."""
        sync = self._node.options.sync_frequency * random.uniform(0.9, 1.1)
        resized = resize.difference(self.pod, self._node.resizing.actual(self.pod), self._runtime())
        actions = compute_actions(self.pod, self._runtime(), self._node.probes.health, resized.restart)
        if self._volumes is not None or not actions:
            await self._refresh_volumes()
        if not actions:
            if not await actuate(self._node, self.pod, resized):
                return RETRY
            return sync
        if actions.kill_pod:
            if actions.create_sandbox:
                text = "Pod sandbox changed, it will be killed and re-created."
                self._node.tell(self.pod, "Normal", "SandboxChanged", text)
            await kill_pod(self._node, self.pod, grace_period(self.pod))
            if not actions.create_sandbox:
                self._show()
                return sync
        if actions.restart_all:
            return await self._restart_all(actions.restart_all)
        for kill in actions.kill:
            await self._kill(kill)
        if not actions.create_sandbox and not await actuate(self._node, self.pod, resized):
            sync = RETRY
        if not (actions.create_sandbox or actions.start_init or actions.start or actions.start_ephemeral):
            return sync
        left = self._next_due - time.monotonic()
        if actions.create_sandbox and left > 0:
            return left
        try:
            volumes = await unless(self._stopping, self._mount())
            if self.pod["spec"].get("resourceClaims"):
                await unless(self._stopping, self._node.claims.prepare(self.pod))
        except MountErrors as errors:
            return self._mount_failed(errors)
        except (PrepareError, ApiError) as error:
            text = f"Failed to prepare dynamic resources: {error}"
            self._node.tell(self.pod, "Warning", "FailedPrepareDynamicResources", text)
            return RETRY
        if actions.create_sandbox:
            try:
                await create_sandbox(self._node, self.pod, actions.attempt)
            except SandboxError:
                self._next_due = time.monotonic() + RETRY
                return RETRY
        return await self._start(actions, volumes, sync)

    async def _restart_all(self, trigger: str) -> float:
        """Stop and remove all containers, so that the pod begins anew in its sandbox; seconds until that is due."""
        container = find_container(self.pod, trigger)
        left = self._starter.backoff_left(self.pod, container) if container is not None else 0.0
        if left > 0:
            return left
        self._restarting_all = True
        self._show()
        try:
            await stop_all_at_once(self._node, self.pod, self._runtime().running())
            self._show()
            await self._starter.begin_anew(self.pod, trigger)
        finally:
            self._restarting_all = False
        return 0.0

    async def _start(self, actions: Actions, volumes: dict[str, Path], sync: float) -> float:
        """Start containers in order; the sooner of their retries."""
        delays = [sync]
        for name in (*actions.start_ephemeral, *actions.start_init, *actions.start):
            if self._stopping.is_set():
                raise Stopped
            container = find_container(self.pod, name)
            if container is None:
                continue
            left = await self._starter.start(self.pod, container, volumes)
            if left > 0:
                delays.append(left)
        self._look_after_probes()
        following = compute_actions(self.pod, self._runtime(), self._node.probes.health)
        if following.start_init and set(following.start_init) - set(actions.start_init):
            return 0.0  # a sidecar runs: the next init container need not wait for an event
        if following.start and not actions.start:
            return 0.0
        return min(delays)

    async def _kill(self, kill: Kill) -> None:
        status = next((one for one in self._runtime().containers if one.id == kill.container_id), None)
        container = find_container(self.pod, kill.name)
        if status is None or container is None:
            return
        asked = probe_grace(container, kill.reason)
        grace = grace_period(self.pod) if asked is None else asked
        await kill_container(self._node, self.pod, status, grace, kill.message)

    async def _mount(self) -> dict[str, Path]:
        """All volumes, made ready once, and again when a container comes that uses others."""
        if self._volumes is None or any(one["name"] not in self._volumes for one in used_volumes(self.pod)):
            context = self._node.volume_context(self.pod)
            try:
                self._volumes = await set_up_all(context)
            finally:
                self._plugins |= context.plugins
            self._volumes_at = time.monotonic()
            self._mount_retry = _FIRST_MOUNT_RETRY
        return self._volumes

    def _mount_failed(self, errors: MountErrors) -> float:
        self._tell_of_volumes(errors)
        delay = self._mount_retry
        self._mount_retry = min(2 * delay, _LAST_MOUNT_RETRY)
        return delay

    async def _refresh_volumes(self) -> None:
        """Bring volumes that follow API objects up to date: when those change, and about once a minute for tokens.

        Where a driver wants to hear of its volumes again, it does whenever the pod is looked at.
        """
        due = time.monotonic() - self._volumes_at >= 0.8 * self._node.options.sync_frequency
        due = due or self.uid in self._node.csi.republishing
        if not self.pod["spec"].get("volumes") or not (due or self._volumes_stale):
            return
        self._volumes_stale = False
        context = self._node.volume_context(self.pod)
        self._volumes_at = time.monotonic()
        try:
            found = await unless(self._stopping, set_up_all(context, again=self._volumes is not None))
        except MountErrors as errors:
            self._tell_of_volumes(errors)
        else:
            self._volumes = {**(self._volumes or {}), **found}

    def _tell_of_volumes(self, errors: MountErrors) -> None:
        for reason, message in errors.events():
            self._node.tell(self.pod, "Warning", reason, message)

    # Terminating and what comes after.

    async def _terminate(self) -> None:
        """Stop everything; a grace period that is shortened meanwhile counts."""
        node = self._node
        node.probes.stop_liveness(self.uid)
        if not (self.gone or self._rejected):
            self._show()
        while True:
            self._grace = self._allowed_grace()
            self._killing = asyncio.create_task(kill_pod(node, self.pod, self._grace))
            try:
                await asyncio.shield(self._killing)
                break
            except asyncio.CancelledError:
                if not self._killing.cancelled():
                    self._killing.cancel()
                    raise  # the worker itself is being cancelled
            finally:
                self._killing = None
        self._ended.set()
        if self.pod["spec"].get("resourceClaims"):
            await self._give_claims_back()
        if node.managers.release(self.uid):
            node.cpus_changed()
        node.probes.forget_pod(self.uid)

    async def _clean_up(self) -> float | None:
        """Final status; for a pod that is deleted also its files, containers and its object."""
        node = self._node
        if any(one.state is ContainerState.RUNNING for one in self._runtime().containers):
            await kill_pod(node, self.pod, 1)
        if not self.gone and (self._evicted is None or self._runtime().containers):
            self._show()
        deleting = is_deleting(self.pod) or self.gone
        if not deleting:
            await unmount_volumes(node.csi, node.disks, self.uid)
            return None
        if not self.gone and not is_static(self.pod):
            await node.statuses.flush(self.pod)
        await remove_pod(node, self.uid)
        if node.cgroups is not None:
            node.cgroups.remove_if_empty(cgroup_parent(self.pod, node.options.cgroup_root))
        await remove_volumes(node.csi, node.disks, self.uid)
        _remove_logs(log_directory(node.options.pod_logs_dir, self.pod))
        node.puller.forget(self.uid)
        node.crashes.forget_prefix(self.uid)
        node.tokens.forget(self.uid)
        if not self.gone and not is_static(self.pod):
            await self._delete_object()
        node.statuses.forget(self.pod)
        self.stage = Stage.FINISHED
        return None

    async def _delete_object(self) -> None:
        """The last step of a graceful deletion: the object itself, if it is still the same pod's."""
        try:
            await self._node.client.delete(
                PODS, name_of(self.pod), namespace_of(self.pod), grace_period_seconds=0, uid=self.uid
            )
        except ApiError as error:
            if not (error.is_not_found or error.is_conflict):
                raise


def _remove_logs(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
