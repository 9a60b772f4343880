"""The CRI log format: what a container writes, cut into time-stamped lines.

`<RFC 3339 time with nanoseconds> <stdout|stderr> <F|P> <text>`, one line each; P marks a line that goes on in the next
(longer than 16 KiB, or the unfinished last one). Specified by the Kubernetes proposal "kubelet CRI logging". Pure, but
for `LogFile`, which appends to a file the kubelet rotates by renaming and asking to reopen.
"""

# ruff: noqa: PTH103, PTH120
# Descriptors, mounts and /proc files: `os` is the interface here, and pathlib would cost memory in every container.
from __future__ import annotations

import os
import time

PARTIAL_LIMIT = 16 * 1024  # bytes of a line before it is cut


def timestamp(nanoseconds: int) -> bytes:
    """RFC 3339 in UTC with nine digits of fraction."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode() + b".%09dZ" % fraction


class LineCutter:
    """One stream's bytes to log lines; keeps an unfinished line until more comes."""

    __slots__ = ("_rest", "_stream")

    def __init__(self, stream: str) -> None:
        self._stream = stream.encode()
        self._rest = b""  # an unfinished line, shorter than PARTIAL_LIMIT

    def feed(self, data: bytes, now: int) -> bytes:
        """Log lines for what is complete, all bearing the time the data was read (ns since the epoch)."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        head = timestamp(now) + b" " + self._stream
        full, partial = head + b" F ", head + b" P "
        out: list[bytes] = []
        for line in lines:
            while len(line) > PARTIAL_LIMIT:
                out += (partial, line[:PARTIAL_LIMIT], b"\n")
                line = line[PARTIAL_LIMIT:]
            out += (full, line, b"\n")
        while len(self._rest) > PARTIAL_LIMIT:
            out += (partial, self._rest[:PARTIAL_LIMIT], b"\n")
            self._rest = self._rest[PARTIAL_LIMIT:]
        return b"".join(out)

    def end(self, now: int) -> bytes:
        """The unfinished last line, if there is one, as a partial: readers add no newline that was not written."""
        rest, self._rest = self._rest, b""
        return timestamp(now) + b" " + self._stream + b" P " + rest + b"\n" if rest else b""


class LogFile:
    """An append-only file that can be reopened at its path."""

    __slots__ = ("_fd", "_path", "_torn")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._torn = False  # whether the disk got full in the middle of a line
        self.reopen()

    def reopen(self) -> None:
        """Write on to the file that is at the path now, or a new one."""
        self.close()
        if self._path:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o640)

    def write(self, data: bytes) -> None:
        """Append; lines are lost while the disk is full, as the container must not stop for its log."""
        if self._fd < 0 or not data:
            return
        if self._torn:
            data = b"\n" + data
        try:
            written = os.write(self._fd, data)
        except OSError:
            return
        self._torn = written < len(data) and data[written - 1 : written] != b"\n"

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
