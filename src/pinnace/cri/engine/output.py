"""A container's output: from its FIFOs or terminal into its log, and to the clients that are attached.

A client that is slow makes the container wait, as a full pipe would; one that has gone is forgotten. Runs in the
monitor.
"""

from __future__ import annotations

import contextlib
import os
import select
import time

from pinnace.cri.engine.logs import LineCutter, LogFile
from pinnace.cri.engine.loop import Loop

READ_SIZE = 65536
ATTACH_LIMIT = 256 * 1024  # bytes kept for a slow attached client before the container has to wait for it


class Attachment:
    """A client that follows a stream: a non-blocking descriptor and what it has not taken yet."""

    __slots__ = ("fd", "pending", "stream")

    def __init__(self, fd: int, stream: str) -> None:
        self.fd = fd
        self.stream = stream
        self.pending = b""


class Output:
    """The streams of one container; owns their descriptors."""

    __slots__ = ("_attached", "_cutters", "_finished", "_log", "_loop", "_readers", "master", "stdin_keeper")

    def __init__(self, loop: Loop, log_path: str) -> None:
        self._loop = loop
        self._log = LogFile(log_path)
        self._cutters: dict[str, LineCutter] = {}
        self._readers: dict[int, str] = {}  # descriptor -> stream name
        self._attached: list[Attachment] = []
        self._finished = False
        self.master = -1  # the terminal, for containers that have one
        self.stdin_keeper = -1  # keeps a stdin_once FIFO open until its first client is done

    def follow_fifos(self, bundle: str) -> None:
        for stream in ("stdout", "stderr"):
            self._follow(os.open(f"{bundle}/{stream}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), stream)

    def follow_terminal(self, master: int) -> None:
        self.master = master
        self._follow(master, "stdout")

    def keep_stdin(self, bundle: str) -> None:
        self.stdin_keeper = os.open(f"{bundle}/stdin", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def close_stdin(self) -> None:
        if self.stdin_keeper >= 0:
            os.close(self.stdin_keeper)
            self.stdin_keeper = -1

    def reopen_log(self) -> None:
        self._log.reopen()

    def _follow(self, fd: int, stream: str) -> None:
        os.set_blocking(fd, False)
        self._readers[fd] = stream
        self._cutters.setdefault(stream, LineCutter(stream))
        self._loop.watch(fd, lambda events: self._ready(fd, events))

    def _ready(self, fd: int, events: int) -> None:
        if not self._pump(fd) and events & (select.EPOLLHUP | select.EPOLLERR):
            # Every holder is gone: the end of the process, which is about to be seen, closes it.
            self._loop.unwatch(fd)

    def _pump(self, fd: int) -> bool:
        """Read once; whether there was something."""
        try:
            data = os.read(fd, READ_SIZE)
        except OSError:
            return False
        if not data:
            return False
        stream = self._readers[fd]
        self._log.write(self._cutters[stream].feed(data, time.time_ns()))
        for attachment in [a for a in self._attached if a.stream == stream]:
            attachment.pending += data
            self._flush(attachment)
        return True

    def attach(self, fd: int, stream: str) -> None:
        """Copy a stream to a descriptor from now on."""
        os.set_blocking(fd, False)
        self._attached.append(Attachment(fd, stream))

    def _flush(self, attachment: Attachment) -> None:
        try:
            written = os.write(attachment.fd, attachment.pending)
        except BlockingIOError:
            written = 0
        except OSError:
            self._detach(attachment)
            self._resume()
            return
        attachment.pending = attachment.pending[written:]
        waiting = self._loop.watches(attachment.fd)
        if attachment.pending and not waiting:
            self._loop.watch(attachment.fd, lambda _: self._flush(attachment), select.EPOLLOUT)
        elif not attachment.pending and waiting:
            self._loop.unwatch(attachment.fd)
        if len(attachment.pending) > ATTACH_LIMIT:
            for fd in self._readers:
                self._loop.unwatch(fd)
        elif waiting:
            self._resume()
        if self._finished and not attachment.pending:
            self._detach(attachment)

    def _resume(self) -> None:
        if any(len(a.pending) > ATTACH_LIMIT for a in self._attached):
            return
        for fd, stream in self._readers.items():
            if not self._loop.watches(fd):
                self._follow(fd, stream)

    def _detach(self, attachment: Attachment) -> None:
        if attachment in self._attached:
            self._attached.remove(attachment)
            self._loop.unwatch(attachment.fd)
            os.close(attachment.fd)

    def finish(self) -> None:
        """The process has ended: take what is left, close; clients still get what they have not taken. Idempotent."""
        for fd in self._readers:
            while self._pump(fd):
                pass
        for cutter in self._cutters.values():
            self._log.write(cutter.end(time.time_ns()))
        for fd in self._readers:
            self._loop.unwatch(fd)
            os.close(fd)
        self._readers.clear()
        self.master = -1
        self._finished = True
        for attachment in list(self._attached):
            if not attachment.pending:
                self._detach(attachment)
        self.close_stdin()

    def close(self) -> None:
        """Let go of everything, also of clients."""
        self.finish()
        for attachment in list(self._attached):
            with contextlib.suppress(OSError):
                self._detach(attachment)
        self._log.close()
