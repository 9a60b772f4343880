"""What a cluster finds in its user's namespaces, made by their first process: mounts and a loopback.

Everything here is seen by the namespaces alone and goes with them (mount_namespaces(7), user_namespaces(7)).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pinnace.cluster.profile import Profile
from pinnace.cluster.rootless import delegation, outward
from pinnace.cri.engine import _syscalls as sys_
from pinnace.cri.engine._netlink import Netlink

NAMESPACES = (
    sys_.CLONE_NEWNS
    | sys_.CLONE_NEWNET
    | sys_.CLONE_NEWPID
    | sys_.CLONE_NEWIPC
    | sys_.CLONE_NEWUTS
    | sys_.CLONE_NEWCGROUP
)
"""Those of a cluster beside the user namespace, which owns them."""
_GUARDED = 2 | 4 | 8  # MS_NOSUID, MS_NODEV, MS_NOEXEC
_LOOPBACK = 1  # the index that this link has in every network


class FurnishError(Exception):
    """One thing cannot be had; `step` is known to `obstacles.after`."""

    def __init__(self, step: str, why: str) -> None:
        super().__init__(why)
        self.step = step


def become_root() -> None:
    """Be root where the users are mapped, with no groups of the outside, and let our user look at this process."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    sys_.prctl(sys_.PR_SET_DUMPABLE, 1)


def furnish(profile: Profile, *, way_out: bool, cgroups: bool) -> None:
    """Mount what root finds on a machine. Raises FurnishError."""
    with _step("mounts"):
        sys_.mount(None, "/", None, sys_.MS_SLAVE | sys_.MS_REC)
    with _step("/proc"):
        sys_.mount("proc", "/proc", "proc", _GUARDED)
    with _step("/sys"):  # that of the new network
        sys_.mount("sysfs", "/sys", "sysfs", _GUARDED)
    with _step("/sys/fs/cgroup"):
        _mount_cgroups(delegated=cgroups)
    with _step("the engine's state"):
        # It is about namespaces and processes, which an end of process 1 takes away at once: so it goes with them.
        state = profile.run_dir / "engine"
        state.mkdir(mode=0o711, exist_ok=True)
        sys_.mount("tmpfs", str(state), "tmpfs", _GUARDED, "mode=711")
    if way_out:
        with _step("/etc/resolv.conf"):
            _ask_names_of(outward.NAMESERVER, profile.run_dir / "resolv.conf")
    with _step("overlay"):
        _try_overlay(profile.run_dir / "overlay")
    with _step("the network"), Netlink() as link:
        link.set_up(_LOOPBACK)


def unmount(profile: Profile) -> None:
    """What is in the way of removing the profile's files."""
    with suppress(OSError):
        sys_.umount(str(profile.run_dir / "engine"), sys_.MNT_DETACH)


def _mount_cgroups(*, delegated: bool) -> None:
    """Those that we have, or an empty directory: whoever looks for cgroups sees that there are none."""
    mount = delegation.MOUNT
    if not delegated:
        sys_.mount("tmpfs", str(mount), "tmpfs", _GUARDED | sys_.MS_RDONLY, "size=0k,mode=755")
        return
    sys_.mount("cgroup2", str(mount), "cgroup2", _GUARDED)
    servers = mount / "servers"
    servers.mkdir(exist_ok=True)
    delegation.join(servers)  # what has cgroups below it may have no processes
    delegation.distribute(mount)


@contextmanager
def _step(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FurnishError(name, error.strerror or str(error)) from error


def _ask_names_of(server: str, file: Path) -> None:
    """Have resolvers ask `server`, and search what they searched before."""
    known = Path("/etc/resolv.conf")
    if not known.exists():
        return
    kept = [line for line in known.read_text().splitlines() if line.split()[:1] in (["search"], ["domain"])]
    file.write_text("\n".join([*kept, f"nameserver {server}", ""]))
    sys_.mount(str(file), str(known), None, sys_.MS_BIND)


def _try_overlay(directory: Path) -> None:
    """A mount as containers have it, on the file system that holds the profile."""
    layers = [directory / name for name in ("lower", "upper", "work", "merged")]
    for layer in layers:
        layer.mkdir(parents=True, exist_ok=True)
    lower, upper, work, merged = layers
    try:
        options = f"userxattr,lowerdir={lower},upperdir={upper},workdir={work}"
        sys_.mount("overlay", str(merged), "overlay", 0, options)
        sys_.umount(str(merged))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
