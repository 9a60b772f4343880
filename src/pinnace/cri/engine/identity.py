"""Who a container's process is: user and groups, capabilities, resource limits, OOM score.

Users are resolved in the container's own /etc/passwd and /etc/group, so this runs after its root is in place. Runs in
a fork of the monitor just before execve. The OCI runtime specification ("Process") says what is set; capabilities(7)
says how the sets behave over setuid and execve.
"""

# ruff: noqa: PTH123
# Descriptors, mounts and /proc files: `os` is the interface here, and pathlib would cost memory in every container.
from __future__ import annotations

import os
import resource
import stat
from typing import Any

from pinnace.cri.engine import _syscalls as sys_

CAPABILITIES = (  # noqa: SIM905
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
_CAPABILITY_NUMBER = {f"CAP_{name}": number for number, name in enumerate(CAPABILITIES)}

_MAX_ID = (1 << 31) - 1
_MAX_DATABASE = 16 * 1024 * 1024  # characters of /etc/passwd or /etc/group: the process that reads them is the node's

RLIMITS = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}


class UserError(Exception):
    """The user or group asked for does not exist in the image; the text is runc's."""


def capability_mask(names: list[str]) -> int:
    """The bit mask of `CAP_…` names; names this kernel's headers do not know are left out."""
    mask = 0
    for name in names:
        number = _CAPABILITY_NUMBER.get(name)
        if number is not None:
            mask |= 1 << number
    return mask


def _database(root: str, path: str) -> list[list[str]]:
    """The lines of a file of the image, cut at colons; nothing where it is no file or lies outside of the root."""
    try:
        top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            opened = sys_.open_in_root(top, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        finally:
            os.close(top)
        with open(opened, encoding="utf-8", errors="surrogateescape") as file:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                return []
            lines = file.read(_MAX_DATABASE).splitlines()
    except OSError:
        return []
    return [line.split(":") for line in lines if line and not line.startswith("#")]


def _number(text: str) -> int:
    """A user's or group's number in a file of the image. Raises UserError."""
    number = int(text) if text.isascii() and text.isdigit() else _MAX_ID + 1
    return _in_range(number)


def _in_range(number: int) -> int:
    """The kernel takes the number -1, which is 4294967295 too, for "as it is": root."""
    if not 0 <= number <= _MAX_ID:
        raise UserError(f"uids and gids must be in range 0-{_MAX_ID}")
    return number


def resolve_user(user: dict[str, Any], root: str = "/") -> tuple[int, int, list[int], str]:
    """(uid, gid, supplementary groups, home directory) of an OCI `user` within a root.

    `username` ("name", "uid", "name:group", "uid:gid") takes part where uid is absent, as the image's USER or the pod's
    runAsUserName; a gid given beside it wins. Memberships in /etc/group are added to `additionalGids`.
    """
    passwd = _database(root, "etc/passwd")
    groups = _database(root, "etc/group")
    name, _, group_name = str(user.get("username") or "").partition(":")
    uid: int | None = user.get("uid")
    if uid is None and name.isdigit():
        uid = _number(name)
    entry = next(
        (e for e in passwd if len(e) >= 6 and (e[2] == str(uid) if uid is not None else e[0] == (name or "root"))), None
    )
    if uid is None:
        if entry is None and name not in ("", "root"):
            raise UserError(f"unable to find user {name}: no matching entries in passwd file")
        uid = _number(entry[2]) if entry else 0
    gid: int | None = user.get("gid")
    if gid is None and group_name:
        found = next((e for e in groups if len(e) >= 3 and e[0] == group_name), None)
        if found is None and not group_name.isdigit():
            raise UserError(f"unable to find group {group_name}: no matching entries in group file")
        gid = _number(found[2] if found else group_name)
    if gid is None:
        gid = _number(entry[3]) if entry else 0
    extra = [gid, *(one for one in user.get("additionalGids") or () if one != gid)]  # the primary group among them
    if entry and not user.get("strict"):
        member_of = [_number(e[2]) for e in groups if len(e) >= 4 and entry[0] in e[3].split(",")]
        extra += [number for number in member_of if number not in extra]
    return _in_range(uid), _in_range(gid), [_in_range(one) for one in extra], (entry[5] if entry else "/") or "/"


def set_rlimits(limits: list[dict[str, Any]]) -> None:
    """Apply OCI `rlimits`; a hard limit above the present one needs CAP_SYS_RESOURCE and is clamped without it."""
    for limit in limits:
        kind = RLIMITS.get(limit["type"])
        if kind is None:
            continue
        soft, hard = int(limit["soft"]), int(limit["hard"])
        try:
            resource.setrlimit(kind, (soft, hard))
        except (ValueError, PermissionError):
            ceiling = resource.getrlimit(kind)[1]
            hard = ceiling if ceiling != resource.RLIM_INFINITY and hard > ceiling else hard
            resource.setrlimit(kind, (min(soft, hard), hard))


def confine(profile: str) -> None:
    """Have the next execve enter an AppArmor profile, which must be loaded. Raises OSError."""
    for path in ("/proc/self/attr/apparmor/exec", "/proc/self/attr/exec"):
        try:
            with open(path, "w") as file:
                file.write(f"exec {profile}")
        except FileNotFoundError:
            continue
        return


def set_oom_score(value: int | None) -> None:
    """Set this process's oom_score_adj, not below its present value where that is not permitted."""
    if value is None:
        return
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(value))
    except PermissionError:
        # Lowering needs CAP_SYS_RESOURCE, which nested hosts may lack; the present value is the lowest allowed.
        return


def become(uid: int, gid: int, groups: list[int], capabilities: dict[str, list[str]]) -> None:
    """Change to the user with exactly these capability sets; irreversible."""
    sets = {kind: capability_mask(names) for kind, names in capabilities.items()}
    bounding = sets.get("bounding", 0)
    for number in range(64):
        try:
            if sys_.prctl(sys_.PR_CAPBSET_READ, number) and not bounding >> number & 1:
                sys_.prctl(sys_.PR_CAPBSET_DROP, number)
        except OSError:
            break  # beyond the last capability of this kernel
    sys_.prctl(sys_.PR_SET_KEEPCAPS, 1)
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    known = _permitted()
    permitted = sets.get("permitted", 0) & known
    sys_.capset(sets.get("effective", 0) & permitted, permitted, sets.get("inheritable", 0) & known)
    sys_.prctl(sys_.PR_SET_KEEPCAPS, 0)
    for number in range(64):
        if sets.get("ambient", 0) >> number & 1:
            try:
                sys_.prctl(sys_.PR_CAP_AMBIENT, sys_.PR_CAP_AMBIENT_RAISE, number)
            except OSError:
                continue


def _permitted() -> int:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("CapPrm:"):
                return int(line.split()[1], 16)
    return 0
