"""What a fork of the monitor does to become a container's process, or a process exec'd in one.

The fork has been made a child of the right PID namespace by the monitor; here it joins or leaves the other namespaces,
enters its cgroups, builds its root, becomes its user and calls execve. Errors go back over a socket in runc's words,
because people search for them. The order of steps follows the OCI runtime specification ("Lifecycle").
"""

# ruff: noqa: PTH101, PTH109, PTH112, PTH116, PTH118, PTH123
# Descriptors, mounts and /proc files: `os` is the interface here, and pathlib would cost memory in every container.
from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import socket
import stat
import sys
import termios
from collections.abc import Callable
from importlib.machinery import BuiltinImporter, FrozenImporter
from typing import Any

from pinnace.cri import pause_program
from pinnace.cri.engine import _syscalls as sys_
from pinnace.cri.engine import identity, rootfs, users

Spec = dict[str, Any]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

NAMESPACES = {
    "network": sys_.CLONE_NEWNET,
    "ipc": sys_.CLONE_NEWIPC,
    "uts": sys_.CLONE_NEWUTS,
    "cgroup": sys_.CLONE_NEWCGROUP,
}


class LaunchError(Exception):
    """The process cannot be started; the text is what runc would say."""


def report(channel: socket.socket, message: dict[str, Any], fds: list[int] | None = None) -> None:
    """Tell the monitor. If it was killed, nobody will ever know of this process: it ends."""
    try:
        socket.send_fds(channel, [json.dumps(message).encode()], fds or [])
    except OSError:
        os._exit(128)


def run(channel: socket.socket, work: Any) -> None:
    """Call `work` in the fork, report what it raises and end; returns never."""
    try:
        work()
    except (LaunchError, identity.UserError) as error:
        report(channel, {"error": str(error)})
    except rootfs.RootError as error:
        report(channel, {"error": f"error during container init: {error}"})
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        report(channel, {"error": f"{(error.strerror or str(error)).lower()}{where}"})
    except BaseException as error:
        report(channel, {"error": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(128)


def join_cgroups(paths: list[str]) -> None:
    """Put this process into cgroups; before execve, so that nothing of the container ever runs outside."""
    for path in paths:
        with open(f"{path}/cgroup.procs", "w") as file:
            file.write("0")


def shield() -> None:
    """Let no process of the pod reach into this one, which can do all that the machine's root can.

    Until execve it cannot be traced, its entries in /proc are root's, and it reads no module's file: those in sight
    will soon be the container's. Its keys stay behind.
    """
    sys_.prctl(sys_.PR_SET_DUMPABLE, 0)
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter]
    try:
        sys_.leave_session_keyring()
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):  # an outer container's seccomp profile: no keys then either
            raise


def reset_signals() -> None:
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def container(channel: socket.socket, bundle: str, spec: Spec, request: dict[str, Any]) -> None:
    """Build the container, report `created`, wait for the gate and execve."""
    process = spec["process"]
    os.setsid()
    reset_signals()
    join_cgroups(request["cgroups"])
    identity.set_oom_score(process.get("oomScoreAdj"))
    own_users = users.open_namespace(spec)
    sources = rootfs.open_sources(spec, own_users)
    cgroups = rootfs.open_cgroups(request["cgroups"])
    devices = rootfs.open_devices(spec)
    program = _seccomp_program(spec)
    run_hooks = _hooks(channel, bundle, spec, request["id"])
    shield()
    gate = os.open(f"{bundle}/gate", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    stdio = [] if process.get("terminal") else open_stdio(bundle, request.get("stdin", ""))
    _enter_namespaces(spec)
    sources |= rootfs.open_kernels(spec)
    if own_users >= 0:
        sys_.set_file_user(*spec["linux"]["root"])  # the layers know no others than the pod's users
    root = f"{bundle}/{spec['root']['path']}"
    sources |= rootfs.open_images(spec, root, own_users)
    if run_hooks:
        mounted, outside = rootfs.visit(root, request.get("rootfs"), own_users)
        rootfs.populate(spec, sources, cgroups, devices)
        rootfs.leave(outside)
        run_hooks("before the root")
        rootfs.pivot(mounted)
    else:
        rootfs.enter(root, request.get("rootfs"), own_users)
        rootfs.populate(spec, sources, cgroups, devices)
    fds: list[int] = []
    if process.get("terminal"):
        master, slave = rootfs.open_console()
        rootfs.bind_console(slave)
        fds, stdio = [master], [slave, slave, slave]
    uid, gid, groups, home = identity.resolve_user(process["user"])
    above = spec["linux"].get("root") or (0, 0)
    _make_working_directory(process.get("cwd") or "/", above[0] + uid, above[1] + gid)
    rootfs.finish(spec)
    environment = _environment(process, home)
    executable = find_executable(process["args"][0], environment.get("PATH", DEFAULT_PATH), process.get("cwd") or "/")
    report(channel, {"created": True, "user": [uid, gid, groups]}, fds)
    for fd in fds:
        os.close(fd)
    _wait_gate(gate)
    _take_over_stdio(stdio, above[0] + uid, terminal=bool(process.get("terminal")))
    identity.set_rlimits(process.get("rlimits") or [])
    users.join(own_users)
    _finish(channel, program, process, (uid, gid, groups), executable, environment, run_hooks)


def _hooks(channel: socket.socket, bundle: str, spec: Spec, container_id: str) -> Callable[[str], None] | None:
    """What runs a container's hooks, if it has any; loaded while this package's files are still in sight."""
    if not spec.get("hooks"):
        return None
    from pinnace.cri.engine import hooks

    pid = hooks.own_pid()

    def run_hooks(when: str) -> None:
        if when == "before the root":
            hooks.before_the_root(channel, spec, bundle, container_id)
        else:
            hooks.run("startContainer", spec, bundle, container_id, pid)

    return run_hooks


def executed(channel: socket.socket, spec: Spec, request: dict[str, Any], target: int, stdio: list[int]) -> None:
    """Become a process in a running container; `target` is a pidfd of its init."""
    process = request["process"]
    os.setsid()
    reset_signals()
    join_cgroups(request["cgroups"])
    identity.set_oom_score(spec["process"].get("oomScoreAdj"))
    program = _seccomp_program(spec)
    shield()
    root = os.open(f"/proc/{_pid_of(target)}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    has_users = bool(spec["linux"].get("root"))
    if has_users:
        users.give(stdio, *spec["linux"]["root"])
    sys_.setns(
        target,
        sys_.CLONE_NEWNS
        | sys_.CLONE_NEWIPC
        | sys_.CLONE_NEWUTS
        | sys_.CLONE_NEWNET
        | sys_.CLONE_NEWCGROUP
        | (sys_.CLONE_NEWUSER if has_users else 0),
    )
    if has_users:
        users.become_root()
    os.close(target)
    # setns leads to the root of the mount namespace, which is the machine's own where the engine runs in a chroot.
    os.fchdir(root)
    os.chroot(".")
    os.close(root)
    fds: list[int] = []
    if process.get("terminal"):
        master, slave = rootfs.open_console()
        fds, stdio = [master], [slave, slave, slave]
    uid, gid, groups, home = identity.resolve_user(process["user"])
    environment = _environment(process, home)
    cwd = process.get("cwd") or "/"
    executable = find_executable(process["args"][0], environment.get("PATH", DEFAULT_PATH), cwd)
    report(channel, {"created": True}, fds)
    for fd in fds:
        os.close(fd)
    _take_over_stdio(stdio, uid, terminal=bool(process.get("terminal")))
    _finish(channel, program, process, (uid, gid, groups), executable, environment)


def _pid_of(pidfd: int) -> int:
    """The process behind a pidfd: the same one for as long as the pidfd is good for setns."""
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        return next(int(line[4:]) for line in file if line.startswith("Pid:"))


def sandbox(channel: socket.socket, request: dict[str, Any]) -> None:
    """Make a sandbox's namespaces and pin them by bind mounts; with `pid`, stay as the namespace's init."""
    directory = request["directory"]
    if request.get("user"):
        users.sandbox(channel, request)
        return
    flags = 0
    for name in request["namespaces"]:
        flags |= NAMESPACES[name]
    if flags:
        sys_.unshare(flags)
    if "uts" in request["namespaces"] and request.get("hostname"):
        socket.sethostname(request["hostname"])
    for name, value in request.get("sysctls", {}).items():
        write_sysctl(name, value)
    pin(directory, "self", request["namespaces"])
    if not request.get("pid"):
        report(channel, {"created": True})
        os._exit(0)
    join_cgroups(request["cgroups"])
    pause(channel)


def pin(directory: str, pid: str, namespaces: list[str]) -> None:
    """Keep namespaces of a process by binding them to files."""
    files = {"network": "net", "ipc": "ipc", "uts": "uts", "user": "user"}
    for name in namespaces:
        path = f"{directory}/{name}"
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600))
        sys_.mount(f"/proc/{pid}/ns/{files[name]}", path, None, sys_.MS_BIND)


def pause(channel: socket.socket) -> None:
    """Be PID 1 of a shared PID namespace: reap orphans, have no powers, see no files and know nothing.

    Another program goes on here, and the channel's end tells of it: this one has the monitor's memory, where a process
    of the pod that may trace all others (CAP_SYS_PTRACE) would find what other pods were started with.
    """
    sys_.unshare(sys_.CLONE_NEWNS)
    sys_.mount(None, "/", None, sys_.MS_PRIVATE | sys_.MS_REC)
    # A process of the pod may look at /proc/1/root: it shall find nothing else there.
    root, machine = "/tmp" if os.path.isdir("/tmp") else "/run", os.uname().machine
    sys_.mount("tmpfs", root, "tmpfs", 0, "size=4k")
    os.chdir(root)
    if pause_program.supported(machine):
        with open("pause", "wb") as file:
            file.write(pause_program.program(machine))
        os.chmod("pause", 0o111)  # what is not to be read is not to be traced either, without that capability
    sys_.mount(None, root, None, sys_.MS_REMOUNT | sys_.MS_RDONLY, "size=4k")
    sys_.pivot_root(".", ".")
    sys_.umount(".", sys_.MNT_DETACH)
    shield()
    sys_.prctl(sys_.PR_SET_NO_NEW_PRIVS, 1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ignored children are reaped by the kernel
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    for number in range(64):
        try:
            sys_.prctl(sys_.PR_CAPBSET_DROP, number)
        except OSError:
            break
    sys_.capset(0, 0, 0)
    os.setsid()
    report(channel, {"created": True})
    for fd in (0, 1, 2):
        os.close(fd)
    try:
        os.execve("/pause", ["/pause"], {})
    except OSError:
        channel.close()  # a kind of machine that it is not written for
    while True:
        signal.pause()


def write_sysctl(name: str, value: str) -> None:
    path = "/proc/sys/" + (name if "/" in name else name.replace(".", "/"))
    try:
        with open(path, "w") as file:
            file.write(value)
    except OSError as error:
        raise LaunchError(f"write sysctl key {name}: open {path}: {(error.strerror or '').lower()}") from None


def _seccomp_program(spec: Spec) -> tuple[bytes, int]:
    """The container's filter and its flags; compiled while this package's files are still in sight."""
    profile = spec["linux"].get("seccomp")
    if not profile:
        return b"", 0
    from pinnace.cri.engine import seccomp

    return seccomp.compile_filter(profile), seccomp.flags(profile)


def _enter_namespaces(spec: Spec) -> None:
    new = sys_.CLONE_NEWNS
    for namespace in spec["linux"]["namespaces"]:
        flag = NAMESPACES.get(namespace["type"])
        if flag is None:
            continue  # mount is always new; pid was the monitor's to do
        if namespace.get("path"):
            fd = os.open(namespace["path"], os.O_RDONLY | os.O_CLOEXEC)
            sys_.setns(fd, flag)
            os.close(fd)
        else:
            new |= flag
    sys_.unshare(new)


def open_stdio(bundle: str, stdin: str) -> list[int]:
    """Standard input, output and error. The writers hold a reader's end too: no SIGPIPE while no monitor reads."""
    if stdin == "once":
        first = os.open(f"{bundle}/stdin", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(first, True)
    elif stdin:
        first = os.open(f"{bundle}/stdin", os.O_RDWR | os.O_CLOEXEC)
    else:
        first = rootfs.open_null()
    return [first] + [os.open(f"{bundle}/{name}", os.O_RDWR | os.O_CLOEXEC) for name in ("stdout", "stderr")]


def _wait_gate(gate: int) -> None:
    poll = select.poll()
    poll.register(gate, select.POLLIN)
    while True:
        ready = poll.poll()
        if any(events & select.POLLIN for _, events in ready) and os.read(gate, 1):
            os.close(gate)
            return
        # Only a hang-up: an opener went away without a word. Wait for the next one without spinning.
        select.select([], [], [], 0.05)


def _take_over_stdio(stdio: list[int], uid: int, *, terminal: bool) -> None:
    if terminal:
        fcntl.ioctl(stdio[0], termios.TIOCSCTTY, 0)
    for number, fd in enumerate(stdio):
        if uid or terminal:
            # So that the user may open /dev/stdout anew; a shared /dev/null stays as it is.
            mode = os.fstat(fd).st_mode
            if stat.S_ISFIFO(mode) or terminal:
                os.fchown(fd, uid, -1)
        os.dup2(fd, number)
    for fd in stdio:
        if fd > 2:
            os.set_inheritable(fd, False)


def _make_working_directory(path: str, uid: int, gid: int) -> None:
    place = rootfs.open_place(path, True, (uid, gid))
    directory = stat.S_ISDIR(os.fstat(place).st_mode)
    os.close(place)
    if not directory:
        raise LaunchError(f"mkdir {path}: not a directory")


def _verify_inside() -> None:
    """Refuse a working directory that is not below the container's root. Raises LaunchError."""
    try:
        if os.getcwd().startswith("/"):
            return
    except FileNotFoundError:
        pass
    words = "current working directory is outside of container mount namespace root"
    raise LaunchError(f"{words} -- possible container breakout detected")


def _environment(process: Spec, home: str) -> dict[str, str]:
    environment: dict[str, str] = {}
    for pair in process.get("env") or []:
        name, _, value = pair.partition("=")
        environment[name] = value
    environment.setdefault("HOME", home)
    return environment


def find_executable(name: str, path: str, cwd: str) -> str:
    """Look a command up as execvp would, with Go's (hence runc's) error texts."""
    if "/" in name:
        candidate = name if name.startswith("/") else os.path.join(cwd, name)
        try:
            mode = os.stat(candidate).st_mode
        except OSError as error:
            raise LaunchError(f'exec: "{name}": stat {name}: {(error.strerror or "").lower()}') from None
        if stat.S_ISDIR(mode):
            raise LaunchError(f'exec: "{name}": is a directory')
        if not mode & 0o111:
            raise LaunchError(f'exec: "{name}": permission denied')
        return candidate
    for directory in path.split(":"):
        candidate = os.path.join(directory or ".", name)
        try:
            mode = os.stat(candidate).st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode) and mode & 0o111:
            return candidate
    raise LaunchError(f'exec: "{name}": executable file not found in $PATH')


def _finish(
    channel: socket.socket,
    seccomp: tuple[bytes, int],
    process: Spec,
    who: tuple[int, int, list[int]],
    executable: str,
    environment: dict[str, str],
    run_hooks: Callable[[str], None] | None = None,
) -> None:
    """The last steps, none of which may touch the host: limits, identity, filter, execve."""
    uid, gid, groups = who
    program, flags = seccomp
    identity.set_rlimits(process.get("rlimits") or [])
    no_new_privileges = bool(process.get("noNewPrivileges"))
    if program and not no_new_privileges:
        sys_.set_seccomp_filter(program, flags)  # needs CAP_SYS_ADMIN, which is about to go
    cwd = process.get("cwd") or "/"
    identity.become(uid, gid, groups, process.get("capabilities") or {})
    try:
        os.chdir(cwd)
    except OSError as error:
        raise LaunchError(
            f'chdir to cwd ("{cwd}") set in config.json failed: {(error.strerror or "").lower()}'
        ) from None
    _verify_inside()
    if process.get("apparmorProfile"):
        try:
            identity.confine(process["apparmorProfile"])
        except OSError as error:
            why = f"apparmor failed to apply profile: {(error.strerror or '').lower()}"
            raise LaunchError(f"unable to apply apparmor profile: {why}") from None
    if no_new_privileges:
        sys_.prctl(sys_.PR_SET_NO_NEW_PRIVS, 1)
        if program:
            sys_.set_seccomp_filter(program, flags)
    if run_hooks:
        run_hooks("before the start")  # with no more rights than the program has: they are the image's
    try:
        os.execve(executable, process["args"], environment)
    except OSError as error:
        if error.errno in (errno.ENOEXEC, errno.ENOENT):
            # A missing interpreter or a binary of another architecture: runc lets the container say so itself.
            os.write(2, f"exec {executable}: {(error.strerror or '').lower()}\n".encode())
            channel.close()
            os._exit(255)
        raise LaunchError(f'exec: "{process["args"][0]}": {(error.strerror or "").lower()}') from None
