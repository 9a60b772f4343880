"""Pods' cgroups made by systemd: what it is told, and how."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from jeepney import DBusAddress, HeaderFields, Message, MessageType, new_method_call, new_signal
from jeepney.low_level import Endianness, Header

from pinnace.cri.api import LinuxContainerResources
from pinnace.kubelet.resources.systemd_cgroups import Systemd, SystemdCgroups, properties
from tests.kubelet.fake_cgroups import FakeCgroups

LIMIT = 60.0  # seconds
POD = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda_b.slice"
FOREVER = (1 << 64) - 1


class Files(FakeCgroups):
    version = 2
    processes: frozenset[int] = frozenset()

    def pids(self, _path: str) -> set[int]:
        return set(self.processes)


class Asked:
    """A systemd that only listens."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def call(self, member: str, signature: str, *values: Any) -> str:
        self.calls.append((member, signature, *values))
        return ""


@pytest.mark.parametrize(
    ("limits", "version", "wanted"),
    [
        ({}, 2, {}),
        ({"cpu_shares": 512}, 1, {"CPUShares": 512}),
        ({"cpu_shares": 512}, 2, {"CPUWeight": 20}),
        ({"cpu_quota": 25_000, "cpu_period": 100_000}, 2, {"CPUQuotaPerSecUSec": 250_000}),
        ({"cpu_quota": 1_001, "cpu_period": 100_000}, 2, {"CPUQuotaPerSecUSec": 20_000}),  # no less than is meant
        ({"cpu_quota": -1}, 2, {"CPUQuotaPerSecUSec": FOREVER}),
        ({"memory_limit_in_bytes": 1 << 20}, 1, {"MemoryLimit": 1 << 20}),
        ({"memory_limit_in_bytes": 1 << 20}, 2, {"MemoryMax": 1 << 20}),
        ({"memory_limit_in_bytes": -1, "pids_limit": -1}, 2, {"MemoryMax": FOREVER, "TasksMax": FOREVER}),
        ({"pids_limit": 5}, 1, {"TasksMax": 5}),
        ({"unified": {"memory.min": "5", "memory.high": "max", "memory.oom.group": "0"}}, 2,
         {"MemoryMin": 5, "MemoryHigh": FOREVER}),
        ({"unified": {"memory.min": "5"}}, 1, {}),
    ],
)  # fmt: skip
def test_limits_as_properties(limits: dict[str, Any], version: int, wanted: dict[str, int]) -> None:
    found = properties(LinuxContainerResources(**limits), version)

    assert found == [(name, ("t", value)) for name, value in wanted.items()]


@pytest.mark.parametrize("path", ["/kubepods/burstable/poda-b", POD])
def test_a_cgroup_is_a_slice_below_others_and_limited_by_systemd_before_its_files(path: str) -> None:
    files, systemd = Files(), Asked()
    cgroups, limits = SystemdCgroups(files, systemd), LinuxContainerResources(pids_limit=5)

    cgroups.create(path)
    cgroups.limit(path, limits)

    (start, signature, unit, mode, described, beside), set_ = systemd.calls
    assert (start, signature, unit) == ("StartTransientUnit", "ssa(sv)a(sa(sv))", "kubepods-burstable-poda_b.slice")
    assert (mode, beside) == ("replace", [])
    assert ("Wants", ("as", ["kubepods-burstable.slice"])) in described
    assert ("DefaultDependencies", ("b", False)) in described
    assert set_ == ("SetUnitProperties", "sba(sv)", unit, True, [("TasksMax", ("t", 5))])
    assert files.there == {POD}
    assert files.limits == {POD: limits}


def test_a_slice_ends_when_nothing_runs_in_it() -> None:
    files, systemd = Files(POD), Asked()
    cgroups = SystemdCgroups(files, systemd)

    files.processes = frozenset({1})
    cgroups.remove_if_empty(POD)
    assert (systemd.calls, files.there) == ([], {POD})

    files.processes = frozenset()
    cgroups.remove_if_empty(POD)
    assert systemd.calls == [("StopUnit", "ss", "kubepods-burstable-poda_b.slice", "replace")]
    assert files.there == set()


class Peer:
    """The other end of a connection to systemd, which says what it is told to."""

    def __init__(self, path: Path, *connections: list[bytes]) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self.heard: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, args=connections)
        self._thread.start()

    def _serve(self, *connections: list[bytes]) -> None:
        for answers in connections:
            connection, _ = self._listener.accept()
            with connection:
                said = b""
                while not said.endswith(b"\r\n"):
                    said += connection.recv(4096)
                self.heard.append(said)
                first, *rest = answers
                connection.sendall(first)
                for one in rest:
                    said = connection.recv(4096)
                    while said in (b"", BEGIN):
                        said = connection.recv(4096)
                    self.heard.append(said.removeprefix(BEGIN))
                    connection.sendall(one)
        self._listener.close()

    def join(self) -> None:
        self._thread.join(LIMIT)


BEGIN = b"BEGIN\r\n"
OK = b"OK 0123456789abcdef\r\n"
MANAGER = DBusAddress("/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager")
SIGNAL = new_signal(DBusAddress("/a", interface="a.b"), "C").serialise(1)


def answer(kind: MessageType, fields: dict[HeaderFields, object], signature: str, value: str) -> bytes:
    header = Header(Endianness.little, kind, 0, 1, -1, -1, {**fields, HeaderFields.signature: signature})
    whole: bytes = Message(header, (value,)).serialise(9)
    return whole


def done(serial: int) -> bytes:
    return answer(MessageType.method_return, {HeaderFields.reply_serial: serial}, "o", "/job/1")


def wrong(serial: int, name: str, text: str) -> bytes:
    fields = {HeaderFields.error_name: name, HeaderFields.reply_serial: serial}
    return answer(MessageType.error, fields, "s", text)


def test_systemd_is_asked_on_a_connection_that_stays(tmp_path: Path) -> None:
    exists, bad = "org.freedesktop.systemd1.UnitExists", "org.freedesktop.DBus.Error.InvalidArgs"
    answers = [OK, SIGNAL + done(1), wrong(2, exists, "Unit x exists."), wrong(3, bad, "Cannot set property X.")]
    peer = Peer(tmp_path / "private", answers)
    systemd = Systemd(tmp_path / "private")

    assert systemd.call("StopUnit", "ss", "x.slice", "replace") == ""
    assert systemd.call("StopUnit", "ss", "x.slice", "replace") == exists
    with pytest.raises(OSError, match=r"^Cannot set property X\.$"):
        systemd.call("StopUnit", "ss", "x.slice", "replace")
    peer.join()

    assert peer.heard[0] == b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n"
    stop = new_method_call(MANAGER, "StopUnit", "ss", ("x.slice", "replace"))
    asked = [stop.serialise(serial) for serial in (1, 2, 3)]
    assert peer.heard[1:] == asked


def test_a_systemd_that_began_anew_is_found_again(tmp_path: Path) -> None:
    peer = Peer(tmp_path / "private", [OK, done(1)], [OK, done(3)])
    systemd = Systemd(tmp_path / "private")

    assert [systemd.call("StopUnit", "ss", "x.slice", "replace") for _ in range(2)] == ["", ""]
    peer.join()


def test_a_systemd_that_lets_nobody_in_is_an_error(tmp_path: Path) -> None:
    peer = Peer(tmp_path / "private", [b"REJECTED EXTERNAL\r\n"])

    with pytest.raises(OSError, match=r"^systemd does not let us in: .*REJECTED EXTERNAL"):
        Systemd(tmp_path / "private").call("StopUnit", "ss", "x.slice", "replace")
    peer.join()


def test_no_systemd_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Systemd(tmp_path / "private").call("StopUnit", "ss", "x.slice", "replace")
