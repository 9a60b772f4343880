"""The containers' parent: one small process per engine that forks containers, keeps their logs and their exit codes.

It speaks newline-free JSON datagrams over a SOCK_SEQPACKET Unix socket (`monitor.sock` in the state directory), with
the verbs of an OCI runtime on bundles: create, start, kill, delete, state, exec, reopen. Requests carry `n`, which the
answer repeats; what happens on its own is an `event`. Descriptors travel by SCM_RIGHTS.

It outlives the engine, and the containers outlive it: their standard streams are FIFOs whose ends the containers hold
themselves, so a new monitor takes up where one was killed, watching a process by pidfd once its start time proves that
it is the same. Everything it knows is on disk in the bundles (`state.json`, `exit.json`), written by rename.
Imports are few on purpose: this process's memory is the price of every node.
"""

# ruff: noqa: PTH104, PTH108, PTH109, PTH110, PTH112, PTH123, PTH208
# Descriptors, mounts and /proc files: `os` is the interface here, and pathlib would cost memory in every container.
from __future__ import annotations

import contextlib
import fcntl
import functools
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from pinnace.cri.engine import _syscalls as sys_
from pinnace.cri.engine import launcher
from pinnace.cri.engine.logs import LineCutter, LogFile

MESSAGE_LIMIT = 4 * 1024 * 1024  # bytes of one datagram
READ_SIZE = 65536
ATTACH_LIMIT = 256 * 1024  # bytes kept for a slow attached client before the container has to wait for it
UNKNOWN_EXIT = 255  # what containerd reports when nobody saw the end


def write_json(path: str, value: Any) -> None:
    """Replace a file atomically."""
    temporary = f"{path}.tmp"
    with open(temporary, "w") as file:
        json.dump(value, file)
    os.rename(temporary, path)


def read_json(path: str) -> Any:
    """A file's JSON; None if it is not there or not whole."""
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if there is none."""
    return int(_stat_fields(pid)[19]) if _stat_fields(pid) else 0


def _stat_fields(pid: int) -> list[str]:
    """/proc/<pid>/stat from the third field (state) on."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def exit_code(status: int) -> int:
    """A wait status as shells and Kubernetes show it: 128 + n for signal n."""
    return 128 + (status & 0x7F) if status & 0x7F else status >> 8 & 0xFF


def oom_kills(cgroups: list[str]) -> int:
    """How many processes of these cgroups the kernel killed for memory."""
    total = 0
    for path in cgroups:
        for name in ("memory.events", "memory.oom_control"):
            try:
                with open(f"{path}/{name}") as file:
                    total += sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
            except (OSError, ValueError):
                continue
    return total


def kill_cgroup(cgroups: list[str], number: int) -> bool:
    """Signal every process in a container's cgroups; whether there was one."""
    found: set[int] = set()
    for path in cgroups:
        try:
            with open(f"{path}/cgroup.procs") as file:
                found.update(int(line) for line in file)
        except OSError:
            continue
        if found:
            break  # the hierarchies hold the same processes
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return bool(found)


class Attachment:
    """A client that follows a container's output: a non-blocking descriptor and what it has not taken yet."""

    __slots__ = ("fd", "pending", "stream")

    def __init__(self, fd: int, stream: str) -> None:
        self.fd = fd
        self.stream = stream
        self.pending = b""


class Process:
    """A container's init, an exec'd process or a sandbox's pause."""

    __slots__ = (
        "attached",
        "bundle",
        "cgroups",
        "channel",
        "cutters",
        "exit",
        "id",
        "kind",
        "log",
        "master",
        "on_report",
        "pid",
        "pidfd",
        "private_pids",
        "readers",
        "stdin_keeper",
    )

    def __init__(self, kind: str, id_: str, bundle: str) -> None:
        self.kind = kind  # container, exec or sandbox
        self.id = id_
        self.bundle = bundle
        self.pid = 0
        self.pidfd = -1
        self.cgroups: list[str] = []
        self.private_pids = True  # whether its PID namespace dies with it
        self.channel: socket.socket | None = None  # to the fork, until execve closes it
        self.on_report: Callable[[dict[str, Any] | None, list[int]], None] | None = None
        self.log: LogFile | None = None
        self.cutters: dict[str, LineCutter] = {}
        self.readers: dict[int, str] = {}  # descriptor -> stream name
        self.master = -1  # the terminal, for containers that have one
        self.stdin_keeper = -1  # keeps a stdin_once FIFO open until its first client is done
        self.attached: list[Attachment] = []
        self.exit: dict[str, Any] | None = None


class Client:
    """A connected engine."""

    __slots__ = ("pending", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pending: list[tuple[bytes, list[int]]] = []


class Monitor:
    """The loop and its tables."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.clients: dict[int, Client] = {}
        self.containers: dict[str, Process] = {}
        self.by_pid: dict[int, Process] = {}
        self.own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.stopping = False
        self.file_limit = resource.getrlimit(resource.RLIMIT_NOFILE)  # what containers get; this process takes more
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.file_limit[1], self.file_limit[1]))

    # The loop.

    def watch(self, fd: int, handler: Callable[[int], None], events: int = select.EPOLLIN) -> None:
        self.handlers[fd] = handler
        self.epoll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        if self.handlers.pop(fd, None):
            self.epoll.unregister(fd)

    def serve(self, listener: socket.socket) -> None:
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self.watch(listener.fileno(), lambda _: self.accept(listener))
        self.watch(wake_read, lambda _: self.reap(wake_read))
        self.adopt_all()
        while not self.stopping:
            for fd, events in self.epoll.poll():
                handler = self.handlers.get(fd)
                if handler:
                    self.guard(functools.partial(handler, events))

    def guard(self, work: Callable[[], None]) -> None:
        """Whatever goes wrong with one container or client, the others keep their parent."""
        try:
            work()
        except Exception:
            import traceback

            with contextlib.suppress(OSError), open("monitor.err", "a") as file:
                traceback.print_exc(file=file)

    def accept(self, listener: socket.socket) -> None:
        try:
            sock = listener.accept()[0]
        except OSError:
            return
        sock.setblocking(False)
        for option in (33, 32):  # SO_RCVBUFFORCE, SO_SNDBUFFORCE
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, MESSAGE_LIMIT)
        client = Client(sock)
        self.clients[sock.fileno()] = client
        self.watch(sock.fileno(), lambda events: self.client_ready(client, events))

    def client_ready(self, client: Client, events: int) -> None:
        if events & select.EPOLLOUT:
            self.flush(client)
        if not events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            return
        try:
            data, fds, _, _ = socket.recv_fds(client.sock, MESSAGE_LIMIT, 16, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self.drop(client)
            return
        number = 0
        try:
            request = json.loads(data)
            number = request["n"]
            getattr(self, "verb_" + request["verb"])(client, number, request, fds)
        except Exception as error:
            self.answer(client, number, {"error": f"{error}" or type(error).__name__})
            for fd in fds:
                with contextlib.suppress(OSError):
                    os.close(fd)

    def drop(self, client: Client) -> None:
        fd = client.sock.fileno()
        if self.clients.pop(fd, None):
            self.unwatch(fd)
            client.sock.close()

    def send(self, client: Client, message: dict[str, Any], fds: list[int] | None = None) -> None:
        if client.sock.fileno() < 0:
            return
        # A copy of each descriptor waits with a message that cannot go at once.
        client.pending.append((json.dumps(message).encode(), [os.dup(fd) for fd in fds or []]))
        self.flush(client)

    def flush(self, client: Client) -> None:
        while client.pending:
            data, fds = client.pending[0]
            try:
                socket.send_fds(client.sock, [data], fds)
            except BlockingIOError:
                self.epoll.modify(client.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
                return
            except OSError:
                self.drop(client)
                return
            for fd in fds:
                os.close(fd)
            client.pending.pop(0)
        self.epoll.modify(client.sock.fileno(), select.EPOLLIN)

    def answer(self, client: Client, number: int, message: dict[str, Any], fds: list[int] | None = None) -> None:
        self.send(client, {"n": number, **message}, fds)

    def broadcast(self, message: dict[str, Any]) -> None:
        for client in list(self.clients.values()):
            self.send(client, message)

    # Verbs.

    def verb_ping(self, client: Client, number: int, _request: dict[str, Any], _fds: list[int]) -> None:
        self.answer(client, number, {"pid": os.getpid()})

    def verb_shutdown(self, client: Client, number: int, _request: dict[str, Any], _fds: list[int]) -> None:
        """End this process; containers, if there are any, go on."""
        self.answer(client, number, {})
        self.stopping = True

    def verb_sandbox(self, client: Client, number: int, request: dict[str, Any], _fds: list[int]) -> None:
        """Make and pin a sandbox's namespaces; `pid` keeps an init for a shared PID namespace."""
        process = Process("sandbox", request["id"], request["directory"])
        process.cgroups = request.get("cgroups", [])

        def reported(message: dict[str, Any] | None, _fds: list[int]) -> None:
            process.on_report = None
            if message and "created" in message:
                if request.get("pid"):
                    write_json(f"{process.bundle}/pause.json", {"pid": process.pid, "start": start_time(process.pid)})
                self.answer(client, number, {"pid": process.pid})
            else:
                self.answer(client, number, message or {"error": "the sandbox's process ended early"})

        process.on_report = reported
        pids = "new" if request.get("pid") else None
        self.fork(process, lambda channel: launcher.sandbox(channel, request), pids)

    def verb_create(self, client: Client, number: int, request: dict[str, Any], _fds: list[int]) -> None:
        """Fork a container up to just before execve, and answer with its pid."""
        bundle = request["bundle"]
        spec = read_json(f"{bundle}/config.json")
        process = Process("container", request["id"], bundle)
        process.cgroups = request["cgroups"]
        terminal = bool(spec["process"].get("terminal"))
        stdin = request.get("stdin", "")
        os.mkfifo(f"{bundle}/gate", 0o600)
        if not terminal:
            for name in ("stdout", "stderr", *(["stdin"] if stdin else [])):
                os.mkfifo(f"{bundle}/{name}", 0o600)
        process.log = LogFile(request.get("log", ""))
        pids: str | None = "new"
        for namespace in spec["linux"]["namespaces"]:
            if namespace["type"] == "pid":
                pids = namespace.get("path") or "new"
                break
        else:
            pids = None
        process.private_pids = pids == "new"

        def reported(message: dict[str, Any] | None, fds: list[int]) -> None:
            process.on_report = None
            if not message or "created" not in message:
                self.containers.pop(process.id, None)
                self.release(process)
                self.answer(client, number, message or {"error": "the container's process ended early"})
                return
            if fds:
                process.master = fds[0]
                self.follow(process, process.master, "stdout")
            record = {
                "pid": process.pid,
                "start": start_time(process.pid),
                "cgroups": process.cgroups,
                "log": request.get("log", ""),
                "terminal": terminal,
                "stdin": stdin,
                "private_pids": process.private_pids,
            }
            write_json(f"{bundle}/state.json", record)
            self.answer(client, number, {"pid": process.pid}, fds)

        process.on_report = reported
        self.containers[process.id] = process
        try:
            if not terminal:
                self.follow_fifos(process)
                if stdin == "once":
                    process.stdin_keeper = os.open(f"{bundle}/stdin", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self.fork(process, lambda channel: launcher.container(channel, bundle, spec, request), pids)
        except OSError:
            self.containers.pop(process.id, None)
            self.release(process)
            raise

    def verb_start(self, client: Client, number: int, request: dict[str, Any], _fds: list[int]) -> None:
        """Open a created container's gate; answers when execve has happened."""
        process = self.find(request["id"])

        def reported(message: dict[str, Any] | None, _fds: list[int]) -> None:
            process.on_report = None
            self.answer(client, number, message or {"started": time.time_ns()})

        gate = os.open(f"{process.bundle}/gate", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.write(gate, b"0")
        os.close(gate)
        os.unlink(f"{process.bundle}/gate")
        if process.channel is None:
            reported(None, [])  # adopted: its channel went with the monitor that made it
        else:
            process.on_report = reported

    def verb_kill(self, client: Client, number: int, request: dict[str, Any], _fds: list[int]) -> None:
        """Signal a container's init, or with `all` everything in its cgroup too. A dead one is no error."""
        process = self.containers.get(request["id"])
        if process and not process.exit and process.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process.pidfd, request["signal"])
            if request.get("all"):
                kill_cgroup(process.cgroups, request["signal"])
        self.answer(client, number, {})

    def verb_delete(self, client: Client, number: int, request: dict[str, Any], _fds: list[int]) -> None:
        """Forget an exited container."""
        process = self.containers.pop(request["id"], None)
        if process:
            if not process.exit:
                self.containers[process.id] = process
                raise RuntimeError("container is still running")
            self.release(process)
        self.answer(client, number, {})

    def verb_state(self, client: Client, number: int, request: dict[str, Any], _fds: list[int]) -> None:
        """Every container: pid (0 when exited) and exit; with `id`, one of them and its terminal."""
        if request.get("id"):
            process = self.find(request["id"])
            self.answer(client, number, self.describe(process), [process.master] if process.master >= 0 else [])
            return
        found = {id_: self.describe(process) for id_, process in self.containers.items()}
        self.answer(client, number, {"containers": found})

    def verb_adopt(self, client: Client, number: int, request: dict[str, Any], fds: list[int]) -> None:
        """Take a terminal that the engine kept while no monitor ran."""
        process = self.containers.get(request["id"])
        if process and process.master < 0 and not process.exit and fds:
            process.master = fds[0]
            self.follow(process, fds[0], "stdout")
            fds = fds[1:]
        for fd in fds:
            os.close(fd)
        self.answer(client, number, {})

    def verb_reopen(self, client: Client, number: int, request: dict[str, Any], _fds: list[int]) -> None:
        process = self.find(request["id"])
        if process.log:
            process.log.reopen()
        self.answer(client, number, {})

    def verb_attach(self, client: Client, number: int, request: dict[str, Any], fds: list[int]) -> None:
        """Copy output to the descriptors given from now on, one for each of `streams`; the terminal comes back."""
        process = self.find(request["id"])
        if process.exit:
            raise RuntimeError("container is not running")
        for fd, stream in zip(fds, request["streams"], strict=True):
            os.set_blocking(fd, False)
            process.attached.append(Attachment(fd, stream))
        self.answer(client, number, {}, [process.master] if process.master >= 0 else [])

    def verb_close_stdin(self, client: Client, number: int, request: dict[str, Any], _fds: list[int]) -> None:
        """The first client of a stdin_once container is done: let it read the end."""
        process = self.find(request["id"])
        if process.stdin_keeper >= 0:
            os.close(process.stdin_keeper)
            process.stdin_keeper = -1
        self.answer(client, number, {})

    def verb_exec(self, client: Client, number: int, request: dict[str, Any], fds: list[int]) -> None:
        """Run a process in a container on the descriptors given; answers when it runs, its end is an event."""
        container = self.find(request["id"])
        if container.exit or container.pidfd < 0:
            raise RuntimeError("container is not running")
        process = Process("exec", request["exec"], container.bundle)
        process.cgroups = container.cgroups
        spec = read_json(f"{container.bundle}/config.json")

        answered = False

        def reported(message: dict[str, Any] | None, masters: list[int]) -> None:
            nonlocal answered
            if not answered:
                answered = True
                if message and "created" in message:
                    self.answer(client, number, {"pid": process.pid}, masters)
                else:
                    self.answer(client, number, message or {"error": "the process ended early"})
            elif message:
                process.exit = message  # execve itself failed: the exit event carries the text
            for fd in masters:
                os.close(fd)

        process.on_report = reported
        request["cgroups"] = container.cgroups
        target = container.pidfd
        self.fork(
            process,
            lambda channel: launcher.executed(channel, spec, request, os.dup(target), fds),
            container.pid,
            keep=[*fds, target],
        )
        for fd in fds:
            os.close(fd)

    def verb_exec_kill(self, client: Client, number: int, request: dict[str, Any], _fds: list[int]) -> None:
        """Kill an exec'd process and its process group."""
        for process in self.by_pid.values():
            if process.kind == "exec" and process.id == request["exec"]:
                for target in (-process.pid, process.pid):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(target, request["signal"])
        self.answer(client, number, {})

    def find(self, id_: str) -> Process:
        process = self.containers.get(id_)
        if process is None:
            raise RuntimeError("container does not exist")
        return process

    def describe(self, process: Process) -> dict[str, Any]:
        return {"pid": 0 if process.exit else process.pid, "exit": process.exit}

    # Processes.

    def fork(
        self,
        process: Process,
        work: Callable[[socket.socket], None],
        pids: str | int | None,
        keep: list[int] | None = None,
    ) -> None:
        """Fork with `pids` as the child's PID namespace: "new", a file's path, another process's, or None: ours."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if pids == "new":
            sys_.unshare(sys_.CLONE_NEWPID)
        elif pids is not None:
            path = f"/proc/{pids}/ns/pid" if isinstance(pids, int) else pids
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            sys_.setns(fd, sys_.CLONE_NEWPID)
            os.close(fd)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pids is not None and pid:
                sys_.setns(self.own_pid_namespace, sys_.CLONE_NEWPID)
        if pid == 0:
            signal.set_wakeup_fd(-1)
            resource.setrlimit(resource.RLIMIT_NOFILE, self.file_limit)
            self.close_inherited([theirs.fileno(), *(keep or [])])
            launcher.run(theirs, lambda: work(theirs))
        theirs.close()
        ours.setblocking(False)
        process.pid = pid
        process.pidfd = os.pidfd_open(pid)
        process.channel = ours
        self.by_pid[pid] = process
        self.watch(ours.fileno(), lambda _: self.channel_ready(process))

    @staticmethod
    def close_inherited(keep: list[int]) -> None:
        previous = 2
        for fd in sorted(keep):
            os.closerange(previous + 1, fd)
            previous = fd
        os.closerange(previous + 1, os.sysconf("SC_OPEN_MAX"))

    def channel_ready(self, process: Process) -> None:
        assert process.channel is not None
        try:
            data, fds, _, _ = socket.recv_fds(process.channel, 65536, 4, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self.unwatch(process.channel.fileno())
            process.channel.close()
            process.channel = None
        if process.on_report:
            process.on_report(json.loads(data) if data else None, fds)

    def reap(self, wake: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(wake, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            process = self.by_pid.pop(pid, None)
            if process:
                self.guard(functools.partial(self.ended, process, exit_code(status)))

    def ended(self, process: Process, code: int, unknown: bool = False) -> None:
        if process.channel is not None:
            self.channel_ready(process)  # what it said last
            if process.channel is not None:
                self.channel_ready(process)
        if process.kind == "exec":
            error = (process.exit or {}).get("error")
            self.broadcast({"event": "exec_exit", "exec": process.id, "code": code, "error": error})
        if process.kind != "container" or self.containers.get(process.id) is not process:
            self.release(process)
            return
        if not process.private_pids:
            kill_cgroup(process.cgroups, signal.SIGKILL)
        for fd in list(process.readers):
            self.drain(process, fd)
        for stream in process.cutters:
            if process.log:
                process.log.write(process.cutters[stream].end(time.time_ns()))
        process.exit = {
            "code": code,
            "at": time.time_ns(),
            "oom": oom_kills(process.cgroups) > 0 and code != 0,
            "unknown": unknown,
        }
        with contextlib.suppress(OSError):  # a full disk: the engine is told all the same
            write_json(f"{process.bundle}/exit.json", process.exit)
        self.close_streams(process)
        self.broadcast({"event": "exit", "id": process.id, **process.exit})

    def release(self, process: Process) -> None:
        self.close_streams(process)
        if process.pidfd >= 0:
            self.unwatch(process.pidfd)
            os.close(process.pidfd)
            process.pidfd = -1
        if process.log:
            process.log.close()

    # Output.

    def follow_fifos(self, process: Process) -> None:
        for stream in ("stdout", "stderr"):
            fd = os.open(f"{process.bundle}/{stream}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self.follow(process, fd, stream)

    def follow(self, process: Process, fd: int, stream: str) -> None:
        os.set_blocking(fd, False)
        process.readers[fd] = stream
        process.cutters.setdefault(stream, LineCutter(stream))
        self.watch(fd, lambda events: self.output_ready(process, fd, events))

    def output_ready(self, process: Process, fd: int, events: int) -> None:
        if not self.pump(process, fd) and events & (select.EPOLLHUP | select.EPOLLERR):
            # Every holder is gone, or not there yet: the end of the process is what closes it. Look again then.
            self.unwatch(fd)

    def pump(self, process: Process, fd: int) -> bool:
        """Read once; whether there was something."""
        try:
            data = os.read(fd, READ_SIZE)
        except OSError:
            return False
        if not data:
            return False
        stream = process.readers[fd]
        if process.log:
            process.log.write(process.cutters[stream].feed(data, time.time_ns()))
        for attachment in [a for a in process.attached if a.stream == stream]:
            attachment.pending += data
            self.flush_attachment(process, attachment)
        return True

    def drain(self, process: Process, fd: int) -> None:
        while self.pump(process, fd):
            pass

    def flush_attachment(self, process: Process, attachment: Attachment) -> None:
        try:
            written = os.write(attachment.fd, attachment.pending)
        except BlockingIOError:
            written = 0
        except OSError:
            self.detach(process, attachment)
            self.resume(process)
            return
        attachment.pending = attachment.pending[written:]
        waiting = attachment.fd in self.handlers
        if attachment.pending and not waiting:
            self.watch(attachment.fd, lambda _: self.flush_attachment(process, attachment), select.EPOLLOUT)
        elif not attachment.pending and waiting:
            self.unwatch(attachment.fd)
        if len(attachment.pending) > ATTACH_LIMIT:
            for fd in process.readers:
                self.unwatch(fd)  # the container waits for its slow reader, as it would on a pipe
        elif waiting:
            self.resume(process)

    def resume(self, process: Process) -> None:
        if any(len(a.pending) > ATTACH_LIMIT for a in process.attached):
            return
        for fd, stream in process.readers.items():
            if fd not in self.handlers:
                self.follow(process, fd, stream)

    def detach(self, process: Process, attachment: Attachment) -> None:
        self.unwatch(attachment.fd)
        os.close(attachment.fd)
        process.attached.remove(attachment)

    def close_streams(self, process: Process) -> None:
        for fd in process.readers:
            self.unwatch(fd)
            os.close(fd)
        if process.master in process.readers:
            process.master = -1
        process.readers.clear()
        for attachment in list(process.attached):
            if attachment.pending:
                with contextlib.suppress(OSError):
                    os.write(attachment.fd, attachment.pending)
            self.detach(process, attachment)
        if process.stdin_keeper >= 0:
            os.close(process.stdin_keeper)
            process.stdin_keeper = -1

    # After a predecessor was killed.

    def adopt_all(self) -> None:
        base = f"{self.state}/containers"
        for id_ in os.listdir(base) if os.path.isdir(base) else []:
            bundle = f"{base}/{id_}"
            record = read_json(f"{bundle}/state.json")
            if not record:
                continue  # never got as far as `created`: the engine undoes it
            process = Process("container", id_, bundle)
            process.exit = read_json(f"{bundle}/exit.json")
            self.containers[id_] = process
            if not process.exit:
                self.adopt(process, record)

    def adopt(self, process: Process, record: dict[str, Any]) -> None:
        process.pid = record["pid"]
        process.cgroups = record["cgroups"]
        process.private_pids = record["private_pids"]
        process.log = LogFile(record["log"])
        try:
            process.pidfd = os.pidfd_open(process.pid)
        except OSError:
            process.pidfd = -1
        alive = process.pidfd >= 0 and start_time(process.pid) == record["start"]
        if not record["terminal"] and os.path.exists(f"{process.bundle}/stdout"):
            self.follow_fifos(process)
        if not alive:
            self.ended(process, UNKNOWN_EXIT, unknown=True)
            return
        if record["stdin"] == "once":
            process.stdin_keeper = os.open(f"{process.bundle}/stdin", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(process.pidfd, lambda _: self.adopted_ended(process))

    def adopted_ended(self, process: Process) -> None:
        """An adopted process is no child of ours: its zombie, or the kernel's memory of it, tells how it ended."""
        self.unwatch(process.pidfd)
        deadline = time.monotonic() + 1
        status: int | None = None
        while status is None and time.monotonic() < deadline:
            fields = _stat_fields(process.pid)
            if fields and fields[0] == "Z":
                status = int(fields[49])
            else:
                status = sys_.pidfd_exit_status(process.pidfd)
                if not fields:
                    break
        self.ended(process, UNKNOWN_EXIT if status is None else exit_code(status), unknown=status is None)


def main(state: str) -> None:
    """Serve a state directory, detached; the starting process tells its pid and ends when the socket is there."""
    os.chdir(state)
    lock = os.open("monitor.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # one is there already
    with contextlib.suppress(FileNotFoundError):
        os.unlink("monitor.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind("monitor.sock")
    listener.listen(16)
    listener.setblocking(False)
    if child := os.fork():
        os.write(1, str(child).encode())
        os._exit(0)
    os.setsid()
    os.umask(0o022)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys_.prctl(sys_.PR_SET_CHILD_SUBREAPER, 1)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("-999")
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write("pinnace-monitor")
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    write_json("monitor.json", {"pid": os.getpid(), "start": start_time(os.getpid())})
    gc.collect()
    gc.freeze()
    Monitor(os.getcwd()).serve(listener)


if __name__ == "__main__":
    main(sys.argv[1])
