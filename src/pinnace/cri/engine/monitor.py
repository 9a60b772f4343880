"""The containers' parent: one small process per engine that forks containers, keeps their logs and their exit codes.

It speaks newline-free JSON datagrams over a SOCK_SEQPACKET Unix socket (`monitor.sock` in the state directory), with
the verbs of an OCI runtime on bundles: create, start, kill, delete, state, exec, reopen. Requests carry `n`, which the
answer repeats; what happens on its own is an `event`. Descriptors travel by SCM_RIGHTS.

It outlives the engine, and the containers outlive it: their standard streams are FIFOs whose ends the containers hold
themselves, so a new monitor takes up where one was killed, watching a process by pidfd once its start time proves that
it is the same. Everything it knows is on disk in the bundles (`state.json`, `exit.json`), written by rename.
Imports are few on purpose: this process's memory is the price of every node.
"""

# ruff: noqa: PTH108, PTH109, PTH110, PTH112, PTH123, PTH208
# Descriptors, mounts and /proc files: `os` is the interface here, and pathlib would cost memory in every container.
from __future__ import annotations

import contextlib
import fcntl
import functools
import gc
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from pinnace.cri.engine import _syscalls as sys_
from pinnace.cri.engine import launcher
from pinnace.cri.engine.datagrams import Client, DatagramServer
from pinnace.cri.engine.loop import Loop
from pinnace.cri.engine.output import Output
from pinnace.cri.engine.procfs import (
    descendants,
    exit_code,
    kill_cgroup,
    oom_kills,
    read_json,
    start_time,
    stat_fields,
    write_json,
)

UNKNOWN_EXIT = 255  # what containerd reports when nobody saw the end


class Process:
    """A container's init, an exec'd process or a sandbox's pause."""

    __slots__ = (
        "bundle",
        "cgroups",
        "channel",
        "exit",
        "hooks",
        "id",
        "kind",
        "oci",
        "on_report",
        "output",
        "pid",
        "pidfd",
        "private_pids",
    )

    def __init__(self, kind: str, id_: str, bundle: str) -> None:
        self.kind = kind  # container, exec or sandbox
        self.id = id_
        self.bundle = bundle
        self.pid = 0
        self.pidfd = -1
        self.cgroups: list[str] = []
        self.private_pids = True  # whether its PID namespace dies with it
        self.hooks: list[str] = []  # kinds of hooks that are ours to run
        self.oci: dict[str, Any] | None = None  # the OCI runtime that runs it; None: the built-in launcher
        self.channel: socket.socket | None = None  # to the fork, until execve closes it
        self.on_report: Callable[[dict[str, Any] | None, list[int]], None] | None = None
        self.output: Output | None = None  # a container's
        self.exit: dict[str, Any] | None = None


class Monitor(DatagramServer):
    """The loop and its tables."""

    def __init__(self, state: str) -> None:
        super().__init__(Loop())
        self.state = state
        self.containers: dict[str, Process] = {}
        self.by_pid: dict[int, Process] = {}
        self.helpers = 0  # forks that call an OCI runtime; what they start becomes ours when they end
        self.strangers: dict[int, int] = {}  # pid -> status of what ended before its helper told of it
        self.own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.file_limit = resource.getrlimit(resource.RLIMIT_NOFILE)  # what containers get; this process takes more
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.file_limit[1], self.file_limit[1]))

    def serve(self, listener: socket.socket) -> None:
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self.loop.watch(listener.fileno(), lambda _: self.accept(listener))
        self.loop.watch(wake_read, lambda _: self.reap(wake_read))
        self.adopt_all()
        self.loop.run()

    # Verbs.

    def verb_ping(self, client: Client, number: int, _request: dict[str, Any], _fds: list[int]) -> None:
        self.answer(client, number, {"pid": os.getpid()})

    def verb_shutdown(self, client: Client, number: int, _request: dict[str, Any], _fds: list[int]) -> None:
        """End this process; containers, if there are any, go on."""
        self.answer(client, number, {})
        self.loop.stopping = True

    def verb_sandbox(self, client: Client, number: int, request: dict[str, Any], _fds: list[int]) -> None:
        """Make and pin a sandbox's namespaces; `pid` keeps an init for a shared PID namespace."""
        process = Process("sandbox", request["id"], request["directory"])
        process.cgroups = request.get("cgroups", [])
        made = False

        def reported(message: dict[str, Any] | None, _fds: list[int]) -> None:
            nonlocal made
            if message and "created" in message:
                made = True
                if request.get("pid"):
                    return  # it is no copy of this process any more when its channel ends
            process.on_report = None
            if not made or (message and "error" in message):
                self.answer(client, number, message or {"error": "the sandbox's process ended early"})
                return
            if request.get("pid"):
                write_json(f"{process.bundle}/pause.json", {"pid": process.pid, "start": start_time(process.pid)})
            self.answer(client, number, {"pid": process.pid})

        process.on_report = reported
        pids = "new" if request.get("pid") else None
        self.fork(process, lambda channel: launcher.sandbox(channel, request), pids)

    def verb_create(self, client: Client, number: int, request: dict[str, Any], _fds: list[int]) -> None:
        """Fork a container up to just before execve, and answer with its pid."""
        bundle = request["bundle"]
        spec = read_json(f"{bundle}/config.json")
        process = Process("container", request["id"], bundle)
        process.cgroups = request["cgroups"]
        process.oci = request.get("oci")
        if spec.get("hooks") and not process.oci:
            process.hooks = list(spec["hooks"])
        terminal = bool(spec["process"].get("terminal"))
        stdin = request.get("stdin", "")
        os.mkfifo(f"{bundle}/gate", 0o600)
        if not terminal:
            for name in ("stdout", "stderr", *(["stdin"] if stdin else [])):
                os.mkfifo(f"{bundle}/{name}", 0o600)
        process.output = output = Output(self.loop, request.get("log", ""))
        pids: str | None = "new"
        for namespace in spec["linux"]["namespaces"]:
            if namespace["type"] == "pid":
                pids = namespace.get("path") or "new"
                break
        else:
            pids = None
        process.private_pids = pids == "new"

        def reported(message: dict[str, Any] | None, fds: list[int]) -> None:
            if message and "hooks" in message:
                self.run_hooks(process, message["hooks"], lambda problem: self.reply(process, problem))
                return
            process.on_report = None
            if not message or "created" not in message:
                self.containers.pop(process.id, None)
                self.release(process)
                if process.oci:
                    self.helper_done()
                self.answer(client, number, message or {"error": "the container's process ended early"})
                return
            if fds:
                output.follow_terminal(fds[0])
            self.inherit(process, message)
            record = {
                "pid": process.pid,
                "start": start_time(process.pid),
                "cgroups": process.cgroups,
                "log": request.get("log", ""),
                "terminal": terminal,
                "stdin": stdin,
                "private_pids": process.private_pids,
                "oci": process.oci,
                "hooks": process.hooks,
            }
            write_json(f"{bundle}/state.json", record)
            self.answer(client, number, {"pid": process.pid, "user": message.get("user")}, fds)

        process.on_report = reported
        self.containers[process.id] = process
        try:
            if not terminal:
                output.follow_fifos(bundle)
                if stdin == "once":
                    output.keep_stdin(bundle)
            if process.oci:
                from pinnace.cri.engine import oci_runtime

                self.helpers += 1
                self.fork(process, lambda channel: oci_runtime.create(channel, bundle, spec, request), None)
            else:
                self.fork(process, lambda channel: launcher.container(channel, bundle, spec, request), pids)
        except OSError:
            self.containers.pop(process.id, None)
            self.release(process)
            raise

    def verb_start(self, client: Client, number: int, request: dict[str, Any], _fds: list[int]) -> None:
        """Open a created container's gate; answers when execve has happened."""
        process = self.find(request["id"])
        if process.oci:
            self.ask_runtime(client, number, process, request, "start")
            return

        def reported(message: dict[str, Any] | None, _fds: list[int]) -> None:
            process.on_report = None
            answer = message or {"started": time.time_ns()}
            if "error" in answer or "poststart" not in process.hooks:
                self.answer(client, number, answer)
                return
            # A failure is only logged, by runtimes that have a log.
            self.run_hooks(process, ["poststart"], lambda _: self.answer(client, number, answer))

        gate = os.open(f"{process.bundle}/gate", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.write(gate, b"0")
        os.close(gate)
        os.unlink(f"{process.bundle}/gate")
        if process.channel is None:
            reported(None, [])  # adopted: its channel went with the monitor that made it
        else:
            process.on_report = reported

    def ask_runtime(self, client: Client, number: int, process: Process, request: dict[str, Any], what: str) -> None:
        """Have a fork call the OCI runtime, and answer when it has."""
        from pinnace.cri.engine import oci_runtime

        helper = Process("helper", process.id, process.bundle)
        begun = time.time_ns()  # not later than the end of what it starts
        work: Any = getattr(oci_runtime, what)

        def reported(message: dict[str, Any] | None, _fds: list[int]) -> None:
            helper.on_report = None
            message = message or {"error": "the OCI runtime was not called to its end"}
            self.answer(client, number, {"error": message["error"]} if "error" in message else {"started": begun})

        helper.on_report = reported
        self.fork(helper, lambda channel: work(channel, process.bundle, request, process.oci), None)

    def run_hooks(self, process: Process, kinds: list[str], then: Callable[[str], None]) -> None:
        """Have a fork run hooks of a container; `then` is called with what went wrong, or with nothing."""
        from pinnace.cri.engine import hooks

        helper = Process("helper", process.id, process.bundle)
        spec, bundle, id_, pid = read_json(f"{process.bundle}/config.json"), process.bundle, process.id, process.pid

        def reported(message: dict[str, Any] | None, _fds: list[int]) -> None:
            helper.on_report = None
            then((message or {"error": "the hooks were not run to their end"}).get("error", ""))

        helper.on_report = reported
        self.fork(helper, lambda channel: hooks.on_the_machine(channel, kinds, spec, bundle, id_, pid), None)

    @staticmethod
    def reply(process: Process, problem: str) -> None:
        """Tell a fork that waits how its hooks went."""
        if process.channel is not None:
            with contextlib.suppress(OSError):
                process.channel.send(json.dumps({"error": problem}).encode())

    def inherit(self, process: Process, message: dict[str, Any]) -> None:
        """What a helper had an OCI runtime start is this process from now on."""
        if "pid" not in message:
            return
        self.by_pid.pop(process.pid, None)
        self.loop.unwatch(process.pidfd)
        os.close(process.pidfd)
        process.pid = message["pid"]
        try:
            process.pidfd = os.pidfd_open(process.pid)
        except OSError:
            process.pidfd = -1  # it has ended and was reaped
        status = self.strangers.pop(process.pid, None)
        self.helper_done()
        if status is None:
            self.by_pid[process.pid] = process
        else:
            self.loop.guard(functools.partial(self.ended, process, exit_code(status)))

    def helper_done(self) -> None:
        self.helpers -= 1
        if not self.helpers:
            self.strangers.clear()

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
            if process.oci:
                self.ask_runtime(client, number, process, request, "delete")
                return
            if "poststop" in process.hooks:
                process.pid = 0
                self.run_hooks(process, ["poststop"], lambda _: self.answer(client, number, {}))
                return
        self.answer(client, number, {})

    def verb_state(self, client: Client, number: int, request: dict[str, Any], _fds: list[int]) -> None:
        """Every container: pid (0 when exited) and exit; with `id`, one of them and its terminal."""
        if request.get("id"):
            process = self.find(request["id"])
            self.answer(client, number, self.describe(process), self.terminal(process))
            return
        found = {id_: self.describe(process) for id_, process in self.containers.items()}
        self.answer(client, number, {"containers": found})

    def verb_adopt(self, client: Client, number: int, request: dict[str, Any], fds: list[int]) -> None:
        """Take a terminal that the engine kept while no monitor ran."""
        process = self.containers.get(request["id"])
        if process and process.output and process.output.master < 0 and not process.exit and fds:
            process.output.follow_terminal(fds[0])
            fds = fds[1:]
        for fd in fds:
            os.close(fd)
        self.answer(client, number, {})

    def verb_reopen(self, client: Client, number: int, request: dict[str, Any], _fds: list[int]) -> None:
        process = self.find(request["id"])
        if process.output:
            process.output.reopen_log()
        self.answer(client, number, {})

    def verb_attach(self, client: Client, number: int, request: dict[str, Any], fds: list[int]) -> None:
        """Copy output to the descriptors given from now on, one for each of `streams`; the terminal comes back."""
        process = self.find(request["id"])
        if process.exit or process.output is None:
            raise RuntimeError("container is not running")
        for fd, stream in zip(fds, request["streams"], strict=True):
            process.output.attach(fd, stream)
        self.answer(client, number, {}, self.terminal(process))

    def verb_close_stdin(self, client: Client, number: int, request: dict[str, Any], _fds: list[int]) -> None:
        """The first client of a stdin_once container is done: let it read the end."""
        process = self.find(request["id"])
        if process.output:
            process.output.close_stdin()
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
                    self.answer(client, number, {"pid": message.get("pid") or process.pid}, masters)
                    self.inherit(process, message)
                else:
                    if container.oci:
                        self.helper_done()
                    self.answer(client, number, message or {"error": "the process ended early"})
            elif message:
                process.exit = message  # execve itself failed: the exit event carries the text
            for fd in masters:
                os.close(fd)

        process.on_report = reported
        request["cgroups"] = container.cgroups
        target = container.pidfd
        if container.oci:
            from pinnace.cri.engine import oci_runtime

            self.helpers += 1
            oci, bundle = container.oci, container.bundle
            self.fork(process, lambda channel: oci_runtime.executed(channel, bundle, request, oci, fds), None, keep=fds)
        else:
            self.fork(
                process,
                lambda channel: launcher.executed(channel, spec, request, os.dup(target), fds),
                container.pid,
                keep=[*fds, target],
            )
        for fd in fds:
            os.close(fd)

    def verb_exec_kill(self, client: Client, number: int, request: dict[str, Any], _fds: list[int]) -> None:
        """Kill an exec'd process, its process group and what it has started: not every runtime gives it a group."""
        for process in self.by_pid.values():
            if process.kind == "exec" and process.id == request["exec"]:
                for target in (-process.pid, process.pid, *descendants(process.pid)):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(target, request["signal"])
        self.answer(client, number, {})

    def find(self, id_: str) -> Process:
        process = self.containers.get(id_)
        if process is None:
            raise RuntimeError("container does not exist")
        return process

    @staticmethod
    def terminal(process: Process) -> list[int]:
        return [process.output.master] if process.output and process.output.master >= 0 else []

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
        self.loop.watch(ours.fileno(), lambda _: self.channel_ready(process))

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
            self.loop.unwatch(process.channel.fileno())
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
            if process is None and self.helpers:
                self.strangers[pid] = status
            if process:
                self.loop.guard(functools.partial(self.reaped, process, pid, exit_code(status)))

    def reaped(self, process: Process, pid: int, code: int) -> None:
        if process.channel is not None:
            self.channel_ready(process)  # what it said last
            if process.channel is not None:
                self.channel_ready(process)
        if process.pid == pid:  # and not a helper, whose process goes on as another
            self.ended(process, code)

    def ended(self, process: Process, code: int, unknown: bool = False) -> None:
        if process.kind == "exec":
            error = (process.exit or {}).get("error")
            self.broadcast({"event": "exec_exit", "exec": process.id, "code": code, "error": error})
        if process.kind == "sandbox":
            self.broadcast({"event": "sandbox_exit", "id": process.id})
        if process.kind != "container" or self.containers.get(process.id) is not process:
            self.release(process)
            return
        if not process.private_pids:
            kill_cgroup(process.cgroups, signal.SIGKILL)
        if process.output:
            process.output.finish()
        process.exit = {
            "code": code,
            "at": time.time_ns(),
            "oom": oom_kills(process.cgroups) > 0 and code != 0,
            "unknown": unknown,
        }
        with contextlib.suppress(OSError):  # a full disk: the engine is told all the same
            write_json(f"{process.bundle}/exit.json", process.exit)
        self.broadcast({"event": "exit", "id": process.id, **process.exit})

    def release(self, process: Process) -> None:
        if process.output:
            process.output.close()
        if process.pidfd >= 0:
            self.loop.unwatch(process.pidfd)
            os.close(process.pidfd)
            process.pidfd = -1

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
        process.oci = record.get("oci")
        process.hooks = record.get("hooks", [])
        process.output = Output(self.loop, record["log"])
        try:
            process.pidfd = os.pidfd_open(process.pid)
        except OSError:
            process.pidfd = -1
        alive = process.pidfd >= 0 and start_time(process.pid) == record["start"]
        if not record["terminal"] and os.path.exists(f"{process.bundle}/stdout"):
            process.output.follow_fifos(process.bundle)
        if not alive:
            self.ended(process, UNKNOWN_EXIT, unknown=True)
            return
        if record["stdin"] == "once":
            process.output.keep_stdin(process.bundle)
        self.loop.watch(process.pidfd, lambda _: self.adopted_ended(process))

    def adopted_ended(self, process: Process) -> None:
        """An adopted process is no child of ours: its zombie, or the kernel's memory of it, tells how it ended."""
        self.loop.unwatch(process.pidfd)
        deadline = time.monotonic() + 1
        status: int | None = None
        while status is None and time.monotonic() < deadline:
            fields = stat_fields(process.pid)
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
