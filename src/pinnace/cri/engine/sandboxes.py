"""Pod sandboxes: namespaces pinned by files, the pod's network, its /dev/shm, resolv.conf and hostname.

No process stands for a sandbox, except an init where the pod shares a PID namespace. Making one reserves, creates, and
undoes everything if a step fails; what an engine that was killed left half made is removed when the next one starts.
"""

# ruff: noqa: PTH116
# Descriptors, mounts and /proc files: `os` is the interface here, and pathlib would cost memory in every container.
from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pinnace.cri.api import (
    ContainerEventType,
    CriError,
    LinuxContainerResources,
    NamespaceMode,
    PodSandbox,
    PodSandboxConfig,
    PodSandboxState,
    PodSandboxStatus,
)
from pinnace.cri.engine import _syscalls as sys_
from pinnace.cri.engine import procfs, spec
from pinnace.cri.engine.cgroups import Cgroups
from pinnace.cri.engine.monitor_client import MonitorClient, MonitorError
from pinnace.cri.engine.network import NetworkError, PodNetwork, bring_loopback_up
from pinnace.cri.engine.records import Names, RecordFiles, SandboxRecord, boot_id, find

Emit = Callable[[ContainerEventType, str, SandboxRecord], None]

_PINS = ("network", "ipc", "uts", "user")
_SHM_SIZE = 64 * 1024 * 1024


class Sandboxes:
    """The sandboxes of one engine."""

    def __init__(
        self,
        root: Path,
        state: Path,
        monitor_client: MonitorClient,
        cgroups: Cgroups,
        network: PodNetwork,
        emit: Emit,
    ) -> None:
        self._files = RecordFiles(root / "sandboxes")
        self._state = state / "sandboxes"
        self._state.mkdir(parents=True, exist_ok=True)
        self._monitor = monitor_client
        self._cgroups = cgroups
        self._network = network
        self._emit = emit
        self._boot_id = boot_id()
        self.records: dict[str, SandboxRecord] = {}
        self._names = Names("sandbox")

    async def load(self) -> None:
        """Take up what a predecessor left: whole sandboxes as they are, half-made and dead ones taken down."""
        for record in self._files.read(SandboxRecord):
            self.records[record.id] = record
            with contextlib.suppress(CriError):  # two of one name, of an engine that did not mind
                self._names.reserve(record.name, record.id)
            if record.ready and (not self._alive(record) or self.has_lost_init(record)):
                await self._take_down(record)
                record.ready = False
                self._files.note(record.id, record)
        self._network.restore(
            {
                record.id: (record.ips, [port for port in record.config.port_mappings if port.host_port])
                for record in self.records.values()
                if record.ready and record.ips and any(port.host_port for port in record.config.port_mappings)
            }
        )
        for directory in list(self._state.iterdir()):
            if directory.name not in self.records:
                await self._clean(directory.name, True, "")

    def _alive(self, record: SandboxRecord) -> bool:
        if record.boot_id != self._boot_id:
            return False
        directory = self._state / record.id
        namespace_files = os.stat("/proc/self/ns/net").st_dev
        try:
            return directory.is_dir() and all(
                os.stat(directory / n).st_dev == namespace_files for n in record.namespaces
            )
        except OSError:
            return False

    def get(self, id_: str, words: str = "an error occurred when try to find sandbox") -> SandboxRecord:
        """By id, or an unambiguous beginning of one. CriError that begins with `words`."""
        return find(self.records, id_, words)

    async def run(self, config: PodSandboxConfig, runtime_handler: str = "") -> str:
        option = config.linux.security_context.namespace_options
        host_network = option.network == NamespaceMode.NODE
        record = SandboxRecord(
            id=os.urandom(32).hex(),
            config=config,
            created_at=time.time_ns(),
            boot_id=self._boot_id,
            namespaces=([] if host_network else ["network"])
            + ([] if option.ipc == NamespaceMode.NODE else ["ipc"])
            + ([] if host_network else ["uts"])
            + (["user"] if user_mappings(config) else []),
            runtime_handler=runtime_handler,
        )
        self._names.reserve(record.name, record.id)
        try:
            await self._create(record, shared_pid=option.pid == NamespaceMode.POD)
            record.ready = True
            self._files.write(record.id, record)
        except (MonitorError, NetworkError, OSError) as error:
            self._names.release(record.id)
            await self._take_down(record)
            self._cgroups.remove_if_empty(config.linux.cgroup_parent)
            text = f'failed to setup network for sandbox "{record.id}": ' if isinstance(error, NetworkError) else ""
            raise CriError("UNKNOWN", f"{text or 'failed to create sandbox: '}{error}") from error
        except BaseException:
            self._names.release(record.id)
            await self._take_down(record)
            raise
        self.records[record.id] = record
        self._emit(ContainerEventType.CREATED, record.id, record)
        self._emit(ContainerEventType.STARTED, record.id, record)
        return record.id

    async def _create(self, record: SandboxRecord, *, shared_pid: bool) -> None:
        config = record.config
        directory = self._state / record.id
        directory.mkdir(mode=0o711)
        self._write_files(directory, config)
        if "ipc" in record.namespaces:
            (directory / "shm").mkdir()
            guard = sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC
            sys_.mount("shm", str(directory / "shm"), "tmpfs", guard, f"mode=1777,size={_SHM_SIZE}")
        cgroups = []
        if config.linux.cgroup_parent:
            self._cgroups.create(config.linux.cgroup_parent)
        if shared_pid:
            cgroups = self._cgroups.create(self._cgroup(record))
        if record.namespaces or shared_pid:
            await self._monitor.call(
                "sandbox",
                id=record.id,
                directory=str(directory),
                namespaces=record.namespaces,
                hostname=self.hostname(record),
                sysctls=config.linux.sysctls,
                pid=shared_pid,
                cgroups=cgroups,
                user=user_mappings(config),
            )
        if "network" in record.namespaces:
            record.ips = await asyncio.to_thread(self._connect, record, str(directory / "network"))

    def _connect(self, record: SandboxRecord, path: str) -> list[str]:
        bring_loopback_up(path)
        config = record.config
        return self._network.add(record.id, path, "eth0", config.port_mappings, config.metadata).ips

    def _write_files(self, directory: Path, config: PodSandboxConfig) -> None:
        dns = config.dns_config
        if dns is None:
            with contextlib.suppress(OSError):
                (directory / "resolv.conf").write_text(Path("/etc/resolv.conf").read_text())
        else:
            (directory / "resolv.conf").write_text(spec.resolv_conf(dns.servers, dns.searches, dns.options))
        (directory / "hostname").write_text((config.hostname or socket.gethostname()) + "\n")

    @staticmethod
    def hostname(record: SandboxRecord) -> str:
        return record.config.hostname or socket.gethostname()

    @staticmethod
    def _cgroup(record: SandboxRecord) -> str:
        return f"{record.config.linux.cgroup_parent}/{record.id}"

    def surroundings(self, record: SandboxRecord, pid: str, privileged: bool) -> spec.Surroundings:
        """What its containers get from it. `pid` is the namespace file they share, if they do."""
        directory = self._state / record.id

        def pin(name: str) -> str:
            return str(directory / name) if name in record.namespaces else ""

        return spec.Surroundings(
            network=pin("network"),
            ipc=pin("ipc"),
            uts=pin("uts"),
            pid=pid,
            user=pin("user"),
            root=user_root(record.config),
            shm=str(directory / "shm") if "ipc" in record.namespaces else "/dev/shm",
            resolv_conf=str(directory / "resolv.conf") if (directory / "resolv.conf").exists() else "",
            hostname=str(directory / "hostname"),
            hostname_text=self.hostname(record),
            host_devices=host_devices() if privileged else (),
        )

    def pause_pid(self, record: SandboxRecord) -> int:
        """The init of a shared PID namespace, 0 if there is none any more."""
        found = procfs.read_json(f"{self._state}/{record.id}/pause.json")
        if not found or procfs.start_time(found["pid"]) != found["start"] or procfs.is_ending(found["pid"]):
            return 0
        return int(found["pid"])

    def has_lost_init(self, record: SandboxRecord) -> bool:
        """Whether it is of no use any more, for no process can be in its PID namespace without an init."""
        option = record.config.linux.security_context.namespace_options
        return record.ready and option.pid == NamespaceMode.POD and not self.pause_pid(record)

    def users(self, record: SandboxRecord) -> str:
        """The file of its user namespace, where it has one."""
        return str(self._state / record.id / "user")

    def network_namespace(self, record: SandboxRecord) -> str:
        """The file of its network namespace, the engine's own for the host's network."""
        return str(self._state / record.id / "network") if "network" in record.namespaces else "/proc/self/ns/net"

    async def take_down(self, record: SandboxRecord) -> None:
        """After its containers have stopped: no namespace, no network; NOTREADY from now on. Idempotent."""
        was_ready, record.ready = record.ready, False
        await self._take_down(record)
        if record.id in self.records:
            self._files.note(record.id, record)
        if was_ready:
            self._emit(ContainerEventType.STOPPED, record.id, record)

    async def forget(self, record: SandboxRecord) -> None:
        """Remove what is left of a sandbox that was taken down."""
        self._files.remove(record.id)
        self.records.pop(record.id, None)
        self._names.release(record.id)
        self._cgroups.remove_if_empty(record.config.linux.cgroup_parent)
        self._emit(ContainerEventType.DELETED, record.id, record)

    async def _take_down(self, record: SandboxRecord) -> None:
        await self._clean(record.id, "network" in record.namespaces, self._cgroup(record))

    async def _clean(self, id_: str, network: bool, cgroup: str) -> None:
        await asyncio.to_thread(self._clean_now, id_, network, cgroup)

    def _clean_now(self, id_: str, network: bool, cgroup: str) -> None:
        directory = self._state / id_
        if network:
            self._network.remove(id_)
        found: dict[str, Any] | None = procfs.read_json(f"{directory}/pause.json")
        if found and procfs.start_time(found["pid"]) == found["start"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(found["pid"], signal.SIGKILL)
        for _ in range(100):
            for name in (*_PINS, "shm"):
                with contextlib.suppress(OSError):
                    sys_.umount(str(directory / name), sys_.MNT_DETACH)
            shutil.rmtree(directory, ignore_errors=True)
            if not directory.exists():
                break
            time.sleep(0.01)  # the child of a monitor that was killed is still pinning namespaces here
        if found and cgroup:
            self._cgroups.remove(cgroup)

    def update(
        self,
        record: SandboxRecord,
        overhead: LinuxContainerResources | None,
        resources: LinuxContainerResources | None,
    ) -> None:
        """Remember what the pod may use now. Its cgroup is its kubelet's, which has changed it already."""
        record.config.linux.overhead, record.config.linux.resources = overhead, resources
        self._files.write(record.id, record)

    # Reading.

    def all(self) -> list[PodSandbox]:
        return [
            PodSandbox(
                id=record.id,
                metadata=record.config.metadata,
                state=self._shown(record),
                created_at=record.created_at,
                labels=record.config.labels,
                annotations=record.config.annotations,
                runtime_handler=record.runtime_handler,
            )
            for record in self.records.values()
        ]

    def status(self, record: SandboxRecord) -> PodSandboxStatus:
        return PodSandboxStatus(
            id=record.id,
            metadata=record.config.metadata,
            state=self._shown(record),
            created_at=record.created_at,
            ips=record.ips if record.ready else [],
            namespaces=record.config.linux.security_context.namespace_options,
            labels=record.config.labels,
            annotations=record.config.annotations,
            runtime_handler=record.runtime_handler,
        )

    @staticmethod
    def _shown(record: SandboxRecord) -> PodSandboxState:
        return PodSandboxState.READY if record.ready else PodSandboxState.NOTREADY


def user_mappings(config: PodSandboxConfig) -> dict[str, list[list[int]]]:
    """The lines of uid_map and gid_map of the pod's user namespace; empty where it has the node's users."""
    asked = config.linux.security_context.namespace_options.userns_options
    if asked is None or asked.mode != NamespaceMode.POD:
        return {}
    return {
        kind: [[one.container_id, one.host_id, one.length] for one in mappings]
        for kind, mappings in (("uid", asked.uids), ("gid", asked.gids))
    }


def user_root(config: PodSandboxConfig) -> list[int]:
    """Who the pod's root user and group are on the node; empty where they are the node's."""
    maps = user_mappings(config)
    return [next((outside for inside, outside, _ in maps[kind] if inside == 0), 0) for kind in maps]


def host_devices() -> list[dict[str, Any]]:
    """Every device node of the machine, as OCI devices, for privileged containers."""
    skipped = {"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/.lxc", "/dev/.lxd-mounts"}
    found: list[dict[str, Any]] = []
    pending = ["/dev"]
    while pending:
        for entry in os.scandir(pending.pop()):
            if entry.path in skipped or entry.is_symlink() or entry.name == "console":
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
                continue
            device = device_of(entry.path, entry.path)
            if device:
                found.append(device)
    return found


def device_of(host_path: str, container_path: str) -> dict[str, Any] | None:
    """A device node as an OCI device; None if the path is something else or nothing."""
    import stat

    try:
        status = os.stat(host_path, follow_symlinks=True)
    except OSError:
        return None
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        return None
    return {
        "path": container_path,
        "type": "b" if stat.S_ISBLK(status.st_mode) else "c",
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }
