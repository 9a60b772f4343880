"""How a command of an ordinary user comes into its profile's namespaces: its work is done by a fork inside.

The namespaces are made where they are not there, and go after the last guest where no supervisor runs. Whom to follow
is told by the kernel: the process that listens at `namespaces.sock` (SO_PEERCRED of unix(7)).
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pinnace.cluster import preflight, turns
from pinnace.cluster.process import VERBOSITY, die_with_parent
from pinnace.cluster.profile import ROOTLESS, Profile
from pinnace.cluster.reasons import START_FAILED, ClusterError
from pinnace.cluster.rootless import loopback, obstacles
from pinnace.cluster.rootless.furniture import NAMESPACES, become_root
from pinnace.cri.engine import _syscalls as sys_
from pinnace.cri.programs import search_path

_PEER = struct.Struct("iII")  # struct ucred: pid, uid, gid
_SOCKET_PATH = 107  # bytes
_BACKLOG = 1024  # connections that wait for the API server
_PATIENCE = 60.0  # seconds until namespaces without a listener must have gone
_FAREWELL = 5.0  # seconds that we wait for the namespaces to go


class Guest:
    """A connection to the init of a profile's namespaces, which run as long as it is open."""

    def __init__(self, profile: Profile) -> None:
        """Raises OSError where there is none."""
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(profile.namespaces_socket))
            greeting = self._socket.recv(4096)
            if not greeting:
                raise ConnectionResetError  # it was just leaving
            peer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            self.init = os.pidfd_open(_PEER.unpack(peer)[0])
        except OSError:
            self._socket.close()
            raise
        told = json.loads(greeting)
        self.has_listener: bool = told["listener"]
        try:
            self.last = os.pidfd_open(told["keeper"])  # who ends when all the rest has
        except ProcessLookupError:
            self.last = self.init

    def enter(self) -> None:
        """Join the namespaces; children of this process are inside altogether."""
        here = Path.cwd()
        sys_.setns(self.init, sys_.CLONE_NEWUSER | NAMESPACES)
        become_root()
        os.environ[ROOTLESS] = "1"
        with suppress(OSError):
            os.chdir(here)

    def leave(self, *, wait: bool) -> None:
        """Close the connection; with `wait`, stay until the namespaces are gone, unless others need them."""
        self._socket.close()
        if wait:
            poller = select.poll()
            poller.register(self.last, select.POLLIN)
            poller.poll(_FAREWELL * 1000)
        for descriptor in {self.init, self.last}:
            os.close(descriptor)


def inside(profile: Profile, work: Callable[[], None]) -> None:
    """Do a command's work as root of the profile's namespaces; SystemExit with its status where that is not 0."""
    preflight.require_owner(profile)
    if not profile.directory.exists():
        os.environ[ROOTLESS] = "1"
        with _leaving_no_home(profile):
            work()  # there is nothing that belongs to others than the user, and nothing runs
        return
    with turns.entering(profile):
        guest = _visit(profile) or _make(profile, None, 0)
    _work(profile, guest, work)


def inside_to_start(profile: Profile, port: int | None, verbosity: int, work: Callable[[int | None], None]) -> None:
    """The same for a command that starts the cluster; `work` is told the API server's port if that was chosen here."""
    preflight.require_owner(profile)
    preflight.require_writable_home(profile.home)
    chosen: int | None = None
    deadline = time.monotonic() + _PATIENCE
    while True:
        with _leaving_no_home(profile), turns.entering(profile):
            guest = _visit(profile)
            if guest is None:
                chosen = preflight.choose_port(profile, profile.load().api_server_port if profile.exists() else port)
                guest = _make(profile, chosen, verbosity)
        if guest.has_listener:
            break
        guest.leave(wait=True)  # a command's that works on a stopped cluster; it will be done
        if time.monotonic() > deadline:
            raise ClusterError(START_FAILED, "Another command keeps the cluster from being started", "Try again later")
    _work(profile, guest, lambda: work(chosen))


@contextmanager
def _leaving_no_home(profile: Profile) -> Iterator[None]:
    """Remove directories that were made for nothing."""
    try:
        yield
    finally:
        for directory in (profile.run_dir, profile.run_dir.parent, profile.home):
            with suppress(OSError):
                directory.rmdir()  # others live there


def _visit(profile: Profile) -> Guest | None:
    try:
        return Guest(profile)
    except OSError:
        return None


def _make(profile: Profile, port: int | None, verbosity: int) -> Guest:
    """New namespaces, with a listener on the machine's loopback where there is a port for it. Raises ClusterError."""
    path = search_path()
    if (obstacle := obstacles.before(obstacles.look(path))) is not None:
        raise obstacle
    if len(os.fsencode(profile.control_socket)) + len("notify-control-plane") > _SOCKET_PATH:
        raise ClusterError(
            START_FAILED, f"The path of {profile.home} is too long for sockets", "Set PINNACE_HOME to a shorter one"
        )
    profile.run_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    profile.supervisor_permit.unlink(missing_ok=True)  # of a machine that was switched off
    environment = os.environ | {ROOTLESS: "1", "PATH": path, VERBOSITY: str(verbosity)}
    report, told = os.pipe()
    passed = [told]
    with ExitStack() as opened:
        number = -1
        if port is not None:
            number = opened.enter_context(loopback.listen(port, _BACKLOG)).fileno()
            passed.append(number)
        subprocess.Popen(
            [sys.executable, "-m", "pinnace.cluster.rootless.keeper", str(profile.directory), str(number), str(told)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=environment,
            pass_fds=passed,
        )
    os.close(told)
    with os.fdopen(report) as answers:
        answer = answers.readline()
    if answer == "{}\n":
        return Guest(profile)
    if answer:
        failed = json.loads(answer)
        error = obstacles.after(failed["step"], failed["why"], obstacles.look(path))
    else:
        error = ClusterError(START_FAILED, "The keeper of the namespaces ended at once", _keepers_words(profile))
    shutil.rmtree(profile.run_dir, ignore_errors=True)
    raise error


def _keepers_words(profile: Profile) -> str:
    try:
        return (profile.run_dir / "keeper.log").read_text(errors="replace").splitlines()[-1]
    except (OSError, IndexError):
        return ""


def _work(profile: Profile, guest: Guest, work: Callable[[], None]) -> None:
    """Have a child enter and a child of that, which is in the PID namespace too, work; wait for them."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _end_as(lambda: _enter_and_work(guest, work))
    code = _wait_for(child)
    guest.leave(wait=not profile.supervisor_permit.exists())
    if code:
        raise SystemExit(code)


def _enter_and_work(guest: Guest, work: Callable[[], None]) -> None:
    die_with_parent()
    try:
        guest.enter()
    except OSError as error:
        print(f"The cluster's namespaces cannot be entered: {error.strerror}", file=sys.stderr)  # noqa: T201
        raise SystemExit(START_FAILED.exit_code) from None
    child = os.fork()
    if child:
        raise SystemExit(_wait_for(child))
    sys_.prctl(sys_.PR_SET_PDEATHSIG, signal.SIGTERM)
    work()


def _wait_for(pid: int) -> int:
    """A child's exit code, as shells have it. Ctrl-C is for the child, which gets it as well."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def _end_as(work: Callable[[], None]) -> None:
    """End this fork as a program ends that does `work`; never returns."""
    code = 1
    try:
        work()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
