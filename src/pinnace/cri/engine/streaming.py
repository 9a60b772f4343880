"""Exec, attach and port-forward sessions, and the HTTP server that carries them.

A session function takes the client's streams and returns how it ended; it knows nothing of HTTP, WebSocket or SPDY,
which are `pinnace.wire.streams`' affair. The server listens on loopback and hands each session out once, for a token
in its URL that soon expires (CRI's Exec, Attach and PortForward return such URLs).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
import socket
import struct
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypedDict

from pinnace.cri.api import AttachRequest, CriError, ExecRequest, ExecSyncResponse
from pinnace.cri.engine.monitor_client import MonitorClient, MonitorError
from pinnace.cri.engine.network import in_namespace
from pinnace.cri.engine.rootfs import open_null
from pinnace.wire.tasks import end_tasks

if TYPE_CHECKING:
    from pinnace.wire.http import AnyResponse, Request
    from pinnace.wire.server import Server
    from pinnace.wire.streams import ExitStatus, RemoteStreams

TOKEN_SECONDS = 60.0
EXEC_SYNC_LIMIT = 16 * 1024 * 1024  # bytes of output kept of each stream, as the kubelet's probes need few


def _pipe() -> tuple[int, int]:
    return os.pipe2(os.O_CLOEXEC)


def resize(terminal: int, columns: int, rows: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class _FdReader:
    """A non-blocking descriptor read by the event loop."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd

    async def read(self) -> bytes:
        """The next bytes; empty at the end, which for a terminal is the error EIO."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return os.read(self._fd, 65536)
            except BlockingIOError:
                ready = loop.create_future()
                loop.add_reader(self._fd, _wake, ready)
                try:
                    await ready
                finally:
                    loop.remove_reader(self._fd)
            except OSError:
                return b""

    def rest(self) -> list[bytes]:
        """What can be had without waiting."""
        found = []
        with contextlib.suppress(OSError):
            while data := os.read(self._fd, 65536):
                found.append(data)
        return found


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _write_all(fd: int, data: bytes) -> bool:
    """Write to a non-blocking descriptor; whether its reader is still there."""
    loop = asyncio.get_running_loop()
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            ready = loop.create_future()
            loop.add_writer(fd, _wake, ready)
            try:
                await ready
            finally:
                loop.remove_writer(fd)
        except OSError:
            return False
    return True


class Sessions:
    """Runs sessions in the containers of one engine."""

    def __init__(self, monitor_client: MonitorClient) -> None:
        self._monitor = monitor_client
        self._ends: dict[str, asyncio.Future[dict[str, Any]]] = {}

    def on_exec_exit(self, event: dict[str, Any]) -> None:
        future = self._ends.get(event["exec"])
        if future and not future.done():
            future.set_result(event)

    def fail_all(self) -> None:
        """The monitor that would have reported the ends is gone."""
        for future in self._ends.values():
            if not future.done():
                future.set_result({"code": 255, "error": "the containers' monitor was restarted"})

    async def _begin(
        self, container_id: str, process: dict[str, Any], fds: list[int]
    ) -> tuple[str, asyncio.Future[dict[str, Any]], list[int]]:
        exec_id = secrets.token_hex(32)
        words = f'failed to exec in container: failed to start exec "{exec_id}": OCI runtime exec failed: exec failed'
        if not process["args"]:
            raise CriError("UNKNOWN", f"{words}: args must not be empty: unknown")
        end: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._ends[exec_id] = end
        try:
            _, masters = await self._monitor.call("exec", fds, id=container_id, exec=exec_id, process=process)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                await self._kill(exec_id)  # the monitor may be about to start it
            self._ends.pop(exec_id, None)
            if isinstance(error, MonitorError):
                raise CriError("UNKNOWN", f"{words}: unable to start container process: {error}: unknown") from error
            raise
        return exec_id, end, masters

    async def kill(self, exec_id: str, end: asyncio.Future[dict[str, Any]]) -> None:
        """End a process and what it started in its session's first process group."""
        await self._kill(exec_id)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(end), 5)

    async def _kill(self, exec_id: str) -> None:
        with contextlib.suppress(MonitorError):
            await self._monitor.call("exec_kill", exec=exec_id, signal=int(signal.SIGKILL))

    async def exec_sync(self, container_id: str, process: dict[str, Any], timeout: float) -> ExecSyncResponse:
        """To the end of the process, or DEADLINE_EXCEEDED and its death."""
        null = open_null()
        out_read, out_write = _pipe()
        err_read, err_write = _pipe()
        chunks: tuple[list[bytes], list[bytes]] = ([], [])
        readers = [_FdReader(out_read), _FdReader(err_read)]

        async def collect(reader: _FdReader, into: list[bytes]) -> None:
            size = 0
            while data := await reader.read():
                size += len(data)
                if size <= EXEC_SYNC_LIMIT:
                    into.append(data)

        tasks: list[asyncio.Task[None]] = []
        try:
            try:
                exec_id, end, _ = await self._begin(container_id, process, [null, out_write, err_write])
            finally:
                for fd in (null, out_write, err_write):
                    os.close(fd)
            tasks = [asyncio.create_task(collect(r, c)) for r, c in zip(readers, chunks, strict=True)]
            try:
                outcome = await asyncio.wait_for(asyncio.shield(end), timeout or None)
            except (TimeoutError, asyncio.CancelledError) as error:
                await self.kill(exec_id, end)
                if isinstance(error, TimeoutError):
                    text = f"failed to exec in container: timeout {timeout:g}s exceeded: context deadline exceeded"
                    raise CriError("DEADLINE_EXCEEDED", text) from None
                raise
            finally:
                self._ends.pop(exec_id, None)
            # What it wrote is in the pipes by now; children that live on and hold them are not waited for.
            await end_tasks(tasks)
            for reader, into in zip(readers, chunks, strict=True):
                into += reader.rest()
            if outcome.get("error"):
                raise CriError("UNKNOWN", f"failed to exec in container: {outcome['error']}")
            return ExecSyncResponse(stdout=b"".join(chunks[0]), stderr=b"".join(chunks[1]), exit_code=outcome["code"])
        finally:
            await end_tasks(tasks)
            os.close(out_read)
            os.close(err_read)

    async def exec(self, container_id: str, process: dict[str, Any], streams: RemoteStreams) -> ExitStatus:
        """A process on the client's streams; it is killed when the client leaves."""
        from pinnace.wire.streams import ExitStatus

        if process["terminal"]:
            exec_id, end, masters = await self._begin(container_id, process, [])
            ours = masters
        else:
            pipes = [_pipe() for _ in range(3)]
            theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
            ours = [pipes[0][1], pipes[1][0], pipes[2][0]]
            try:
                exec_id, end, _ = await self._begin(container_id, process, theirs)
            except BaseException:
                for fd in ours:
                    os.close(fd)
                raise
            finally:
                for fd in theirs:
                    os.close(fd)
        try:
            async with _Plumbing() as plumbing:
                if process["terminal"]:
                    plumbing.terminal(ours[0], streams)
                else:
                    plumbing.input(ours[0], streams)
                    plumbing.output(ours[1], streams.stdout)
                    plumbing.output(ours[2], streams.stderr)
                    ours = []
                outcome = await asyncio.shield(end)
                await plumbing.drained()
        except asyncio.CancelledError:
            await self.kill(exec_id, end)
            raise
        finally:
            self._ends.pop(exec_id, None)
            for fd in ours:
                os.close(fd)
        if outcome.get("error"):
            raise CriError("UNKNOWN", str(outcome["error"]))
        return ExitStatus(outcome["code"])

    async def attach(
        self,
        container_id: str,
        exited: asyncio.Event,
        stdin_path: str,
        stdin_once: bool,
        terminal: bool,
        streams: RemoteStreams,
    ) -> ExitStatus | None:
        """A running container's own streams, from now on; ends with the container or the client.

        A client whose input has ended is done, unless the container's ends with it: then it may have more to say.
        """
        pipes = {name: _pipe() for name in (("stdout",) if terminal else ("stdout", "stderr"))}
        wanted = {"stdout": streams.stdout, "stderr": streams.stderr}
        try:
            _, masters = await self._monitor.call(
                "attach", [write for _, write in pipes.values()], id=container_id, streams=list(pipes)
            )
        except BaseException as error:
            for read, _ in pipes.values():
                os.close(read)
            if isinstance(error, MonitorError):
                raise CriError("UNKNOWN", f"failed to attach: {error}") from error
            raise
        finally:
            for _, write in pipes.values():
                os.close(write)
        async with _Plumbing() as plumbing:
            for name, (read, _) in pipes.items():
                plumbing.output(read, wanted[name])
            if masters:
                plumbing.adopt(masters[0])
                plumbing.sizes(masters[0], streams)
                if streams.stdin:
                    plumbing.feed(masters[0], streams)
            elif streams.stdin and stdin_path:
                with contextlib.suppress(OSError):
                    fd = os.open(stdin_path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                    plumbing.input(fd, streams, self._stdin_ended(container_id) if stdin_once else None)
            stays = stdin_once and not terminal
            await (plumbing.ended(exited) if stays else plumbing.ended_or_left(exited))
        return None

    def _stdin_ended(self, container_id: str) -> Callable[[], Any]:
        async def tell() -> None:
            with contextlib.suppress(MonitorError):
                await self._monitor.call("close_stdin", id=container_id)

        return tell


class _Plumbing:
    """The copying tasks of a session, ended together; owns the descriptors it is given."""

    def __init__(self) -> None:
        self._inputs: list[asyncio.Task[None]] = []
        self._outputs: list[asyncio.Task[None]] = []
        self._readers: list[tuple[_FdReader, Any]] = []
        self._fds: list[int] = []
        self._left = asyncio.Event()  # set once the client's input has ended

    async def __aenter__(self) -> _Plumbing:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await end_tasks([*self._inputs, *self._outputs])
        for fd in self._fds:
            with contextlib.suppress(OSError):
                os.close(fd)

    def adopt(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fds.append(fd)

    def output(self, fd: int, sink: Any) -> None:
        self.adopt(fd)
        self._follow(fd, sink)

    def _follow(self, fd: int, sink: Any) -> None:
        reader = _FdReader(fd)
        self._readers.append((reader, sink))

        async def copy() -> None:
            while data := await reader.read():
                if sink is not None:
                    sink.write(data)
                    await sink.drain()

        self._outputs.append(asyncio.create_task(copy()))

    def input(self, fd: int, streams: RemoteStreams, at_end: Callable[[], Any] | None = None) -> None:
        """Copy stdin into a pipe and close it after the last byte."""
        os.set_blocking(fd, False)

        self._fds.append(fd)

        async def copy() -> None:
            await self._pass_on(streams, fd)
            self._fds.remove(fd)
            os.close(fd)
            if at_end:
                await at_end()

        self._inputs.append(asyncio.create_task(copy()))

    def feed(self, terminal: int, streams: RemoteStreams) -> None:
        """Copy stdin to a terminal, which stays open."""

        self._inputs.append(asyncio.create_task(self._pass_on(streams, terminal)))

    async def _pass_on(self, streams: RemoteStreams, fd: int) -> None:
        while streams.stdin and (data := await streams.stdin.read()):
            if not await _write_all(fd, data):
                return
        self._left.set()

    def sizes(self, terminal: int, streams: RemoteStreams) -> None:
        async def follow() -> None:
            while True:
                resize(terminal, *await streams.resize.get())

        self._inputs.append(asyncio.create_task(follow()))

    def terminal(self, master: int, streams: RemoteStreams) -> None:
        """An exec'd process's own terminal."""
        os.set_blocking(master, False)
        self._follow(os.dup(master), streams.stdout)
        self.sizes(master, streams)
        if streams.stdin:
            self.feed(master, streams)

    async def drained(self) -> None:
        """After the process's end: pass on what it wrote, not waiting for children that hold the pipes."""
        await end_tasks(self._outputs)
        for reader, sink in self._readers:
            for data in reader.rest():
                if sink is not None:
                    sink.write(data)
                    await sink.drain()

    async def ended(self, exited: asyncio.Event) -> None:
        """Wait for the end of all output and of who made it."""
        await asyncio.gather(*self._outputs)
        await exited.wait()

    async def ended_or_left(self, exited: asyncio.Event) -> None:
        """Wait for that, or for the end of the client's input."""
        tasks = [asyncio.create_task(self.ended(exited)), asyncio.create_task(self._left.wait())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(tasks)
        for task in done:
            task.result()
        await self.drained()


def require_streams(request: ExecRequest | AttachRequest, word: str) -> None:
    """CriError for a session without streams, or with one that a terminal has not; `word` is before the last one."""
    if not (request.stdin or request.stdout or request.stderr):
        raise CriError("INVALID_ARGUMENT", f"one of stdin, stdout, {word} stderr must be set")
    if request.tty and request.stderr:
        raise CriError("INVALID_ARGUMENT", "tty and stderr cannot both be true")


class _Wants(TypedDict):
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


def _wants(request: ExecRequest | AttachRequest) -> _Wants:
    return {"stdin": request.stdin, "stdout": request.stdout, "stderr": request.stderr, "tty": request.tty}


async def dial(namespace: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a port on a pod's loopback, IPv4 first."""

    def open_socket(family: socket.AddressFamily) -> socket.socket:
        # A socket belongs to the namespace it was made in; connecting can be done from outside.
        return in_namespace(namespace, lambda: socket.socket(family, socket.SOCK_STREAM))

    failures: list[str] = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            sock = await asyncio.to_thread(open_socket, family)
        except OSError as error:
            failures.append(str(error))
            continue
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
            return await asyncio.open_connection(sock=sock)
        except OSError as error:
            sock.close()
            tried = "IPv4: dial tcp4 127.0.0.1" if family == socket.AF_INET else "IPv6 dial tcp6: [::1]"
            failures.append(f"{tried}:{port}: connect: {os.strerror(error.errno or 0).lower()}")
    raise ConnectionRefusedError(
        f'failed to execute portforward in network namespace "{namespace}": '
        f'failed to connect to localhost:{port} inside namespace "{namespace}", {" ".join(failures)}'
    )


class StreamingServer:
    """Sessions behind one-time URLs."""

    def __init__(self) -> None:
        self._server: Server | None = None
        self._offers: dict[str, Callable[[Request], AnyResponse]] = {}

    async def start(self) -> None:
        from pinnace.wire.server import serve

        self._server = await serve(self._handle, [("127.0.0.1", 0)])

    async def close(self) -> None:
        if self._server:
            await self._server.close(0.5)
            self._server = None

    async def offer(self, kind: str, answer: Callable[[Request], AnyResponse]) -> str:
        """The URL that carries a session, once."""
        if self._server is None:
            await self.start()
        assert self._server is not None
        token = secrets.token_urlsafe(24)
        self._offers[token] = answer
        asyncio.get_running_loop().call_later(TOKEN_SECONDS, self._offers.pop, token, None)
        host, port = self._server.addresses[0][:2]
        return f"http://{host}:{port}/{kind}/{token}"

    def _handle(self, request: Request) -> AnyResponse:
        from pinnace.wire.http import Response

        answer = self._offers.pop(request.path.rpartition("/")[2], None)
        if answer is None:
            return Response(404, [("Content-Type", "text/plain")], b"unknown or expired token\n")
        return answer(request)

    async def exec_url(self, request: ExecRequest, session: Callable[[RemoteStreams], Any]) -> str:
        from pinnace.wire.streams import remote_command

        return await self.offer("exec", lambda http: remote_command(http, session, **_wants(request)))

    async def attach_url(self, request: AttachRequest, session: Callable[[RemoteStreams], Any]) -> str:
        from pinnace.wire.streams import remote_command

        doing = "attaching to container"
        return await self.offer("attach", lambda http: remote_command(http, session, **_wants(request), doing=doing))

    async def port_forward_url(self, namespace: str, pod: str, ports: list[int]) -> str:
        from pinnace.wire.streams import port_forward

        async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await dial(namespace, port)

        return await self.offer("portforward", lambda http: port_forward(http, connect, pod=pod, ports=ports))
