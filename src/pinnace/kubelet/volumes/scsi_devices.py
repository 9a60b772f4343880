"""Disks of iSCSI targets and of Fibre Channel as the kernel shows them: sessions, device files, multipath devices.

https://docs.kernel.org/admin-guide/abi-stable.html and udev's links in /dev/disk/by-path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

_LOOK_SECONDS = 0.2


class Devices:
    """`dev` and `sys` are the machine's, but for tests."""

    def __init__(self, dev: Path = Path("/dev"), sys: Path = Path("/sys")) -> None:
        self._dev = dev
        self._sys = sys

    def hosts(self, iqn: str) -> dict[str, int]:
        """The SCSI hosts of a target's sessions, by portal (`address:port`)."""
        found = {}
        for session in self._sys.glob("class/iscsi_host/host*/device/session*"):
            if _text(session / "iscsi_session" / session.name / "targetname") != iqn:
                continue
            number = int(session.parts[-3].removeprefix("host"))
            for connection in session.glob("connection*/iscsi_connection/connection*"):
                portals = [
                    (_text(connection / "persistent_address"), _text(connection / "persistent_port")),
                    (_text(connection / "address"), _text(connection / "port")),
                ]
                for address, port in portals:
                    if address and port:
                        found[f"{address}:{port}"] = number
        return found

    def scan(self, host: int, lun: int) -> None:
        """Have the kernel look for one disk of a host. Raises OSError."""
        (self._sys / f"class/scsi_host/host{host}/scan").write_text(f"0 0 {lun}")

    def path(self, portal: str, iqn: str, lun: int) -> Path:
        """Where udev puts the disk's device file."""
        return self._dev / "disk/by-path" / f"ip-{portal}-iscsi-{iqn}-lun-{lun}"

    async def wait(self, path: Path, seconds: float) -> bool:
        """Whether a device file is there within so many seconds; udev makes it, and tells nobody."""
        for _ in range(int(seconds / _LOOK_SECONDS) + 1):
            if path.exists():
                return True
            await asyncio.sleep(_LOOK_SECONDS)  # a directory that need not be there cannot be watched
        return False

    async def multipath(self, paths: list[str], seconds: float) -> str:
        """The multipath device over some of these, empty if there is none within so many seconds."""
        names = {Path(path).resolve().name for path in paths}
        for left in range(int(seconds / _LOOK_SECONDS), -1, -1):
            for mapped in self._sys.glob("block/dm-*"):
                if any((mapped / "slaves" / name).exists() for name in names):
                    return str(self._dev / mapped.name)
            if left:
                await asyncio.sleep(_LOOK_SECONDS)
        return ""

    def fibre_channel(self, names: Iterable[str], lun: int) -> list[str]:
        """The disks that these ports (world wide names) show by this number."""
        wanted = tuple(f"fc-0x{name}-lun-{lun}" for name in names)
        links = (self._dev / "disk/by-path").glob("*fc-0x*-lun-*")
        return [str(link.resolve()) for link in sorted(links) if link.name.endswith(wanted)]

    def identified(self, identifiers: Iterable[str]) -> list[str]:
        """The disks of these world wide identifiers."""
        links = [self._dev / "disk/by-id" / f"scsi-{one}" for one in identifiers]
        return [str(link.resolve()) for link in links if link.exists()]

    def rescan(self) -> None:
        """Have the kernel look for disks of every host."""
        for host in self._sys.glob("class/scsi_host/host*/scan"):
            host.write_text("- - -")

    def forget(self, device: str) -> None:
        """Have the kernel forget the disk of a device file."""
        file = self._sys / "block" / Path(device).name / "device/delete"
        if file.exists():
            file.write_text("1")

    def delete(self, iqn: str, lun: int) -> None:
        """Have the kernel forget the disk."""
        for device in self._sys.glob(f"class/iscsi_host/host*/device/session*/target*/*:*:*:{lun}/delete"):
            session = device.parents[2]
            if _text(session / "iscsi_session" / session.name / "targetname") == iqn:
                device.write_text("1")


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
