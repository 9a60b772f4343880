"""Cgroups that an ordinary user may manage: those that systemd has delegated, in the unified hierarchy alone.

The keeper claims a part of them for the namespaces, in which it is all that there is; limits of pods then hold. See
"Delegation" in https://docs.kernel.org/admin-guide/cgroup-v2.html and https://systemd.io/CGROUP_DELEGATION/.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
NEEDED = frozenset({"cpu", "memory", "pids"})  # controllers without which limits are not worth the trouble
_WELCOME = NEEDED | {"cpuset", "hugetlb"}
_MARK = "user.delegate"  # the attribute by which systemd says that a cgroup is its user's to divide
_OUTSIDE = "pinnace-outside"  # where processes go that were in what is divided: inner cgroups may have none


def own(memberships: str) -> str:
    """This process's cgroup of the unified hierarchy, from its mount on, by /proc/self/cgroup; else nothing."""
    return next((line[4:] for line in memberships.splitlines() if line.startswith("0::/")), "")


def claim(name: str, mount: Path = MOUNT, memberships: Path = Path("/proc/self/cgroup")) -> Path | None:
    """A cgroup of that name with the controllers below what was delegated to us; None where nothing was."""
    path = own(memberships.read_text())
    directory = mount / path
    try:
        if not path or os.getxattr(directory, _MARK) != b"1":
            return None
        offered = _words(directory / "cgroup.controllers")
        if not offered >= NEEDED:
            return None
        if not _words(directory / "cgroup.subtree_control") >= NEEDED:
            _move_out(directory)
            distribute(directory)
        claimed = directory / name
        claimed.mkdir(exist_ok=True)
    except OSError:
        return None
    return claimed


def distribute(directory: Path) -> None:
    """Have the controllers in the cgroups below one. Raises OSError where a needed one cannot be."""
    control = directory / "cgroup.subtree_control"
    for controller in sorted(_words(directory / "cgroup.controllers") & _WELCOME):
        try:
            control.write_text(f"+{controller}")
        except OSError:
            if controller in NEEDED:
                raise


def join(directory: Path) -> None:
    """Put this process there. Raises OSError."""
    (directory / "cgroup.procs").write_text("0")


def remove(directory: Path) -> None:
    """Remove a cgroup in which nothing runs any more, with all below."""
    for where, _, _ in os.walk(directory, topdown=False):
        with suppress(OSError):
            Path(where).rmdir()


def _move_out(directory: Path) -> None:
    outside = directory / _OUTSIDE
    outside.mkdir(exist_ok=True)
    for pid in _words(directory / "cgroup.procs"):
        with suppress(ProcessLookupError):
            (outside / "cgroup.procs").write_text(pid)


def _words(file: Path) -> frozenset[str]:
    return frozenset(file.read_text().split())
