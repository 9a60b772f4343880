"""Who may act on a profile: commands take turns, and one supervisor at a time runs, if any shall.

New profiles take turns on the machine, too, so that no two choose the same networks. All of these are locks on files
of `/run/pinnace`, so the kernel lets go of them when their holder dies. A supervisor needs more than a lock: the kernel
starts one when the last server dies (`guard.py`) and tells nobody, so it may begin while its profile is being stopped
or deleted. It runs only while it holds the lock on a permit, a file that is there as long as the profile shall run;
whoever takes the permit away then learns from the lock which process is still to be ended.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pinnace.cluster.profile import Profile

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of fcntl(2) on 64-bit Linux: type, whence, start, length, pid


@contextmanager
def turn(profile: Profile) -> Iterator[None]:
    """Wait until no other command starts, stops or deletes this profile, and keep the others waiting."""
    with _held(profile.run_dir.parent / f"{profile.id}.lock"):
        yield


@contextmanager
def choosing_networks(profile: Profile) -> Iterator[None]:
    """Wait until no other new profile of this machine, of whatever home, looks for networks that nobody has."""
    with _held(profile.run_dir.parent / "networks.lock"):
        yield


@contextmanager
def entering(profile: Profile) -> Iterator[None]:
    """Wait until no other command of an ordinary user makes the profile's namespaces or looks whether there are any."""
    with _held(profile.run_dir.parent / f"{profile.id}.entering"):
        yield


@contextmanager
def _held(file: Path) -> Iterator[None]:
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        except (FileNotFoundError, FileExistsError):
            continue  # who was here before has just removed the directory
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)  # who was here before has removed the file: those who come now lock another one
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        try:
            file.parent.rmdir()
        except OSError:
            pass  # others live there
        os.close(descriptor)


def allow_supervisor(profile: Profile) -> None:
    """Let supervisors of this profile run, until `Permit.withdraw`."""
    profile.run_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    profile.supervisor_permit.touch(mode=0o600)


def become_supervisor(profile: Profile) -> bool:
    """Be the one supervisor for as long as this process lives; False when there is one, or when none shall be."""
    try:
        descriptor = os.open(profile.supervisor_permit, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(descriptor).st_nlink > 0


class WithdrawnPermit:
    """No supervisor begins after this is made; `holder` tells who still runs."""

    def __init__(self, profile: Profile) -> None:
        try:
            self._descriptor = os.open(profile.supervisor_permit, os.O_RDWR)
        except FileNotFoundError:
            self._descriptor = -1
            return
        profile.supervisor_permit.unlink(missing_ok=True)

    def holder(self) -> int | None:
        """The pid of the supervisor that runs."""
        if self._descriptor < 0:
            return None
        wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, *_, pid = _FLOCK.unpack(fcntl.fcntl(self._descriptor, fcntl.F_GETLK, wanted))
        return None if kind == fcntl.F_UNLCK else pid

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
