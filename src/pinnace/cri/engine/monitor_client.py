"""The engine's side of the conversation with the monitor: start it where it is not there, ask, listen.

One connection, requests answered in any order, events handed to a callback. When the monitor is killed, the waiting
requests fail, a new monitor is started and takes the containers over; terminals, which it cannot reopen by itself, are
given back to it from the copies kept here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import structlog

from pinnace.cri.engine import _syscalls as sys_
from pinnace.cri.engine import procfs
from pinnace.cri.engine.datagrams import MESSAGE_LIMIT, close_all
from pinnace.wire.tasks import end_tasks

_log = structlog.get_logger()

_CONNECTION_SECONDS = 10.0  # that a call waits for a new monitor when the old one was killed
_AGAIN_SECONDS = 1.0  # between attempts to start one
_SOURCE = str(Path(__file__).resolve().parents[3])  # the directory that holds the package


class MonitorError(Exception):
    """A verb failed; the text is the launcher's."""


class MonitorClient:
    """A connection to the monitor of a state directory."""

    def __init__(self, state: Path, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._state = state
        self._on_event = on_event
        self._socket: socket.socket | None = None
        self._waiting: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._number = 0
        self._outgoing: list[tuple[bytes, list[int]]] = []
        self._closing = False
        self._reconnecting: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self.terminals: dict[str, int] = {}  # container id -> a copy of its terminal
        self.on_lost: Callable[[], None] = lambda: None  # when the monitor has ended
        self.on_reconnect: Callable[[], None] = lambda: None  # after a new one took over
        self.on_spawn: Callable[[int], None] = lambda _: None  # with a new monitor's pid, before it has any container

    async def start(self) -> None:
        """Connect, starting the monitor if there is none. Raises MonitorError and OSError where that cannot be."""
        while not self._connected.is_set():
            if not self._try_connect():
                await asyncio.to_thread(self._spawn)
                if not self._try_connect():
                    raise MonitorError("the containers' monitor does not start")
            with contextlib.suppress(MonitorError):
                await self._ask("ping")  # one that is being killed lets itself be connected to, and answers nothing
                self._connected.set()

    def _spawn(self) -> None:
        code = "import sys; sys.path.insert(0, sys.argv[2])\n"
        code += "from pinnace.cri.engine.monitor import main; main(sys.argv[1])"
        with _write_protected(sys.executable) as program:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", code, str(self._state), _SOURCE],
                executable=program,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                check=False,
            )
        if done.returncode:
            raise MonitorError(f"the containers' monitor ended with status {done.returncode}")
        if done.stdout:  # nothing where another process was faster
            self.on_spawn(int(done.stdout))

    def _try_connect(self) -> bool:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        directory = os.open(self._state, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Through /proc, for a socket's address holds only 107 bytes and state directories can be deep.
            sock.connect(f"/proc/self/fd/{directory}/monitor.sock")
        except OSError:
            sock.close()
            return False
        finally:
            os.close(directory)
        for option in (33, 32):  # SO_RCVBUFFORCE, SO_SNDBUFFORCE
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, MESSAGE_LIMIT)
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable)
        return True

    @property
    def monitor_pid(self) -> int:
        """The monitor's process id, 0 if it does not run."""
        record = procfs.read_json(f"{self._state}/monitor.json")
        return record["pid"] if record and procfs.start_time(record["pid"]) == record["start"] else 0

    async def call(self, verb: str, fds: list[int] | None = None, **arguments: Any) -> tuple[dict[str, Any], list[int]]:
        """Ask; the answer and the descriptors that came with it (the caller's to close). Raises MonitorError."""
        try:
            async with asyncio.timeout(_CONNECTION_SECONDS):
                await self._connected.wait()
        except TimeoutError:
            raise MonitorError("the containers' monitor does not run") from None
        return await self._ask(verb, fds, **arguments)

    async def _ask(self, verb: str, fds: list[int] | None = None, **arguments: Any) -> tuple[dict[str, Any], list[int]]:
        self._number += 1
        number = self._number
        future: asyncio.Future[tuple[dict[str, Any], list[int]]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        message = json.dumps({"n": number, "verb": verb, **arguments}).encode()
        self._outgoing.append((message, [os.dup(fd) for fd in fds or []]))
        self._flush()
        try:
            answer, received = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                close_all(future.result()[1])  # it has answered, but nobody takes that any more
            raise
        finally:
            self._waiting.pop(number, None)
        if "error" in answer:
            close_all(received)
            raise MonitorError(answer["error"])
        return answer, received

    def _flush(self) -> None:
        while self._outgoing and self._socket:
            data, fds = self._outgoing[0]
            try:
                socket.send_fds(self._socket, [data], fds)
            except BlockingIOError:
                asyncio.get_running_loop().add_writer(self._socket.fileno(), self._flush)
                return
            except OSError:
                self._lost()
                return
            self._outgoing.pop(0)
            close_all(fds)
        if self._socket:
            asyncio.get_running_loop().remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        while self._socket:
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, MESSAGE_LIMIT, 16, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._lost()
                return
            message = json.loads(data)
            if "event" in message:
                self._on_event(message)
                continue
            future = self._waiting.get(message["n"])
            if future and not future.done():
                future.set_result((message, list(fds)))
            else:
                close_all(fds)

    def _lost(self) -> None:
        was_there = self._connected.is_set()
        self._disconnect()
        if was_there and not self._closing:
            self.on_lost()
            self._reconnecting = asyncio.get_running_loop().create_task(self._reconnect())

    def _disconnect(self) -> None:
        self._connected.clear()
        if self._socket:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket.fileno())
            loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None
        for _, fds in self._outgoing:
            close_all(fds)
        self._outgoing.clear()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(MonitorError("the containers' monitor was restarted"))

    async def _reconnect(self) -> None:
        """Go on until there is one: without it no container can be started, or seen to end."""
        while True:
            try:
                await self.start()
                break
            except (MonitorError, OSError) as error:
                _log.warning("the containers' monitor does not start", error=str(error))
            await asyncio.sleep(_AGAIN_SECONDS)
        for id_, fd in list(self.terminals.items()):
            with contextlib.suppress(MonitorError):
                await self.call("adopt", [fd], id=id_)
        self.on_reconnect()

    def keep_terminal(self, id_: str, fd: int) -> None:
        """Keep a container's terminal (taken over by this object) against the monitor's death."""
        self.drop_terminal(id_)
        self.terminals[id_] = fd

    def drop_terminal(self, id_: str) -> None:
        fd = self.terminals.pop(id_, None)
        if fd is not None:
            os.close(fd)

    async def close(self) -> None:
        """Disconnect; the monitor and the containers go on."""
        self._closing = True
        if self._reconnecting:
            await end_tasks([self._reconnecting])
        self._disconnect()
        for id_ in list(self.terminals):
            self.drop_terminal(id_)

    async def shutdown(self) -> None:
        """End the monitor itself, once no container is left."""
        self._closing = True
        pid = self.monitor_pid
        with contextlib.suppress(MonitorError):
            pidfd = os.pidfd_open(pid) if pid else -1
            await self.call("shutdown")
            if pidfd >= 0:
                await asyncio.to_thread(_wait_or_kill, pidfd)
        await self.close()


@contextlib.contextmanager
def _write_protected(program: str) -> Iterator[str]:
    """A path by which a program can be started and not be written to.

    Containers start as forks of the monitor: what they find as /proc/self/exe must not lead them to the machine's own
    interpreter (CVE-2019-5736). The mount is in no namespace, so nobody can make it writable again.
    """
    tree = sys_.open_tree(os.path.realpath(program), recursive=False)
    try:
        sys_.mount_setattr(tree, set_=sys_.MOUNT_ATTR_RDONLY)
        yield f"/proc/{os.getpid()}/fd/{tree}"
    finally:
        os.close(tree)


def _wait_or_kill(pidfd: int) -> None:
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(5000):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        poll.poll(5000)
    os.close(pidfd)
