"""Containers started by an OCI runtime (runc, crun) in place of the built-in launcher.

Runs in forks of the monitor, like the launcher, and reports over the same channel. The runtime makes the container and
ends; the monitor, the nearest subreaper, inherits it. The bundle that the runtime is given is a second one inside ours:
its root is mounted for it, and what only the launcher understands is put into the specification's words first.
Specified by https://github.com/opencontainers/runtime-spec and by runc's command line, which crun shares.
"""

# ruff: noqa: PTH103, PTH108, PTH118, PTH123
# Descriptors, mounts and /proc files: `os` is the interface here, and pathlib would cost memory in every container.
from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from typing import Any

from pinnace.cri.engine import _syscalls as sys_
from pinnace.cri.engine import identity, launcher, rootfs
from pinnace.cri.engine.launcher import LaunchError, Spec, report

_CONSOLE = "console.sock"  # relative: the paths of sockets are short, those of bundles are not
_PREFIXES = (
    "runc create failed: unable to start container process: ",
    "runc create failed: ",
    "exec failed: unable to start container process: ",
    "exec failed: ",
)


def create(channel: socket.socket, bundle: str, spec: Spec, request: dict[str, Any]) -> None:
    """Mount the root and let the runtime make the container up to its `start`; reports its pid."""
    launcher.reset_signals()
    inner = _inner(bundle)
    os.makedirs(inner, exist_ok=True)
    root = os.path.join(bundle, spec["root"]["path"])
    stdio = [] if spec["process"].get("terminal") else launcher.open_stdio(bundle, request.get("stdin", ""))
    if request.get("rootfs"):
        rootfs.mount_overlay(root, request["rootfs"])
    try:
        document = in_plain_words(spec, root, request["oci"], _lowest_oom_score(), _bounding())
        document["process"] = {**document["process"], "user": _numbers(document["process"]["user"], root)}
        with open(f"{inner}/config.json", "w") as file:
            json.dump(document, file)
        os.chdir(inner)
        _run(channel, request["oci"], ["create", "--bundle", "."], request["id"], stdio, document["process"])
    except BaseException:
        _undo(bundle, request["id"], request["oci"])
        raise


def start(channel: socket.socket, bundle: str, request: dict[str, Any], oci: dict[str, Any]) -> None:
    """Let a created container go."""
    os.chdir(_inner(bundle))
    _call(oci, ["start", request["id"]], [])
    report(channel, {"done": True})


def delete(channel: socket.socket, bundle: str, request: dict[str, Any], oci: dict[str, Any]) -> None:
    """Take away what the runtime and the mount of the root left."""
    launcher.reset_signals()
    _undo(bundle, request["id"], oci)
    report(channel, {"done": True})


def _undo(bundle: str, container_id: str, oci: dict[str, Any]) -> None:
    with contextlib.suppress(LaunchError, OSError):
        os.chdir(_inner(bundle))
        _call(oci, ["delete", "--force", container_id], [])
    with contextlib.suppress(OSError):
        sys_.umount(f"{bundle}/rootfs", sys_.MNT_DETACH)


def executed(
    channel: socket.socket, bundle: str, request: dict[str, Any], oci: dict[str, Any], stdio: list[int]
) -> None:
    """Let the runtime start a process in a running container; reports its pid."""
    launcher.reset_signals()
    inner = _inner(bundle)
    os.chdir(inner)
    with open("config.json") as file:
        own = json.load(file)["process"]
    name = f"exec-{request['exec']}.json"
    adjusted = {name: own[name] for name in ("user", "oomScoreAdj", "capabilities")}
    process = {**request["process"], **adjusted}
    with open(name, "w") as file:
        json.dump(process, file)
    try:
        _run(channel, oci, ["exec", "--detach", "--process", name], request["id"], stdio, process)
    finally:
        os.unlink(name)


def in_plain_words(spec: Spec, root: str, oci: dict[str, Any], lowest_oom_score: int, bounding: int) -> Spec:
    """The specification without our extensions, and with no more than this process may give away.

    Raises LaunchError where that would not be the same container.
    """
    document = json.loads(json.dumps(spec))
    if document["linux"].get("root"):
        raise LaunchError("a pod with users of its own cannot be run by an OCI runtime")
    if any("subpath" in mount for mount in document["mounts"]):
        raise LaunchError("a directory of an image cannot be mounted by an OCI runtime")
    document["ociVersion"] = "1.0.2"
    document["root"]["path"] = root
    process, linux = document["process"], document["linux"]
    process["oomScoreAdj"] = max(process.get("oomScoreAdj") or 0, lowest_oom_score)
    process["capabilities"] = {
        kind: [name for name in names if identity.capability_mask([name]) & bounding]
        for kind, names in (process.get("capabilities") or {}).items()
    }
    linux["cgroupsPath"] = oci["cgroup"]
    asked = {option for mount in document["mounts"] for option in mount.get("options") or ()}
    linux["rootfsPropagation"] = next((kind for kind in ("rshared", "rslave") if kind in asked), "rprivate")
    rules: list[dict[str, Any]] = [{"allow": oci["privileged"], "access": "rwm"}]
    rules += [
        {"allow": True, "type": one["type"], "major": one["major"], "minor": one["minor"], "access": "rwm"}
        for one in linux.get("devices") or ()
    ]
    linux.setdefault("resources", {})["devices"] = rules
    return dict(document)


def _inner(bundle: str) -> str:
    return f"{bundle}/oci"


def _lowest_oom_score() -> int:
    """What this process may set: its own score, unless it may go below."""
    with open("/proc/self/oom_score_adj") as file:
        own = int(file.read())
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("-1000")
    except OSError:
        return own
    return -1000


def _bounding() -> int:
    """The capabilities that this process may give away, as a mask."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd:"))


def _numbers(user: dict[str, Any], root: str) -> dict[str, Any]:
    """A user by numbers, looked up in the root by a process that cannot leave it."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            os.chroot(root)
            os.chdir("/")
            uid, gid, groups, _ = identity.resolve_user(user)
            answer: dict[str, Any] = {"uid": uid, "gid": gid, "additionalGids": groups}
        except (identity.UserError, OSError) as error:
            answer = {"error": str(error)}
        os.write(write, json.dumps(answer).encode())
        os._exit(0)
    os.close(write)
    with open(read) as file:
        answer = json.loads(file.read() or "{}")
    os.wait()
    if "uid" not in answer:
        raise LaunchError(answer.get("error") or "the container's user cannot be looked up")
    return answer


def _run(
    channel: socket.socket,
    oci: dict[str, Any],
    arguments: list[str],
    container_id: str,
    stdio: list[int],
    process: dict[str, Any],
) -> None:
    """Start something that stays, on these streams or a terminal of its own, and report its pid."""
    listener = None
    if process.get("terminal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_CONSOLE)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(_CONSOLE)
        listener.listen(1)
        arguments = [*arguments, "--console-socket", _CONSOLE]
    pid_file = f"pid-{os.getpid()}"
    _call(oci, [*arguments, "--pid-file", pid_file, container_id], stdio)
    with open(pid_file) as file:
        pid = int(file.read())
    os.unlink(pid_file)
    masters: list[int] = []
    if listener is not None:
        connection, _ = listener.accept()
        _, masters, _, _ = socket.recv_fds(connection, 4096, 1)
    report(channel, {"created": True, "pid": pid}, masters)


def _call(oci: dict[str, Any], arguments: list[str], stdio: list[int]) -> None:
    """Run the runtime to its end. Raises LaunchError with what it says."""
    log = f"log-{os.getpid()}.json"
    streams = stdio or [subprocess.DEVNULL] * 3
    command = [oci["program"], "--root", oci["root"], "--log", log, "--log-format", "json", *arguments]
    done = subprocess.run(
        command,
        stdin=streams[0],
        stdout=streams[1],
        stderr=streams[2],
        check=False,
        preexec_fn=_hide_second_hierarchy,  # in a process without threads
    )
    try:
        with open(log) as file:
            lines = [json.loads(line) for line in file if line.startswith("{")]
        os.unlink(log)
    except (OSError, ValueError):
        lines = []
    if done.returncode:
        said = [line["msg"] for line in lines if line.get("level") in ("error", "fatal")]
        raise LaunchError(_plain(said[-1]) if said else f"{oci['program']} ended with {done.returncode}")


def _hide_second_hierarchy() -> None:
    """Where cgroups of both versions are mounted, show the runtime those of version 1: crun refuses to see both."""
    mounts = "/sys/fs/cgroup"
    with contextlib.suppress(OSError):
        with open(f"{mounts}/unified/cgroup.controllers") as file:
            if not file.read().strip():
                return
        sys_.unshare(sys_.CLONE_NEWNS)
        # Nothing else leaves the machine's peer groups: volumes of the pod may have to be seen from outside.
        sys_.mount(None, mounts, None, sys_.MS_PRIVATE)
        sys_.umount(f"{mounts}/unified", sys_.MNT_DETACH)


def _plain(message: str) -> str:
    """What happened, without the words that the engine puts before it."""
    for prefix in _PREFIXES:
        message = message.removeprefix(prefix)
    return message
