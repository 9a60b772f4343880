"""A container's file system, built inside its own mount namespace: overlay root, mounts, devices, masked paths.

Runs in a fork of the monitor. Sources of bind mounts are opened as detached mounts (open_tree) before the namespace is
left, and attached after pivot_root: destinations then resolve inside the new root, so no symbolic link in an image can
point a mount at the host. Nothing is mounted on the host, hence nothing is left when the last process ends.
What to mount is said by the OCI runtime specification ("Mounts", "Linux default devices").
"""

# ruff: noqa: PTH102, PTH103, PTH112, PTH116, PTH120, PTH211, PTH110
# Descriptors, mounts and /proc files: `os` is the interface here, and pathlib would cost memory in every container.
from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from typing import Any

from pinnace.cri.engine import _syscalls as sys_
from pinnace.cri.engine import overlay

Spec = dict[str, Any]

_FLAGS = {
    "ro": sys_.MS_RDONLY,
    "nosuid": sys_.MS_NOSUID,
    "nodev": sys_.MS_NODEV,
    "noexec": sys_.MS_NOEXEC,
    "noatime": sys_.MS_NOATIME,
    "relatime": sys_.MS_RELATIME,
    "strictatime": sys_.MS_STRICTATIME,
}
_ATTRIBUTES = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8}  # MOUNT_ATTR_*
_PROPAGATION = {
    "rprivate": sys_.MS_PRIVATE,
    "private": sys_.MS_PRIVATE,
    "rslave": sys_.MS_SLAVE,
    "slave": sys_.MS_SLAVE,
    "rshared": sys_.MS_SHARED,
    "shared": sys_.MS_SHARED,
}
_NOT_DATA = {"rw", "suid", "dev", "exec", "bind", "rbind", *_FLAGS, *_PROPAGATION}

_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441  # asm-generic/ioctls.h: unlock a terminal, open its other end
_TERMINALS, _NULL = os.makedev(5, 2), os.makedev(1, 3)  # /dev/ptmx, /dev/null

_IN_PROC = {f"/proc/{name}" for name in ("cpuinfo", "diskstats", "loadavg", "meminfo", "net/dev", "slabinfo")}
_IN_PROC |= {
    f"/proc/{name}" for name in ("stat", "swaps", "sys/crypto/fips_enabled", "sys/kernel/ns_last_pid", "uptime")
}

_DEFAULT_DEVICES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
_DEV_LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
)

_KERNELS = ("proc", "sysfs")  # file systems that show it


class RootError(Exception):
    """The container's file system would not be what it should; the text is runc's."""


def is_bind(mount: Spec) -> bool:
    return mount.get("type") == "bind" or "bind" in mount["options"] or "rbind" in mount["options"]


def open_sources(spec: Spec, users: int = -1) -> dict[int, tuple[int, bool]]:
    """The bind mounts' sources by index, as (detached mount, is a directory). Call before leaving the namespace.

    `users` is a user namespace to which the files are shown as its own, where a mount asks for that.
    """
    sources: dict[int, tuple[int, bool]] = {}
    proc = os.stat("/proc").st_dev
    for index, mount in enumerate(spec.get("mounts") or []):
        if is_bind(mount):
            found = os.stat(mount["source"])
            if mount["destination"] == "/proc" and found.st_dev != proc:
                raise RootError('"/proc" cannot be mounted because it is not of type proc')
            directory = stat.S_ISDIR(found.st_mode)
            tree = sys_.open_tree(mount["source"], recursive="bind" not in mount["options"])
            if users >= 0 and "ridmap" in mount["options"]:
                _show_to(tree, users, mount["source"], recursive=True)
            sources[index] = tree, directory
    return sources


def open_devices(spec: Spec) -> dict[str, int]:
    """The node's devices that the container has, by path, as detached mounts: a user namespace can make none.

    Call before leaving the namespace; empty on a machine of our own.
    """
    if not sys_.in_user_namespace():
        return {}
    wanted = {path: os.makedev(major, minor) for path, major, minor in _DEFAULT_DEVICES}
    for device in spec["linux"].get("devices") or []:
        wanted[device["path"]] = os.makedev(device["major"], device["minor"])
    found = {}
    for path, number in wanted.items():
        try:
            if os.stat(path).st_rdev == number:
                found[path] = sys_.open_tree(path, recursive=False)
        except FileNotFoundError:
            pass  # whoever makes it will say so
    return found


def open_kernels(spec: Spec) -> dict[int, tuple[int, bool]]:
    """What shows the kernel (/proc, /sys), as `open_sources` gives it, in the container's namespaces.

    A user namespace may mount these only while it sees them whole, which is before the root is entered.
    """
    if not sys_.in_user_namespace():
        return {}
    return {
        index: (sys_.new_filesystem(mount["type"]), True)
        for index, mount in enumerate(spec.get("mounts") or [])
        if mount["type"] in _KERNELS
    }


def _show_to(tree: int, users: int, path: str, *, recursive: bool = False) -> None:
    """Have files of a detached mount belong to the users of a namespace as they do to the node's on disk."""
    try:
        sys_.mount_setattr(tree, set_=sys_.MOUNT_ATTR_IDMAP, users=users, recursive=recursive)
    except OSError as error:
        raise OSError(error.errno, f"failed to set MOUNT_ATTR_IDMAP: {error.strerror}", path) from None


def open_images(spec: Spec, target: str, users: int = -1) -> dict[int, tuple[int, bool]]:
    """Images that are volumes, by index, as `open_sources` gives them. Call in the new mount namespace.

    Each is mounted at `target`, where the root comes later, and taken away again: what is kept is a copy of the mount.
    """
    sources: dict[int, tuple[int, bool]] = {}
    for index, mount in enumerate(spec.get("mounts") or []):
        if mount["type"] != "overlay":
            continue
        [lower] = [option[9:].split(":") for option in mount["options"] if option.startswith("lowerdir=")]
        sys_.mount(None, "/", None, sys_.MS_SLAVE | sys_.MS_REC)
        shown_at = _mount_layers(target, {"lower": lower}, users)
        root = os.open(shown_at, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        shown = sys_.open_in_root(root, mount.get("subpath") or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        sources[index] = sys_.open_tree(f"/proc/self/fd/{shown}"), True
        os.close(shown)
        os.close(root)
        os.chdir("/")
        sys_.umount(target, sys_.MNT_DETACH)
    return sources


def _mount_layers(target: str, layers: Spec, users: int) -> str:
    """Mount the layers at a directory, or below it where they must be shown to other users first; where."""
    if users < 0 or layers.get("shifted"):
        mount_overlay(target, layers)
        return target
    sys_.mount("tmpfs", target, "tmpfs", 0, "mode=755,size=64k")
    moved: Spec = {"lower": []}
    for index, path in enumerate(layers["lower"]):
        moved["lower"].append(_place(path, f"{target}/{index}", users))
    if layers.get("upper") and layers.get("work"):
        home = os.path.dirname(layers["upper"])  # both are in one directory: overlayfs wants them on one mount
        upper = _place(home, f"{target}/u", users)
        moved["upper"] = f"{upper}/{layers['upper'].rpartition('/')[2]}"
        moved["work"] = f"{upper}/{layers['work'].rpartition('/')[2]}"
    os.mkdir(f"{target}/m")
    mount_overlay(f"{target}/m", moved)
    return f"{target}/m"


def _place(path: str, target: str, users: int) -> str:
    os.mkdir(target)
    tree = sys_.open_tree(path, recursive=False)
    _show_to(tree, users, path)
    sys_.move_mount(tree, target)
    os.close(tree)
    return target


def enter(target: str, layers: Spec | None, users: int = -1) -> None:
    """Mount the root (`lower` topmost first, `upper`, `work`; or the directory itself) and make it `/`."""
    pivot(_mount_root(target, layers, users))


def _mount_root(target: str, layers: Spec | None, users: int) -> str:
    sys_.mount(None, "/", None, sys_.MS_SLAVE | sys_.MS_REC)
    if layers is None:
        sys_.mount(target, target, None, sys_.MS_BIND | sys_.MS_REC)
        return target
    return _mount_layers(target, layers, users)


def pivot(root: str) -> None:
    """Make a mount `/`, and everything else go."""
    os.chdir(root)
    sys_.pivot_root(".", ".")
    sys_.umount(".", sys_.MNT_DETACH)
    os.chdir("/")


def visit(target: str, layers: Spec | None, users: int = -1) -> tuple[str, int]:
    """As `enter`, but with a way back, for `leave`: where the root is mounted, and what `/` was before."""
    root = _mount_root(target, layers, users)
    outside = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chroot(root)
    os.chdir("/")
    return root, outside


def leave(outside: int) -> None:
    """See the machine's files again."""
    os.fchdir(outside)
    os.chroot(".")
    os.close(outside)


def mount_overlay(target: str, layers: Spec) -> None:
    lower: list[str] = layers["lower"]
    upper, work = layers.get("upper"), layers.get("work")
    paths = [*lower, *([upper, work] if upper and work else [])]
    # A mount's options must fit in a page: paths are given relative to what they have in common.
    base = os.path.commonpath(paths) if len(paths) > 1 else os.path.dirname(paths[0])
    if any(path == base for path in paths):
        base = os.path.dirname(base)
    os.chdir(base)

    def relative(path: str) -> str:
        return os.path.relpath(path, base)

    options = f"{overlay.option()}lowerdir=" + ":".join(relative(path) for path in lower)
    if upper and work:
        options += f",upperdir={relative(upper)},workdir={relative(work)}"
    sys_.mount("overlay", target, "overlay", 0, options)


def open_null() -> int:
    """The machine's /dev/null for reading and writing, but in a way that nobody can change its mode or owner by."""
    tree = sys_.open_tree("/dev/null", recursive=False)
    try:
        sys_.mount_setattr(tree, set_=_ATTRIBUTES["ro"])
        return os.open(f"/proc/self/fd/{tree}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(tree)


def populate(
    spec: Spec, sources: dict[int, tuple[int, bool]], cgroups: dict[str, int], devices: dict[str, int]
) -> None:
    """Do the mounts in order, make the devices, mask and write-protect; `/` is the container's root by now."""
    old_umask = os.umask(0)
    null = -1
    for index, mount in enumerate(spec.get("mounts") or []):
        if index in sources:
            fd, directory = sources[index]
            _attach(fd, mount, directory)
        elif mount["type"] == "cgroup":
            _mount_cgroups(mount, cgroups)
        else:
            _mount_filesystem(mount, (spec["linux"].get("root") or (0, 0))[1])
        if mount["destination"] == "/dev" and mount["type"] == "tmpfs":
            make_devices(spec, devices)
            null = _own_null()  # before a volume can hide it
    linux = spec["linux"]
    for path in linux.get("readonlyPaths") or []:
        _make_readonly(path)
    masked = linux.get("maskedPaths") or []
    if masked and null < 0:
        null = _own_null()
    for path in masked:
        _mask(path, null)
    if null >= 0:
        os.close(null)
    os.umask(old_umask)


def finish(spec: Spec) -> None:
    """Write-protect the root itself where that was asked for, last of all."""
    if spec["root"].get("readonly"):
        sys_.mount(None, "/", None, sys_.MS_REMOUNT | sys_.MS_BIND | sys_.MS_RDONLY)


def open_place(path: str, directory: bool, owner: tuple[int, int] = (-1, -1)) -> int:
    """A descriptor (O_PATH) of what is at a path, made if it is missing and given to `owner` then.

    Links are followed within the root, but not those of /proc that lead to what a process has open, and whoever writes
    to a volume cannot put others in the way between two steps.
    """
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return sys_.open_in_root(root, path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        above, _, name = os.path.realpath(path).rpartition("/")
    finally:
        os.close(root)
    parent = open_place(above or "/", True)
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=parent))
        os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)


def _destination(path: str, kind: str) -> str:
    """The directory where a file system of a kind is mounted, made if it is missing.

    No volume is there yet, so no other container can change what it is.
    """
    real = os.path.realpath(path)
    own = kind in _KERNELS
    if (own and real != path) or (os.path.lexists(real) and not os.path.isdir(real)):
        where = f'error mounting "{kind}" to rootfs at "{path}"'
        raise RootError(f'{where}: filesystem "{kind}" must be mounted on ordinary directory')
    if not own and (real == "/proc" or real.startswith("/proc/")):
        raise RootError(f'"{path}" cannot be mounted because it is inside /proc')
    os.makedirs(real, 0o755, exist_ok=True)
    return real


def _attach(fd: int, mount: Spec, directory: bool) -> None:
    options = mount["options"]
    if mount["type"] in _KERNELS:
        _destination(mount["destination"], mount["type"])
    propagation = next((_PROPAGATION[o] for o in options if o in _PROPAGATION), sys_.MS_PRIVATE)
    attributes = sum(_ATTRIBUTES[o] for o in set(options) if o in _ATTRIBUTES)
    if attributes:
        sys_.mount_setattr(fd, set_=attributes)
    if "rro" in options:
        sys_.mount_setattr(fd, set_=_ATTRIBUTES["ro"], recursive=True)
    if propagation != sys_.MS_SHARED:
        sys_.mount_setattr(fd, propagation=propagation, recursive=True)
    path = mount["destination"]
    try:
        place = open_place(path, directory)
        if stat.S_ISDIR(os.fstat(place).st_mode) != directory:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        where = f'error mounting "{mount["source"]}" to rootfs at "{path}"'
        raise RootError(f"{where}: {(error.strerror or str(error)).lower()}") from None
    if path not in ("/proc", *_IN_PROC) and _is_in_proc(place):
        raise RootError(f'"{path}" cannot be mounted because it is inside /proc')
    sys_.move_mount(fd, path, at=place)
    os.close(place)
    os.close(fd)


def _is_in_proc(place: int) -> bool:
    found = os.stat("/proc")
    return os.fstat(place).st_dev == found.st_dev != os.stat("/").st_dev


def _mount_filesystem(mount: Spec, first_group: int) -> None:
    flags = 0
    data = []
    for option in mount["options"]:
        if option.startswith("gid="):
            option = f"gid={first_group + int(option[4:])}"  # as the node counts
        if option in _FLAGS:
            flags |= _FLAGS[option]
        elif option not in _NOT_DATA:
            data.append(option)
    target = _destination(mount["destination"], mount["type"])
    sys_.mount(mount["source"], target, mount["type"], flags, ",".join(data) or None)


def open_cgroups(paths: list[str]) -> dict[str, int]:
    """The container's version 1 cgroup directories as detached mounts, by controller; none on a unified hierarchy.

    Call before leaving the namespace.
    """
    trees = {}
    for path in paths:
        if not os.path.exists(f"{path}/cgroup.controllers"):
            trees[path.split("/")[4]] = sys_.open_tree(path)  # /sys/fs/cgroup/<controller>/…
    return trees


def _mount_cgroups(mount: Spec, trees: dict[str, int]) -> None:
    target = _destination(mount["destination"], mount["type"])
    readonly = "ro" in mount["options"]
    guard = sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC
    if not trees:
        try:
            sys_.mount("cgroup", target, "cgroup2", guard | (sys_.MS_RDONLY if readonly else 0))
        except OSError:
            return  # a machine without cgroups: the directory stays empty
        return
    sys_.mount("tmpfs", target, "tmpfs", guard, "mode=755")
    for name, fd in trees.items():
        os.mkdir(f"{target}/{name}")
        sys_.mount_setattr(fd, set_=_ATTRIBUTES["ro"] if readonly else 0, propagation=sys_.MS_PRIVATE, recursive=True)
        sys_.move_mount(fd, f"{target}/{name}")
        os.close(fd)
        if "," in name:  # controllers that are mounted together, as systemd does: each is found by its own name, too
            for controller in name.split(","):
                os.symlink(name, f"{target}/{controller}")
    if readonly:
        sys_.mount(None, target, None, sys_.MS_REMOUNT | sys_.MS_BIND | guard | sys_.MS_RDONLY)


def make_devices(spec: Spec, found: dict[str, int]) -> None:
    """The default devices and links, then those of the spec; the node's own where there are any."""
    for path, major, minor in _DEFAULT_DEVICES:
        if path in found:
            _bind_device(found[path], path)
        else:
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
    for source, link in _DEV_LINKS:
        os.symlink(source, link)
    for device in spec["linux"].get("devices") or []:
        path = device["path"]
        if os.path.lexists(path):
            continue
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        if path in found:
            _bind_device(found[path], path)
            continue
        kind = stat.S_IFBLK if device["type"] == "b" else stat.S_IFCHR
        os.mknod(path, device.get("fileMode", 0o666) | kind, os.makedev(device["major"], device["minor"]))
        above = spec["linux"].get("root") or (0, 0)
        os.chown(path, above[0] + device.get("uid", 0), above[1] + device.get("gid", 0))


def _bind_device(fd: int, path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
    sys_.move_mount(fd, path)
    os.close(fd)


def _make_readonly(path: str) -> None:
    try:
        fd = sys_.open_tree(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    sys_.mount_setattr(fd, set_=_ATTRIBUTES["ro"], recursive=True)
    sys_.move_mount(fd, path)
    os.close(fd)


def _own_null() -> int:
    """The container's /dev/null as a descriptor (O_PATH). Raises RootError where it is something else."""
    null = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(null)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _NULL:
        raise RootError("/dev/null is not the null device")
    return null


def _mask(path: str, null: int) -> None:
    try:
        directory = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:
        return
    if directory:
        sys_.mount("tmpfs", path, "tmpfs", sys_.MS_RDONLY, "size=0k")
        return
    copy = sys_.open_tree("", recursive=False, at=null)
    sys_.move_mount(copy, path)
    os.close(copy)


def open_console() -> tuple[int, int]:
    """A pseudo-terminal of the container's own devpts, as (master, slave)."""
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    master = os.open("/dev/pts/ptmx", flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if os.fstat(master).st_rdev != _TERMINALS:
        raise RootError("/dev/pts/ptmx is not a terminal multiplexer")
    os.set_blocking(master, True)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    return master, fcntl.ioctl(master, _TIOCGPTPEER, flags)


def bind_console(slave: int) -> None:
    """Make /dev/console the container's terminal."""
    terminal = sys_.open_tree("", recursive=False, at=slave)
    place = open_place("/dev/console", False)
    sys_.move_mount(terminal, "/dev/console", at=place)
    os.close(place)
    os.close(terminal)
