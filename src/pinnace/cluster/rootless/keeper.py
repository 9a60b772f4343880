"""What stays outside: makes a profile's namespaces, maps its users, and makes them anew when their init is killed.

It holds the socket on which the machine reaches the API server: sockets stay in the network namespace they were opened
in, whoever accepts from them. It runs as long as the namespaces do and costs no CPU.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from pinnace.cluster.profile import Profile, from_directory
from pinnace.cluster.rootless import delegation, furniture, init, loopback, outward
from pinnace.cluster.rootless.identifiers import mapping
from pinnace.cluster.rootless.obstacles import look
from pinnace.cri.engine import _syscalls as sys_

BACKOFF = 1.0  # seconds between namespaces whose init does not last
_MESSAGE = 4096  # bytes


class StepError(Exception):
    """A step on the way into the namespaces fails: `step` is known to `obstacles.after`, the text says why."""

    def __init__(self, step: str, why: str) -> None:
        super().__init__(why)
        self.step = step


class Keeper:
    """Runs until the init of the namespaces has ended because nobody needs them any more."""

    def __init__(self, profile: Profile, listener: int, report: int) -> None:
        self._profile = profile
        self._listener = listener  # of the API server, on the machine's loopback; -1: for commands only
        self._report = report  # a pipe to who started us, who waits for one line
        self._path = os.environ["PATH"]
        self._cgroup: Path | None = None  # what was delegated to the namespaces
        self._carrier: subprocess.Popen[bytes] | None = None  # of packets to the outside

    def run(self) -> None:
        self._cgroup = delegation.claim(self._profile.cgroup_root.strip("/"))
        sys_.prctl(sys_.PR_SET_CHILD_SUBREAPER, 1)  # the init's parent makes the namespaces and ends
        while True:
            try:
                pid = self._make()
            except StepError as error:
                self._tell({"step": error.step, "why": str(error)})
                status = 1
            else:
                self._tell({})
                loopback.serve(self._profile, pid)
                status = os.waitpid(pid, 0)[1]
                self._clean()
            if status == 0 or not self._profile.supervisor_permit.exists():
                break
            time.sleep(BACKOFF)

    def _clean(self) -> None:
        """After the end of an init."""
        if self._carrier:
            self._carrier.wait()  # it ends with the init
        if self._cgroup:
            delegation.remove(self._cgroup)

    def _tell(self, fact: dict[str, str]) -> None:
        if self._report >= 0:
            with suppress(OSError):
                os.write(self._report, json.dumps(fact).encode() + b"\n")
            os.close(self._report)
            self._report = -1

    def _make(self) -> int:
        """New namespaces with a running init; its pid. Raises StepError."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lifeline = os.pipe()  # its second end stays with the init alone
        maker = os.fork()
        if maker == 0:
            near.close()
            os.close(lifeline[0])
            self._enter_new(far, lifeline[1])
        far.close()
        os.close(lifeline[1])
        try:
            return self._accompany(near, maker, lifeline[0])
        finally:
            near.close()
            os.close(lifeline[0])

    def _accompany(self, line: socket.socket, maker: int, lifeline: int) -> int:
        try:
            _hear(line)
            self._map_users(maker)
        except StepError:
            os.kill(maker, signal.SIGKILL)
            os.waitpid(maker, 0)
            raise
        line.send(b"{}")
        try:
            pid: int = _hear(line)["init"]
        finally:
            os.waitpid(maker, 0)
        slirp = outward.program(self._path)
        try:
            if slirp:
                self._carrier = outward.connect(slirp, pid, lifeline, self._profile.run_dir / "keeper.log")
            line.send(json.dumps({"way_out": bool(slirp), "keeper": os.getpid()}).encode())
            _hear(line)
        except (StepError, OSError) as error:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise error if isinstance(error, StepError) else StepError("outward", str(error)) from error
        return pid

    def _map_users(self, pid: int) -> None:
        machine = look(self._path)
        for program, own, ranges in (
            ("newuidmap", os.getuid(), machine.uids),
            ("newgidmap", os.getgid(), machine.gids),
        ):
            done = subprocess.run(
                [program, str(pid), *mapping(own, ranges)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise StepError("map", done.stderr.strip() or f"status {done.returncode}")

    # In the maker, which is neither outside nor inside.

    def _enter_new(self, line: socket.socket, lifeline: int) -> NoReturn:
        step = "users"
        try:
            sys_.unshare(sys_.CLONE_NEWUSER)
            line.send(b"{}")
            if not line.recv(_MESSAGE):
                os._exit(1)
            furniture.become_root()
            step = "namespaces"
            if self._cgroup:
                self._cgroup.mkdir(exist_ok=True)
                delegation.join(self._cgroup)
            sys_.unshare(furniture.NAMESPACES)
            pid = os.fork()
        except OSError as error:
            _fail(line, step, error.strerror or str(error))
        if pid:
            line.send(json.dumps({"init": pid}).encode())
            os._exit(0)
        try:
            told = json.loads(line.recv(_MESSAGE))
            first = init.Init(self._profile, self._listener, lifeline, told["keeper"])
            first.prepare(way_out=told["way_out"], cgroups=self._cgroup is not None)
        except furniture.FurnishError as error:
            _fail(line, error.step, str(error))
        except BaseException as error:
            _fail(line, "process 1", f"{type(error).__name__}: {error}")
        line.send(b"{}")
        line.close()
        os._exit(first.run())


def _fail(line: socket.socket, step: str, why: str) -> NoReturn:
    line.send(json.dumps({"step": step, "why": why}).encode())
    os._exit(1)


def _hear(line: socket.socket) -> dict[str, Any]:
    """The other side's next message. Raises StepError when that is what it is about, or when it has ended."""
    data = line.recv(_MESSAGE)
    if not data:
        raise StepError("namespaces", "their first process ended early")
    message: dict[str, Any] = json.loads(data)
    if "step" in message:
        raise StepError(message["step"], message["why"])
    return message


def main() -> None:
    profile = from_directory(Path(sys.argv[1]))
    log = os.open(profile.run_dir / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.chdir("/")
    listener, report = int(sys.argv[2]), int(sys.argv[3])
    for descriptor in (listener, report):
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)
    Keeper(profile, listener, report).run()


if __name__ == "__main__":
    main()
