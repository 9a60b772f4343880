"""Why a machine does not let its users have clusters, and what its administrator can do about it: one line each.

The judgement is pure; `look` collects what it judges by. What the kernel's switches do is in user_namespaces(7), in
Debian's and in Ubuntu's notes about unprivileged user namespaces.
"""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from pinnace.cluster.reasons import NEEDS_ROOT, ClusterError
from pinnace.cluster.rootless.identifiers import ENOUGH, Range, subordinate

_OR_SUDO = ", or run the command again with sudo"
_SWITCHES = {
    "kernel.unprivileged_userns_clone": "1",
    "user.max_user_namespaces": "28633",
    "kernel.apparmor_restrict_unprivileged_userns": "0",
}
"""The kernel's parameters that forbid user namespaces, with a value that permits them."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What an ordinary user finds."""

    user: str
    uids: tuple[Range, ...]  # subordinate
    gids: tuple[Range, ...]
    has_newuidmap: bool
    switches: dict[str, int]  # kernel parameters; absent ones are not there
    kernel: str = ""  # its release


def look(path: str) -> Machine:
    """The machine as it is; programs are looked for in `path`."""
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return Machine(
        user=user,
        uids=tuple(subordinate(_read("/etc/subuid"), user, uid)),
        gids=tuple(subordinate(_read("/etc/subgid"), user, uid)),
        has_newuidmap=all(shutil.which(program, path=path) for program in ("newuidmap", "newgidmap")),
        switches={name: value for name in _SWITCHES if (value := _parameter(name)) is not None},
        kernel=os.uname().release,
    )


def before(machine: Machine) -> ClusterError | None:
    """What is known to be in the way before anything is tried."""
    for name, forbids in (("user.max_user_namespaces", 0), ("kernel.unprivileged_userns_clone", 0)):
        if machine.switches.get(name) == forbids:
            return _forbidden(name)
    if not machine.has_newuidmap:
        return _error("newuidmap was not found", "Install it: sudo apt-get install uidmap")
    for kind, ranges in (("user", machine.uids), ("group", machine.gids)):
        if sum(one.count for one in ranges) < ENOUGH:
            return _error(
                f"{machine.user} has no {ENOUGH} subordinate {kind} ids",
                "Give a range that nobody else has: "
                f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {machine.user}",
            )
    return None


def after(step: str, why: str, machine: Machine) -> ClusterError:
    """What it was, when a step failed for all that."""
    if step == "overlay":
        return _error(
            f"Linux {machine.kernel} or the cluster's file system has no overlayfs for ordinary users ({why})",
            "Use Linux 5.11 or newer and a PINNACE_HOME on a local disk",
        )
    if step == "map":
        return _error(f"newuidmap refuses: {why}", "See /etc/subuid and /etc/subgid")
    if step == "outward":
        return _error(f"slirp4netns fails: {why}", "Remove it to go on without a way out of the cluster")
    if machine.switches.get("kernel.apparmor_restrict_unprivileged_userns", 0):
        return _forbidden("kernel.apparmor_restrict_unprivileged_userns")
    if step == "users":
        return _error(f"user namespaces are forbidden here ({why})", "Run the command again with sudo")
    return _error(f"{step} cannot be had in a user namespace here ({why})", "Run the command again with sudo")


def _forbidden(parameter: str) -> ClusterError:
    return _error(
        f"this machine forbids user namespaces ({parameter})",
        f"Permit them: sudo sysctl -w {parameter}={_SWITCHES[parameter]}{_OR_SUDO}",
    )


def _error(what: str, advice: str) -> ClusterError:
    return ClusterError(NEEDS_ROOT, f"Without root the cluster cannot run: {what}", advice)


def _read(file: str) -> str:
    try:
        return Path(file).read_text()
    except OSError:
        return ""


def _parameter(name: str) -> int | None:
    text = _read(f"/proc/sys/{name.replace('.', '/')}").strip()
    return int(text) if text.isdigit() else None
