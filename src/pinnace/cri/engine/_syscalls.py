"""The system calls CPython 3.11 has no function for: namespaces, mounts, capabilities, process and pidfd controls.

One place for ctypes; every function raises `OSError` with the kernel's errno and the path it is about. Numbers and
structures are those of the kernel's UAPI headers (man 2 of each call). Kept free of imports the monitor does not need.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24

MNT_DETACH = 2

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_IDMAP = 0x100000
_SECBIT_NO_SETUID_FIXUP = 4
_FSCONFIG_CMD_CREATE = 6
_RESOLVE_NO_MAGICLINKS = 0x2
_RESOLVE_IN_ROOT = 0x10
_RESOLVE_TRIES = 100  # something is renamed meanwhile
_KEYCTL_JOIN_SESSION_KEYRING = 1

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

_PIDFD_GET_INFO = (3 << 30) | (64 << 16) | (0xFF << 8) | 11
_PIDFD_INFO_EXIT = 1 << 3

_libc = ctypes.CDLL(None, use_errno=True)
_MACHINE = os.uname().machine
_PIVOT_ROOT = {"x86_64": 155}.get(_MACHINE, 41)
_BPF = {"x86_64": 321}.get(_MACHINE, 280)
_SECCOMP = {"x86_64": 317}.get(_MACHINE, 277)
_KEYCTL = {"x86_64": 250}.get(_MACHINE, 219)
_OPEN_TREE = 428
_MOVE_MOUNT = 429
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_OPENAT2 = 437
_MOUNT_SETATTR = 442


def _check(result: int, path: str = "") -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path or None)
    return result


def _text(value: str | None) -> bytes | None:
    return None if value is None else os.fsencode(value)


def unshare(flags: int) -> None:
    """Leave the namespaces named by CLONE_NEW* flags for new ones."""
    _check(_libc.unshare(ctypes.c_int(flags)))


def setns(fd: int, flags: int = 0) -> None:
    """Join the namespace of an nsfs file, or with a pidfd those of that process named by the flags."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)))


def mount(source: str | None, target: str, fstype: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """mount(2)."""
    _check(
        _libc.mount(_text(source), _text(target), _text(fstype), ctypes.c_ulong(flags), _text(data)),
        target,
    )


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(_text(target), ctypes.c_int(flags)), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _check(_libc.syscall(ctypes.c_long(_PIVOT_ROOT), _text(new_root), _text(put_old)), new_root)


def open_tree(path: str, recursive: bool = True, *, at: int = AT_FDCWD) -> int:
    """A detached copy of the mount (and the mounts under it) at a path, as a file descriptor (Linux 5.2).

    With an empty path it is a copy of what `at` is open on.
    """
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    return _check(_libc.syscall(ctypes.c_long(_OPEN_TREE), ctypes.c_int(at), _text(path), ctypes.c_uint(flags)), path)


def new_filesystem(fstype: str) -> int:
    """A file system without options, mounted nowhere, as a file descriptor (fsopen(2), Linux 5.2)."""
    context = _check(_libc.syscall(ctypes.c_long(_FSOPEN), _text(fstype), ctypes.c_uint(1)), fstype)  # FSOPEN_CLOEXEC
    try:
        create = ctypes.c_uint(_FSCONFIG_CMD_CREATE)
        nothing = ctypes.c_void_p(None)
        _check(
            _libc.syscall(ctypes.c_long(_FSCONFIG), ctypes.c_int(context), create, nothing, nothing, ctypes.c_int(0)),
            fstype,
        )
        closed = ctypes.c_uint(1)  # FSMOUNT_CLOEXEC
        return _check(_libc.syscall(ctypes.c_long(_FSMOUNT), ctypes.c_int(context), closed, ctypes.c_uint(0)), fstype)
    finally:
        os.close(context)


def in_user_namespace() -> bool:
    """Whether root here is root of a user namespace alone, not of the machine."""
    try:
        file = os.open("/proc/self/uid_map", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # a kernel without them
    try:
        return os.read(file, 4096).split() != [b"0", b"0", b"4294967295"]
    finally:
        os.close(file)


def open_in_root(root: int, path: str, flags: int) -> int:
    """openat2(2) below a directory as if that were `/`, symbolic links included (Linux 5.6)."""
    how = struct.pack("QQQ", flags, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    opened = -1
    for _ in range(_RESOLVE_TRIES):
        opened = _libc.syscall(
            ctypes.c_long(_OPENAT2),
            ctypes.c_int(root),
            _text(path),
            ctypes.c_char_p(how),
            ctypes.c_size_t(len(how)),
        )
        if opened >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break
    return _check(opened, path)


def move_mount(fd: int, target: str, *, at: int = AT_FDCWD) -> None:
    """Attach a detached mount at a path, or to what `at` is open on, which is then called `target` in errors."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if at == AT_FDCWD else MOVE_MOUNT_T_EMPTY_PATH)
    _check(
        _libc.syscall(
            ctypes.c_long(_MOVE_MOUNT),
            ctypes.c_int(fd),
            b"",
            ctypes.c_int(at),
            _text(target if at == AT_FDCWD else ""),
            ctypes.c_uint(flags),
        ),
        target,
    )


def mount_setattr(
    fd: int, *, set_: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False, users: int = 0
) -> None:
    """Change attributes and propagation of the mount behind a descriptor (Linux 5.12); `users` is a namespace's."""
    attr = struct.pack("QQQQ", set_, clear, propagation, users)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _check(
        _libc.syscall(
            ctypes.c_long(_MOUNT_SETATTR),
            ctypes.c_int(fd),
            b"",
            ctypes.c_uint(flags),
            ctypes.c_char_p(attr),
            ctypes.c_size_t(len(attr)),
        )
    )


def set_file_user(uid: int, gid: int) -> None:
    """Whose files are made from now on (setfsuid(2), setfsgid(2)), without loss of capabilities."""
    prctl(PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
    _libc.setfsgid(ctypes.c_uint(gid))
    _libc.setfsuid(ctypes.c_uint(uid))


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """prctl(2) with integer arguments."""
    return _check(
        _libc.prctl(
            ctypes.c_int(option),
            ctypes.c_ulong(arg2),
            ctypes.c_ulong(arg3),
            ctypes.c_ulong(arg4),
            ctypes.c_ulong(arg5),
        )
    )


def leave_session_keyring() -> None:
    """Join a new, empty session keyring (keyctl(2)); the keys of the old one are out of reach then."""
    _check(_libc.syscall(ctypes.c_long(_KEYCTL), ctypes.c_int(_KEYCTL_JOIN_SESSION_KEYRING), None))


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set this thread's capability sets, each a bit mask."""
    header = struct.pack("Ii", 0x20080522, 0)
    low, high = 0xFFFFFFFF, 32
    data = struct.pack(
        "IIIIII",
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> high,
        permitted >> high,
        inheritable >> high,
    )
    _check(_libc.capset(header, data))


def set_seccomp_filter(program: bytes, flags: int = 0) -> None:
    """Install a classic BPF program (8 bytes an instruction) as this thread's seccomp filter; flags as seccomp(2)."""
    buffer = ctypes.create_string_buffer(program, len(program))
    sock_fprog = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    pointer = ctypes.create_string_buffer(sock_fprog, len(sock_fprog))
    _check(_libc.syscall(ctypes.c_long(_SECCOMP), ctypes.c_uint(1), ctypes.c_uint(flags), pointer))


def bpf(command: int, attributes: bytes) -> int:
    """bpf(2) with a packed `union bpf_attr`."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return _check(_libc.syscall(ctypes.c_long(_BPF), ctypes.c_int(command), buffer, ctypes.c_uint(len(attributes))))


def pidfd_exit_status(fd: int) -> int | None:
    """The wait status of a reaped process by its pidfd (opened before it ended); None if the kernel cannot say.

    Needs Linux 6.15 (PIDFD_GET_INFO with PIDFD_INFO_EXIT).
    """
    info = bytearray(64)
    struct.pack_into("Q", info, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(fd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    mask: int = struct.unpack_from("Q", info, 0)[0]
    if not mask & _PIDFD_INFO_EXIT:
        return None
    status: int = struct.unpack_from("i", info, 60)[0]
    return status
