"""The kernel as watchdog: when the last process of a profile's servers is gone, the kernel starts the supervisor again.

A cgroup v1 hierarchy without controllers, mounted for the profile alone, holds the supervisor and the servers; its
release agent is a script that starts the supervisor (https://docs.kernel.org/admin-guide/cgroup-v1/cgroups.html, §1.4).
So even `kill -9` of everything at once brings the cluster back, with nothing of ours left running to see to it.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import sys
import time
from pathlib import Path

from pinnace.cluster.profile import Profile

_MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_MNT_DETACH = 2
GRACE_PERIOD = 0.04  # seconds that the kernel takes to free a removed group, as a rule
REMOVAL_TIMEOUT = 3.0  # seconds; a zombie that nobody reaps would hold the group for longer than is worth waiting
_libc = ctypes.CDLL(None, use_errno=True)


def arm(profile: Profile) -> bool:
    """Put this process under guard; False where the kernel does not offer it (then only a new `start` helps)."""
    root = _root(profile)
    if not root.is_mount() and not _mount(root, f"pinnace-{profile.id}"):
        return False
    agent = _executable_place(profile) / "release-agent"
    command = shlex.join([sys.executable, "-m", "pinnace.cluster.supervisor", str(profile.directory)])
    environment = " ".join(f"{name}={shlex.quote(value)}" for name, value in _environment().items())
    agent.write_text(f"#!/bin/sh\nexec env {environment} {command} </dev/null >/dev/null 2>&1\n")
    agent.chmod(0o700)
    try:
        (root / "release_agent").write_text(str(agent))
        servers = root / "servers"
        servers.mkdir(exist_ok=True)
        (servers / "notify_on_release").write_text("1")
        (servers / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        return False
    return True


def disarm(profile: Profile) -> None:
    """Let the servers end for good."""
    try:
        (_root(profile) / "servers" / "notify_on_release").write_text("0")
    except OSError:
        pass  # never armed


def release(profile: Profile, pid: int) -> None:
    """Take a process out of the guarded group: it outlives the servers."""
    try:
        (_root(profile) / "cgroup.procs").write_text(str(pid))
    except OSError:
        pass  # never armed, or the process is gone


def processes(profile: Profile) -> list[int]:
    """The pids of the servers and of their supervisor."""
    try:
        return [int(pid) for pid in (_root(profile) / "servers" / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def remove(profile: Profile) -> None:
    """Unmount the hierarchy and see it go; its group must be empty.

    The kernel frees a removed group a moment later (an RCU grace period) and tells nobody. A hierarchy unmounted
    before that stays, one unmounted after it goes as slowly, and one mounted again meanwhile does not go.
    """
    root = _root(profile)
    if not root.is_mount():
        return
    name = f"pinnace-{profile.id}"
    deadline = time.monotonic() + REMOVAL_TIMEOUT
    while True:
        try:
            (root / "servers").rmdir()
        except OSError:
            pass  # never armed, removed in the round before, or its last process is just going
        time.sleep(GRACE_PERIOD)
        _libc.umount2(os.fsencode(root), _MNT_DETACH)
        unmounted = time.monotonic()
        while _exists(name) and time.monotonic() < unmounted + 4 * GRACE_PERIOD:
            time.sleep(0.005)
        if not _exists(name) or time.monotonic() > deadline:
            break
        _mount(root, name)
    root.rmdir()


def _executable_place(profile: Profile) -> Path:
    """A directory whose scripts can be run: distributions mount /run without, others may mount homes so."""
    for place in (profile.run_dir, profile.directory):
        if not os.statvfs(place).f_flag & os.ST_NOEXEC:
            return place
    return profile.run_dir


def _exists(name: str) -> bool:
    """Whether the kernel knows a hierarchy of this name."""
    return f":name={name}:" in Path("/proc/self/cgroup").read_text()


def _root(profile: Profile) -> Path:
    return profile.run_dir / "guard"


def _mount(root: Path, name: str) -> bool:
    root.mkdir(parents=True, exist_ok=True)
    options = f"none,name={name}".encode()
    flags = _MS_NOSUID_NODEV_NOEXEC
    failed: int = _libc.mount(name.encode(), os.fsencode(root), b"cgroup", flags, options)
    return failed == 0


def _environment() -> dict[str, str]:
    """The kernel starts the agent with next to no environment: hand on what the supervisor runs with."""
    kept = ("PATH", "HOME", "PYTHONPATH", "LANG", "PINNACE_HOME", "PINNACE_VERBOSITY")
    return {name: os.environ[name] for name in kept if name in os.environ}
