"""Containers: from an image and a CRI config to a process of the monitor's, its state, its end and its removal.

The kubelet's view of a container lies in its record; the process belongs to the monitor, whose events (not polling)
end records. A start that fails leaves an exited container with code 128 and reason StartError, as containerd does.
"""

# ruff: noqa: PTH103, PTH116, PTH118, PTH208
# Descriptors, mounts and /proc files: `os` is the interface here, and pathlib would cost memory in every container.
from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pinnace.cri.api import (
    Container,
    ContainerConfig,
    ContainerEventType,
    ContainerState,
    ContainerStats,
    ContainerStatus,
    ContainerUser,
    CriError,
    Device,
    ImageSpec,
    LinuxContainerResources,
    LinuxContainerUser,
    MountPropagation,
    NamespaceMode,
)
from pinnace.cri.engine import _syscalls as sys_
from pinnace.cri.engine import cdi, checkpoints, image_volumes, propagation, seccomp, spec, users
from pinnace.cri.engine import cgroups as cgroup_rules
from pinnace.cri.engine.apparmor import AppArmor
from pinnace.cri.engine.cgroups import Cgroups
from pinnace.cri.engine.handlers import Handlers
from pinnace.cri.engine.images.shifted import Shift
from pinnace.cri.engine.images.snapshots import Snapshots
from pinnace.cri.engine.images.store import ImageRecord, ImageStore
from pinnace.cri.engine.monitor_client import MonitorClient, MonitorError
from pinnace.cri.engine.procfs import kill_cgroup, read_json
from pinnace.cri.engine.records import ContainerRecord, Names, RecordFiles, SandboxRecord, container_name, find
from pinnace.cri.engine.sandboxes import Sandboxes, device_of, user_mappings

Emit = Callable[[ContainerEventType, str, SandboxRecord], None]

START_ERROR_CODE = 128
UNKNOWN_EXIT_CODE = 255


def parse_signal(text: str) -> int:
    """A signal by number or name, with or without SIG; SIGTERM where empty or unknown."""
    if text.isdigit():
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    if name.startswith("SIGRTMIN+"):
        return int(signal.SIGRTMIN) + int(name.partition("+")[2])
    return int(getattr(signal, name, signal.SIGTERM))


def signal_name(number: int) -> str:
    """As CRI names it: SIGTERM, SIGRTMIN+3, SIGRTMAX-2; empty where it has no name."""
    above, below = number - signal.SIGRTMIN, signal.SIGRTMAX - number
    if 0 < above <= 15:
        return f"SIGRTMIN+{above}"
    if 0 < below < 15:
        return f"SIGRTMAX-{below}"
    return signal.Signals(number).name if number in list(signal.Signals) else ""


class Containers:
    """The containers of one engine."""

    def __init__(
        self,
        root: Path,
        state: Path,
        monitor_client: MonitorClient,
        cgroups: Cgroups,
        sandboxes: Sandboxes,
        images: ImageStore,
        snapshots: Snapshots,
        emit: Emit,
        handlers: Handlers | None = None,
        apparmor: AppArmor | None = None,
    ) -> None:
        self._handlers = handlers or Handlers()
        self._apparmor = apparmor or AppArmor("pinnace-default")
        self._files = RecordFiles(root / "containers")
        self._state = state / "containers"
        self._state.mkdir(parents=True, exist_ok=True)
        self._monitor = monitor_client
        self._cgroups = cgroups
        self._sandboxes = sandboxes
        self._images = images
        self._snapshots = snapshots
        self._emit = emit
        self.records: dict[str, ContainerRecord] = {}
        self._exited: dict[str, asyncio.Event] = {}
        self._starting: dict[str, dict[str, Any] | None] = {}  # id -> an exit that came before the start's answer
        self._locks: dict[str, asyncio.Lock] = {}
        self._names = Names("container")

    # What was there before.

    async def load(self) -> None:
        """Take up what a predecessor left, and remove what it had only half made."""
        for record in self._files.read(ContainerRecord):
            self.records[record.id] = record
            sandbox = self._sandboxes.records.get(record.sandbox_id)
            if sandbox is not None:
                with contextlib.suppress(CriError):  # two of one name, of an engine that did not mind
                    self._names.reserve(container_name(record.config, sandbox), record.id)
        await self.synchronize()
        for record in self.records.values():
            if record.state == ContainerState.CREATED:
                await asyncio.to_thread(self._clear_cgroup, self.cgroup(record))
        for directory in list(self._state.iterdir()):
            if directory.name not in self.records:
                await self._kill_stray(directory.name)
                document = read_json(str(directory / "config.json"))
                if document:
                    await asyncio.to_thread(self._clear_cgroup, document["linux"]["cgroupsPath"])
                shutil.rmtree(directory, ignore_errors=True)
        for id_ in await asyncio.to_thread(self._snapshots.list):
            if id_ not in self.records:
                await asyncio.to_thread(self._snapshots.remove, id_)

    async def synchronize(self) -> None:
        """Compare with the monitor (a new one perhaps): ends that nobody told, processes nobody asked for."""
        answer, _ = await self._monitor.call("state")
        known: dict[str, dict[str, Any]] = answer["containers"]
        for record in list(self.records.values()):
            found = known.get(record.id)
            if record.id in self._starting:
                continue
            if record.state == ContainerState.RUNNING:
                if found is None or found["exit"]:
                    self.on_exit(record.id, (found or {}).get("exit") or {})
                elif record.config.tty and record.id not in self._monitor.terminals:
                    with contextlib.suppress(MonitorError):
                        _, fds = await self._monitor.call("state", id=record.id)
                        for fd in fds:
                            self._monitor.keep_terminal(record.id, fd)
            elif record.state == ContainerState.CREATED and found:
                await self._kill_stray(record.id)  # its start was cut off before the gate opened
                self._end(record, {"code": UNKNOWN_EXIT_CODE, "unknown": True})

    async def _kill_stray(self, id_: str) -> None:
        with contextlib.suppress(MonitorError):
            await self._monitor.call("kill", id=id_, signal=int(signal.SIGKILL), all=True)
            await self._wait_gone(id_)
            await self._monitor.call("delete", id=id_)

    async def _wait_gone(self, id_: str) -> None:
        event = self.exit_of(id_)
        answer, _ = await self._monitor.call("state", id=id_)
        if not answer["exit"]:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), 10)

    # CRI's verbs.

    def get(self, id_: str, words: str = "") -> ContainerRecord:
        """By id, or an unambiguous beginning of one. CriError that begins with `words`."""
        return find(self.records, id_, words or f'an error occurred when try to find container "{id_}"')

    def of_sandbox(self, sandbox_id: str) -> list[ContainerRecord]:
        return [record for record in self.records.values() if record.sandbox_id == sandbox_id]

    async def create(self, sandbox: SandboxRecord, config: ContainerConfig) -> str:
        if self._sandboxes.has_lost_init(sandbox):
            await self._sandboxes.take_down(sandbox)
        if not sandbox.ready:
            raise CriError("UNKNOWN", f'failed to create container: sandbox "{sandbox.id}" is not ready')
        image = self._images.resolve(config.image.image)
        if image is None:
            raise CriError("NOT_FOUND", f'failed to resolve image "{config.image.image}": not found')
        hooks: cdi.Hooks = {}
        if cdi.wanted(config):
            config, hooks = cdi.inject(config, cdi.read_specs())
        id_ = os.urandom(32).hex()
        self._names.reserve(container_name(config, sandbox), id_)
        record = ContainerRecord(
            id=id_,
            sandbox_id=sandbox.id,
            config=config,
            image_id=image.id,
            image_ref=image.repo_digests[0] if image.repo_digests else image.id,
            image_name=image.repo_tags[0] if image.repo_tags else "",
            log_path=os.path.join(sandbox.config.log_directory, config.log_path)
            if sandbox.config.log_directory and config.log_path
            else "",
            stop_signal=parse_signal(config.stop_signal or image.config.stop_signal or "SIGTERM"),
            created_at=time.time_ns(),
        )
        bundle = self._state / record.id
        try:
            document = self._build(record, sandbox, image)
            if hooks:
                document["hooks"] = hooks
            await asyncio.to_thread(self._prepare, record, image, bundle, document)
            self._files.write(record.id, record)
        except BaseException as error:
            self._names.release(record.id)
            await asyncio.to_thread(self._discard, record.id)
            if isinstance(error, OSError):
                raise CriError("UNKNOWN", f"failed to create container: {error}") from error
            raise
        self.records[record.id] = record
        self._emit(ContainerEventType.CREATED, record.id, sandbox)
        return record.id

    def _prepare(self, record: ContainerRecord, image: ImageRecord, bundle: Path, document: dict[str, Any]) -> None:
        if any(mount.propagation is MountPropagation.BIDIRECTIONAL for mount in record.config.mounts):
            problem = propagation.problem(record.config.mounts, os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))
            if problem:
                raise CriError("UNKNOWN", f"failed to generate container spec: {problem}")
        confined_by = self._apparmor.profile(record.config.linux.security_context)
        if confined_by:
            document["process"]["apparmorProfile"] = confined_by
        volumes = image_volumes.images(record.config.mounts, self._images)
        self._snapshots.prepare(record.id, image, list(volumes.values()), self._shift(record))
        for mount in record.config.mounts:
            if mount.image is None and not os.path.lexists(mount.host_path):
                os.makedirs(mount.host_path, 0o755)
        (bundle / "rootfs").mkdir(parents=True)
        (bundle / "config.json").write_text(json.dumps(document))

    def _shift(self, record: ContainerRecord) -> Shift | None:
        """To whom layers must be copied: to nobody where they can be shown to the pod's users as they are."""
        sandbox = self._sandboxes.records[record.sandbox_id]
        maps = user_mappings(sandbox.config)
        if not maps or users.can_show(str(self._images.root), self._sandboxes.users(sandbox)):
            return None
        return Shift(maps["uid"], maps["gid"])

    def _discard(self, id_: str) -> None:
        with contextlib.suppress(OSError):
            sys_.umount(str(self._state / id_ / "rootfs"), sys_.MNT_DETACH)  # an OCI runtime's
        shutil.rmtree(self._state / id_, ignore_errors=True)
        self._snapshots.remove(id_)

    def bundle(self, record: ContainerRecord) -> Path:
        """Where its OCI bundle is."""
        return self._state / record.id

    def cgroup(self, record: ContainerRecord) -> str:
        sandbox = self._sandboxes.records.get(record.sandbox_id)
        parent = sandbox.config.linux.cgroup_parent if sandbox else ""
        return f"{parent}/{record.id}"

    def _build(self, record: ContainerRecord, sandbox: SandboxRecord, image: ImageRecord) -> dict[str, Any]:
        security = record.config.linux.security_context
        devices = [device for given in record.config.devices for device in _devices(given, record.id)]
        return spec.build(
            record.config,
            sandbox.config,
            image.config,
            self._sandboxes.surroundings(sandbox, self._pid_namespace(record, sandbox), security.privileged),
            cgroups_path=self.cgroup(record),
            cgroup_namespace=self._cgroups.version == 2,
            devices=devices,
            seccomp=seccomp.profile(security.seccomp, spec.capabilities(security)["bounding"]),
            layers=image_volumes.layers(record.config.mounts, self._images, self._snapshots.empty),
        )

    def _pid_namespace(self, record: ContainerRecord, sandbox: SandboxRecord) -> str:
        option = record.config.linux.security_context.namespace_options
        if option.pid == NamespaceMode.POD:
            pid = self._sandboxes.pause_pid(sandbox)
            if not pid:
                raise CriError("UNKNOWN", f'sandbox "{sandbox.id}" has no shared PID namespace')
            return f"/proc/{pid}/ns/pid"
        if option.pid == NamespaceMode.TARGET:
            target = self.get(option.target_id)
            if target.state != ContainerState.RUNNING:
                raise CriError("FAILED_PRECONDITION", f'target container "{target.id}" is not running')
            return f"/proc/{target.pid}/ns/pid"
        return ""

    async def start(self, record: ContainerRecord) -> None:
        async with self._lock(record.id):
            if record.state != ContainerState.CREATED or record.removing:
                state = "removing" if record.removing else record.state.value
                words = f'failed to set starting state for container "{record.id}"'
                raise CriError("UNKNOWN", f"{words}: container is in {state} state")
            sandbox = self._sandboxes.get(record.sandbox_id)
            if not sandbox.ready:
                raise CriError("UNKNOWN", f'sandbox container "{sandbox.id}" is not running')
            self._starting[record.id] = None
            try:
                await self._launch(record)
                self._files.write(record.id, record)
            except (MonitorError, OSError) as error:
                message = (
                    "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
                    f"runc create failed: unable to start container process: {error}: unknown"
                )
                await self._undo_start(record)
                self._starting.pop(record.id, None)
                record.message, record.reason = message, "StartError"
                record.exit_code, record.finished_at = START_ERROR_CODE, time.time_ns()
                self._files.note(record.id, record)
                self._emit(ContainerEventType.STOPPED, record.id, sandbox)
                raise CriError("UNKNOWN", message) from error
            self._emit(ContainerEventType.STARTED, record.id, sandbox)
            early = self._starting.pop(record.id, None)
            if early:
                self.on_exit(record.id, early)

    async def _launch(self, record: ContainerRecord) -> None:
        config = record.config
        snapshot = self._snapshots.get(record.id)
        if snapshot is None:
            raise MonitorError("the container's writable layer is gone")
        path = self.cgroup(record)
        directories = self._cgroups.create(path)
        self._cgroups.limit(path, config.linux.resources)
        if not (config.linux.security_context.privileged or self.program(record)):
            self._cgroups.allow_devices(path, [*cgroup_rules.DEVICE_RULES, *_device_rules(record)])
        answer, fds = await self._monitor.call(
            "create",
            id=record.id,
            bundle=str(self._state / record.id),
            cgroups=directories,
            log=record.log_path,
            stdin="once" if config.stdin and config.stdin_once else "kept" if config.stdin else "",
            rootfs={
                "lower": [str(lower) for lower in snapshot.lower],
                "upper": str(snapshot.upper),
                "work": str(snapshot.work),
                "shifted": snapshot.shifted,
            },
            oci=self._oci(record),
        )
        for fd in fds:
            self._monitor.keep_terminal(record.id, fd)
        record.pid = answer["pid"]
        if answer.get("user"):  # a monitor of an earlier version does not tell
            uid, gid, groups = answer["user"]
            record.user = ContainerUser(linux=LinuxContainerUser(uid=uid, gid=gid, supplemental_groups=groups))
        started, _ = await self._monitor.call("start", id=record.id)
        record.started_at = started["started"]

    def _oci(self, record: ContainerRecord) -> dict[str, Any] | None:
        """How the OCI runtime is called for a container, where there is one."""
        program = self.program(record)
        if not program:
            return None
        return {
            "program": program,
            "root": str(self._state.parent / "oci"),
            "cgroup": self._cgroups.path(self.cgroup(record)),
            "privileged": record.config.linux.security_context.privileged,
        }

    def program(self, record: ContainerRecord) -> str:
        """The OCI runtime that runs it; empty for the built-in launcher, also where its handler is gone."""
        sandbox = self._sandboxes.records.get(record.sandbox_id)
        with contextlib.suppress(CriError):
            return self._handlers.program(sandbox.runtime_handler if sandbox else "")
        return ""

    async def _undo_start(self, record: ContainerRecord) -> None:
        self._monitor.drop_terminal(record.id)
        await self._kill_stray(record.id)
        await asyncio.to_thread(self._clear_cgroup, self.cgroup(record))

    def _clear_cgroup(self, path: str) -> None:
        """Kill what is in a cgroup, also what the monitor was killed too soon to know of, and remove it."""
        kill_cgroup(self._cgroups.directories(path), signal.SIGKILL)
        self._cgroups.remove(path)

    def on_exit(self, id_: str, exit_: dict[str, Any]) -> None:
        """The monitor says that a container has ended; `exit_` is empty if nobody knows how."""
        record = self.records.get(id_)
        if id_ in self._starting:
            self._starting[id_] = exit_
            self.exit_of(id_).set()
            return
        if record is not None and not record.finished_at:
            self._end(record, exit_ or {"code": UNKNOWN_EXIT_CODE, "unknown": True})
        else:
            self.exit_of(id_).set()

    def _end(self, record: ContainerRecord, exit_: dict[str, Any]) -> None:
        record.exit_code = exit_["code"]
        record.finished_at = exit_.get("at") or time.time_ns()
        if exit_.get("unknown"):
            record.reason = "Unknown"
        elif exit_.get("oom"):
            record.reason = "OOMKilled"
        else:
            record.reason = "Error" if record.exit_code else "Completed"
        record.pid = 0
        self._monitor.drop_terminal(record.id)
        self._files.note(record.id, record)
        self.exit_of(record.id).set()
        sandbox = self._sandboxes.records.get(record.sandbox_id)
        if sandbox:
            self._emit(ContainerEventType.STOPPED, record.id, sandbox)

    def exit_of(self, id_: str) -> asyncio.Event:
        """Set when a container has ended."""
        return self._exited.setdefault(id_, asyncio.Event())

    async def stop(self, record: ContainerRecord, timeout: int) -> None:
        if record.state != ContainerState.RUNNING:
            return
        exited = self.exit_of(record.id)
        if timeout > 0:
            await self._kill(record, record.stop_signal, everything=False)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(exited.wait(), timeout)
        while record.state == ContainerState.RUNNING:
            # Again and again, for a new monitor may have to find the process first.
            await self._kill(record, signal.SIGKILL, everything=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(exited.wait(), 5)

    async def _kill(self, record: ContainerRecord, number: int, *, everything: bool) -> None:
        with contextlib.suppress(MonitorError):
            await self._monitor.call("kill", id=record.id, signal=int(number), all=everything)

    async def remove(self, record: ContainerRecord) -> None:
        async with self._lock(record.id):
            if record.id not in self.records:
                return
            record.removing = True
            await self.stop(record, 0)
            with contextlib.suppress(MonitorError):
                await self._monitor.call("delete", id=record.id)
            await asyncio.to_thread(self._clear_cgroup, self.cgroup(record))
            await asyncio.to_thread(self._discard, record.id)
            self._files.remove(record.id)
            self.records.pop(record.id, None)
            self._names.release(record.id)
            self._exited.pop(record.id, None)
            sandbox = self._sandboxes.records.get(record.sandbox_id)
            if sandbox:
                self._emit(ContainerEventType.DELETED, record.id, sandbox)
        self._locks.pop(record.id, None)

    def _lock(self, id_: str) -> asyncio.Lock:
        return self._locks.setdefault(id_, asyncio.Lock())

    async def update(self, record: ContainerRecord, resources: LinuxContainerResources) -> None:
        """Change what is given (neither zero nor empty); of one that does not run, what it will be started with."""
        if record.removing:
            raise CriError("UNKNOWN", f'failed to update resources: container "{record.id}" is in removing state')
        if record.state == ContainerState.RUNNING:
            try:
                self._cgroups.limit(self.cgroup(record), _with_swap(resources, record.config.linux.resources))
            except OSError as error:
                why = f"runc did not terminate successfully: exit status 1: {error.strerror}: unknown"
                raise CriError("UNKNOWN", f"failed to update resources: failed to update resources: {why}") from error
        changed = {
            name: getattr(resources, name)
            for name in LinuxContainerResources.__dataclass_fields__
            if getattr(resources, name)
        }
        record.config.linux.resources = replace(record.config.linux.resources, **changed)
        self._files.write(record.id, record)

    async def checkpoint(self, record: ContainerRecord, location: Path, timeout: float) -> None:
        """Write what it is now to an archive; it runs on. Only of one that an OCI runtime runs."""
        if record.state != ContainerState.RUNNING:
            words = f'container "{record.id}" is in {record.state.value} state'
            raise CriError("UNKNOWN", f"{words}. only CONTAINER_RUNNING containers can be checkpointed")
        oci, snapshot = self._oci(record), self._snapshots.get(record.id)
        if oci is None or snapshot is None:
            raise CriError("UNKNOWN", f'checkpointing container "{record.id}" failed: its writable layer is gone')
        bundle = self.bundle(record)
        await checkpoints.write(record, self.status(record), oci, bundle, snapshot.upper, location, timeout)

    async def reopen_log(self, record: ContainerRecord) -> None:
        if record.state != ContainerState.RUNNING:
            raise CriError("UNKNOWN", "container is not running")
        try:
            await self._monitor.call("reopen", id=record.id)
        except MonitorError as error:
            raise CriError("UNKNOWN", f"failed to reopen the container's log: {error}") from error

    # Reading.

    def all(self) -> list[Container]:
        return [
            Container(
                id=record.id,
                pod_sandbox_id=record.sandbox_id,
                metadata=record.config.metadata,
                image=record.config.image,
                image_ref=record.image_ref,
                state=record.state,
                created_at=record.created_at,
                labels=record.config.labels,
                annotations=record.config.annotations,
                image_id=record.image_id,
            )
            for record in self.records.values()
        ]

    @staticmethod
    def status(record: ContainerRecord) -> ContainerStatus:
        return ContainerStatus(
            id=record.id,
            metadata=record.config.metadata,
            state=record.state,
            created_at=record.created_at,
            started_at=record.started_at,
            finished_at=record.finished_at,
            exit_code=record.exit_code,
            image=ImageSpec(image=record.image_name) if record.image_name else record.config.image,
            image_ref=record.image_ref,
            image_id=record.image_id,
            reason=record.reason,
            message=record.message,
            labels=record.config.labels,
            annotations=record.config.annotations,
            mounts=record.config.mounts,
            log_path=record.log_path,
            resources=record.config.linux.resources,
            user=record.user,
            stop_signal=signal_name(record.stop_signal),
        )

    async def stats(self) -> list[ContainerStats]:
        """Usage of the running ones."""
        running = [record for record in self.records.values() if record.state == ContainerState.RUNNING]
        return await asyncio.to_thread(lambda: [self._stats(record) for record in running])

    def _stats(self, record: ContainerRecord) -> ContainerStats:
        usage = self._cgroups.usage(self.cgroup(record))
        written = inodes = 0
        with contextlib.suppress(OSError):
            written, inodes = self._snapshots.usage(record.id)
        return ContainerStats(
            id=record.id,
            metadata=record.config.metadata,
            labels=record.config.labels,
            timestamp=time.time_ns(),
            cpu_usage_core_nano_seconds=usage.cpu_nanoseconds,
            memory_working_set_bytes=usage.memory_working_set,
            memory_usage_bytes=usage.memory_usage,
            memory_rss_bytes=usage.memory_rss,
            writable_layer_used_bytes=written,
            writable_layer_inodes_used=inodes,
            process_count=usage.pids,
        )


def _devices(given: Device, container_id: str) -> list[dict[str, Any]]:
    """The OCI devices of a CRI device; a directory stands for every device in it."""
    try:
        directory = stat.S_ISDIR(os.stat(given.host_path).st_mode)
    except OSError as error:
        why = (error.strerror or "").lower()
        words = f'failed to generate container "{container_id}" spec: failed to generate spec'
        raise CriError("UNKNOWN", f"{words}: lstat {given.host_path}: {why}") from None
    names = [f"/{name}" for name in os.listdir(given.host_path)] if directory else [""]
    found = [device_of(given.host_path + name, given.container_path + name) for name in names]
    return [device for device in found if device]


def _device_rules(record: ContainerRecord) -> list[str]:
    return [
        f"{device['type']} {device['major']}:{device['minor']} {one.permissions or 'rwm'}"
        for one in record.config.devices
        for device in _devices(one, record.id)
    ]


def _with_swap(changed: LinuxContainerResources, before: LinuxContainerResources) -> LinuxContainerResources:
    """The limits with that of swap space as it was, where that has one of its own and the change says nothing of it."""
    swap = before.unified.get("memory.swap.max")
    if swap is None or not changed.memory_limit_in_bytes or changed.memory_swap_limit_in_bytes:
        return changed
    return replace(changed, unified={"memory.swap.max": swap, **changed.unified})
