"""The supervisor: starts a profile's servers, starts them again when they end, and tells whoever asks how they are.

It imports next to nothing and waits on descriptors alone, so that it costs a few megabytes and no CPU. It keeps the
API server's listening sockets open: while the server restarts, clients wait in the backlog and are not refused. Who
connects to `control.sock` gets a JSON line for each server and one for each change.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pinnace.cluster import guard, process, turns
from pinnace.cluster.profile import CONTAINERD, Profile, from_directory

if TYPE_CHECKING:
    from collections.abc import Callable

COMPONENTS = {
    "containerd": "pinnace.cluster.containerd",  # only where it is the profile's container runtime
    "control-plane": "pinnace.cluster.controlplane",
    "node": "pinnace.cluster.node",
    "hollow": "pinnace.cluster.hollow",  # only while the profile has hollow nodes: SIGHUP says that it has, or not
}
EXTRA_CONFIG = "pinnace.cli.extra_config"  # the program that runs one of these with what a profile says beside
CONFIGURABLE = ("control-plane", "node")
NOT_NEEDED = 3  # exit code
STOP_ORDER = ("hollow", "node", "control-plane", "containerd")
FIRST_BACKOFF, MAX_BACKOFF = 0.1, 10.0  # seconds
STEADY_AFTER = 30.0  # seconds of life that make a crash a first one again
STOP_TIMEOUT = 20.0
LOG_LIMIT = 20 << 20  # bytes of a log before it is set aside
LOG_CHECK_INTERVAL = 600.0
IP_FREEBIND = 15


class Component:
    """One server: its process, or the moment at which the next one starts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.pidfd = -1
        self.state = "stopped"  # stopped, starting, ready, backoff
        self.started_at = 0.0
        self.restart_at = 0.0
        self.backoff = FIRST_BACKOFF
        self.restarts = 0
        self.exit_code: int | None = None

    def describe(self) -> dict[str, object]:
        pid = self.process.pid if self.process else None
        return {
            "component": self.name,
            "state": self.state,
            "pid": pid,
            "restarts": self.restarts,
            "exitCode": self.exit_code,
        }


class Supervisor:
    """Runs until SIGTERM."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._config = profile.load()
        self._selector = selectors.DefaultSelector()
        self._components = [Component(name) for name in COMPONENTS]
        self._watchers: list[socket.socket] = []
        self._listeners: list[socket.socket] = []
        self._stopping = False
        self._asked = False  # by SIGHUP, to look which components there shall be
        self._next_log_check = time.monotonic() + LOG_CHECK_INTERVAL

    def run(self) -> None:
        self._profile.run_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._profile.logs_dir.mkdir(parents=True, exist_ok=True)
        guard.arm(self._profile)
        self._catch_signals()
        self._bind()
        self._listen_for_watchers()
        self._start_wanted()
        while not self._stopping:
            self._wait()
            if self._asked:
                self._asked = False
                self._start_wanted()
        self._stop_all()

    # Waiting

    def _wait(self) -> None:
        now = time.monotonic()
        due = [component.restart_at for component in self._components if component.state == "backoff"]
        deadline = min([*due, self._next_log_check])
        for key, _ in self._selector.select(max(0.0, deadline - now)):
            handle: Callable[[], None] = key.data
            handle()
        now = time.monotonic()
        for component in self._components:
            if component.state == "backoff" and component.restart_at <= now and not self._stopping:
                component.restarts += 1
                self._start(component)
        if self._next_log_check <= now:
            self._next_log_check = now + LOG_CHECK_INTERVAL
            self._rotate_logs()

    def _catch_signals(self) -> None:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "_stopping", True))
        signal.signal(signal.SIGHUP, lambda *_: setattr(self, "_asked", True))
        self._wakeup = (reader, writer)
        self._selector.register(reader, selectors.EVENT_READ, lambda: reader.recv(64) and None)

    # Servers

    def _bind(self) -> None:
        self._listeners += process.inherited_sockets()  # from the init of an ordinary user's namespaces
        os.environ.pop(process.LISTEN_FDS, None)
        port = self._config.api_server_port
        for host in ("127.0.0.1", self._config.node_ip):
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # The node's address comes up with the node's own server: bind it before it exists.
            listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
            listener.bind((host, port))
            listener.listen(1024)
            self._listeners.append(listener)

    def _start_wanted(self) -> None:
        """Start what shall run and does not, end what shall not and does."""
        for component in self._components:
            wanted = self._is_wanted(component)
            if wanted and component.state == "stopped":
                self._start(component)
            elif not wanted and component.state == "backoff":
                component.state = "stopped"
                self._tell(component)
            elif not wanted and component.process is not None:
                component.process.terminate()

    def _is_wanted(self, component: Component) -> bool:
        if component.name == "containerd":
            return self._config.container_runtime == CONTAINERD
        return component.name != "hollow" or self._profile.hollow_file.exists()

    def _program(self, component: Component) -> list[str]:
        configured = [EXTRA_CONFIG] if self._config.extra_config and component.name in CONFIGURABLE else []
        return [*configured, COMPONENTS[component.name]]

    def _start(self, component: Component) -> None:
        notify_path = self._profile.run_dir / f"notify-{component.name}.sock"
        notify_path.unlink(missing_ok=True)
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.setblocking(False)
        receiver.bind(str(notify_path))
        environment = os.environ | {"NOTIFY_SOCKET": str(notify_path), "PYTHONUNBUFFERED": "1"}
        passed: tuple[int, ...] = ()
        if component.name == "control-plane":
            passed = tuple(listener.fileno() for listener in self._listeners)
            environment[process.LISTEN_FDS] = ",".join(map(str, passed))
        with self._log_file(component.name).open("ab") as log:
            component.process = subprocess.Popen(
                [sys.executable, "-m", *self._program(component), str(self._profile.directory)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=passed,
            )
        component.pidfd = os.pidfd_open(component.process.pid)
        component.started_at = time.monotonic()
        component.state = "starting"
        self._selector.register(receiver, selectors.EVENT_READ, lambda: self._notified(component, receiver))
        self._selector.register(component.pidfd, selectors.EVENT_READ, lambda: self._exited(component, receiver))
        self._tell(component)

    def _notified(self, component: Component, receiver: socket.socket) -> None:
        with suppress(BlockingIOError):
            while message := receiver.recv(4096):
                if b"READY=1" in message:
                    component.state = "ready"
                    self._tell(component)

    def _exited(self, component: Component, receiver: socket.socket) -> None:
        self._notified(component, receiver)
        self._selector.unregister(component.pidfd)
        self._selector.unregister(receiver)
        os.close(component.pidfd)
        receiver.close()
        assert component.process is not None
        component.exit_code = component.process.wait()
        component.process = None
        now = time.monotonic()
        if now - component.started_at > STEADY_AFTER:
            component.backoff = FIRST_BACKOFF
        component.state = "stopped" if self._stopping or not self._is_wanted(component) else "backoff"
        component.restart_at = now + component.backoff
        component.backoff = min(component.backoff * 2, MAX_BACKOFF)
        self._tell(component)

    def _stop_all(self) -> None:
        guard.disarm(self._profile)
        for component in sorted(self._components, key=lambda component: STOP_ORDER.index(component.name)):
            if component.process is None:
                continue
            component.process.terminate()
            try:
                component.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                component.process.kill()
                component.process.wait()
            component.state, component.process = "stopped", None
            self._tell(component)
        self._profile.control_socket.unlink(missing_ok=True)

    # Watchers

    def _listen_for_watchers(self) -> None:
        self._profile.control_socket.unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(self._profile.control_socket))
        self._profile.control_socket.chmod(0o600)
        server.listen(16)
        server.setblocking(False)
        self._selector.register(server, selectors.EVENT_READ, lambda: self._welcome(server))

    def _welcome(self, server: socket.socket) -> None:
        with suppress(BlockingIOError):
            watcher, _ = server.accept()
            watcher.setblocking(False)
            self._watchers.append(watcher)
            # A watcher sends nothing: readable means that it has left.
            self._selector.register(watcher, selectors.EVENT_READ, lambda: self._farewell(watcher))
            self._send(watcher, {"supervisor": os.getpid()})
            for component in self._components:
                self._send(watcher, component.describe())

    def _farewell(self, watcher: socket.socket) -> None:
        if watcher not in self._watchers:
            return  # it was gone already when it was last sent something
        self._selector.unregister(watcher)
        self._watchers.remove(watcher)
        watcher.close()

    def _tell(self, component: Component) -> None:
        for watcher in list(self._watchers):
            self._send(watcher, component.describe())

    def _send(self, watcher: socket.socket, fact: dict[str, object]) -> None:
        try:
            watcher.send(json.dumps(fact).encode() + b"\n")
        except OSError:
            self._farewell(watcher)

    # Logs

    def _log_file(self, name: str) -> Path:
        return self._profile.logs_dir / f"{name}.log"

    def _rotate_logs(self) -> None:
        """Copy and truncate: the servers hold the file open in append mode, so they go on at its new end."""
        for name in COMPONENTS:
            file = self._log_file(name)
            with suppress(OSError):
                if file.stat().st_size > LOG_LIMIT:
                    file.with_suffix(".log.1").write_bytes(file.read_bytes())
                    os.truncate(file, 0)


def main() -> None:
    profile = from_directory(Path(sys.argv[1]))
    if not turns.become_supervisor(profile) or not profile.exists():
        raise SystemExit(NOT_NEEDED)  # another one runs, or the profile was stopped while the kernel was starting us
    profile.logs_dir.mkdir(parents=True, exist_ok=True)
    log = os.open(profile.logs_dir / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir("/")
    try:
        Supervisor(profile).run()
    except Exception:
        traceback.print_exc()
        # The guard starts the next one at once: a lasting cause (a stolen port) must not spin.
        time.sleep(MAX_BACKOFF)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
