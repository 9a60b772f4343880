"""The cgroups of pods where systemd makes them: every one is a slice, and systemd is told what it is limited to.

What was written to the kernel alone, systemd would put back the next time that it reads its units. So limits are
properties of the slice first (`properties`, pure), and then files for all that there is no property of. Spoken to on
the socket that systemd has for root, without a bus between. Specified by org.freedesktop.systemd1(5),
systemd.resource-control(5) and https://systemd.io/CONTROL_GROUP_INTERFACE/.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import structlog
from jeepney import DBusAddress, HeaderFields, Message, MessageType, Parser, new_method_call
from jeepney.auth import AuthenticationError
from jeepney.io.blocking import prep_socket

from pinnace.cri.api import LinuxContainerResources
from pinnace.cri.engine.cgroups import weight
from pinnace.kubelet.resources.amounts import CPU_PERIOD, slice_path
from pinnace.kubelet.resources.cgroups import CgroupManager, MemoryUse

_log = structlog.get_logger()

SOCKET = Path("/run/systemd/private")
_TIMEOUT = 10.0  # seconds
_MANAGER = DBusAddress("/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager")
_EXISTS = "org.freedesktop.systemd1.UnitExists"
_UNKNOWN = "org.freedesktop.systemd1.NoSuchUnit"
_INFINITY = (1 << 64) - 1
_QUOTA_STEP = 10_000  # microseconds: what systemd counts quotas in
_MEMORY_FILES = {"memory.min": "MemoryMin", "memory.low": "MemoryLow", "memory.high": "MemoryHigh"}
_ACCOUNTING = ("CPUAccounting", "MemoryAccounting", "TasksAccounting")

Property = tuple[str, tuple[str, Any]]


def properties(resources: LinuxContainerResources, version: int) -> list[Property]:
    """What a slice's properties are for limits, where cgroups are of this version; zeros change nothing, as there."""
    found: dict[str, int] = {}
    if resources.cpu_shares:
        name = "CPUWeight" if version == 2 else "CPUShares"
        found[name] = weight(resources.cpu_shares) if version == 2 else max(2, resources.cpu_shares)
    if resources.cpu_quota:
        found["CPUQuotaPerSecUSec"] = _quota(resources.cpu_quota, resources.cpu_period or CPU_PERIOD)
    if resources.memory_limit_in_bytes:
        found["MemoryMax" if version == 2 else "MemoryLimit"] = _limit(resources.memory_limit_in_bytes)
    if resources.pids_limit:
        found["TasksMax"] = _limit(resources.pids_limit)
    for file, value in resources.unified.items() if version == 2 else ():
        if file in _MEMORY_FILES:
            found[_MEMORY_FILES[file]] = int(value) if value.isdigit() else _INFINITY
    return [(name, ("t", value)) for name, value in found.items()]


def _limit(amount: int) -> int:
    return amount if amount > 0 else _INFINITY


def _quota(quota: int, period: int) -> int:
    """Microseconds of a second, as much as systemd's step allows."""
    if quota < 0:
        return _INFINITY
    return -(-quota * 1_000_000 // period // _QUOTA_STEP) * _QUOTA_STEP


class Manager(Protocol):
    """What is asked of systemd. Raises OSError."""

    def call(self, member: str, signature: str, *values: Any) -> str:
        """Call a method of it; the name of the error where it is one of those that say how things are."""


class Systemd:
    """A connection to systemd, made when it is needed."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._parser = Parser()
        self._serial = 0

    def call(self, member: str, signature: str, *values: Any) -> str:
        if self._socket is not None:
            try:
                return self._call(self._socket, member, signature, values)
            except ConnectionError:
                pass  # systemd began anew
        return self._call(self._connect(), member, signature, values)

    def _connect(self) -> socket.socket:
        try:
            connection: socket.socket = prep_socket(str(self._path), timeout=_TIMEOUT)
        except AuthenticationError as error:
            raise ConnectionRefusedError(f"systemd does not let us in: {error.data!r}") from None
        connection.settimeout(_TIMEOUT)
        self._socket, self._parser = connection, Parser()
        return connection

    def _call(self, connection: socket.socket, member: str, signature: str, values: tuple[Any, ...]) -> str:
        self._serial += 1
        asked = new_method_call(_MANAGER, member, signature, values)
        try:
            connection.sendall(asked.serialise(self._serial))
            answer = self._answer(connection)
        except (OSError, ValueError) as error:
            self._close()
            raise error if isinstance(error, OSError) else OSError(f"systemd does not speak D-Bus: {error}") from None
        if answer.header.message_type is not MessageType.error:
            return ""
        name: str = answer.header.fields[HeaderFields.error_name]
        if name not in (_EXISTS, _UNKNOWN):
            raise OSError(answer.body[0] if answer.body else name)
        return name

    def _answer(self, connection: socket.socket) -> Message:
        """What comes for the last call; signals between are not ours."""
        while True:
            while (answer := self._parser.get_next_message()) is None:
                self._parser.add_data(self._receive(connection))
            if answer.header.fields.get(HeaderFields.reply_serial) == self._serial:
                return answer

    @staticmethod
    def _receive(connection: socket.socket) -> bytes:
        data = connection.recv(65536)
        if not data:
            raise ConnectionResetError("systemd hung up")
        return data

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None


class FileCgroups(CgroupManager, Protocol):
    """Cgroups by their files."""

    @property
    def version(self) -> int: ...

    def pids(self, path: str) -> set[int]: ...


class SystemdCgroups:
    """Slices, by the paths that cgroups have, or that those had which are no slices (`/kubepods/burstable`)."""

    def __init__(self, files: FileCgroups, systemd: Manager) -> None:
        self._files = files
        self._systemd = systemd

    def create(self, path: str) -> list[str]:
        path = slice_path(path)
        *above, unit = path.strip("/").split("/")
        described: list[Property] = [("Description", ("s", f"pods of Kubernetes: {unit}"))]
        if above:
            described.append(("Wants", ("as", [above[-1]])))
        described += [(name, ("b", True)) for name in _ACCOUNTING]
        described.append(("DefaultDependencies", ("b", False)))
        self._systemd.call("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "replace", described, [])
        return self._files.create(path)  # systemd is still about to, and leaves out hierarchies that it has no use of

    def limit(self, path: str, resources: LinuxContainerResources) -> None:
        path = slice_path(path)
        found = properties(resources, self._files.version)
        if found:
            self._systemd.call("SetUnitProperties", "sba(sv)", path.rpartition("/")[2], True, found)
        self._files.limit(path, resources)

    def usage(self, path: str) -> MemoryUse:
        return self._files.usage(slice_path(path))

    def counters(self, path: str) -> Mapping[str, Mapping[str, int]]:
        return self._files.counters(slice_path(path))

    def remove_if_empty(self, path: str) -> None:
        path = slice_path(path)
        if self._files.pids(path):
            return  # systemd would end them
        self._systemd.call("StopUnit", "ss", path.rpartition("/")[2], "replace")
        self._files.remove_if_empty(path)

    def missing(self, path: str) -> list[str]:
        return self._files.missing(slice_path(path))


def by_systemd(files: CgroupManager) -> CgroupManager | None:
    """The same cgroups made by systemd; None where there is none, and slices are what the runtime asks for."""
    if not SOCKET.exists():
        _log.warning("no systemd to make cgroups: what pods use together is not limited", socket=str(SOCKET))
        return None
    return SystemdCgroups(cast("FileCgroups", files), Systemd())
