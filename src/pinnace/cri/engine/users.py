"""User namespaces of pods: their users are others on the node, so that a pod's root is nobody there.

A sandbox's namespaces are made by a process within the user namespace, which therefore owns them, and are pinned by
one outside of it. A container's root is built outside, its files shown to the pod as its own by idmapped mounts; the
process joins the user namespace last of all (user_namespaces(7), mount_setattr(2), KEP-127).
"""

# ruff: noqa: PTH123
# Descriptors, mounts and /proc files: `os` is the interface here, and pathlib would cost memory in every container.
from __future__ import annotations

import os
import socket
import stat
from typing import Any

from pinnace.cri.engine import _syscalls as sys_

Spec = dict[str, Any]


def open_namespace(spec: Spec) -> int:
    """A descriptor of the container's user namespace; -1 where it has the node's users."""
    for namespace in spec["linux"]["namespaces"]:
        if namespace["type"] == "user":
            return os.open(namespace["path"], os.O_RDONLY | os.O_CLOEXEC)
    return -1


def join(namespace: int) -> None:
    """Enter it, and a mount namespace of its own, in which nothing that was mounted so far can be uncovered."""
    if namespace < 0:
        return
    sys_.setns(namespace, sys_.CLONE_NEWUSER)
    os.close(namespace)
    become_root()
    sys_.unshare(sys_.CLONE_NEWNS)


def become_root() -> None:
    """Be the root user of the user namespace: whoever enters one is nobody there at first."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def give(fds: list[int], uid: int, gid: int) -> None:
    """Make pipes the pod's root user's, who else could not open them anew or give them to another user of the pod."""
    for fd in fds:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, uid, gid)


def sandbox(channel: socket.socket, request: dict[str, Any]) -> None:
    """Make and pin a sandbox's namespaces below a new user namespace."""
    from pinnace.cri.engine import launcher

    near, far = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        near.close()
        launcher.run(far, lambda: _inside(far, request))
    far.close()
    _expect(near)
    for kind, lines in request["user"].items():
        with open(f"/proc/{pid}/{kind}_map", "w") as file:
            file.write("".join(f"{inside} {outside} {length}\n" for inside, outside, length in lines))
    near.send(b"{}")
    _expect(near)
    launcher.pin(request["directory"], str(pid), request["namespaces"])
    near.send(b"{}")
    os.waitpid(pid, 0)
    near.close()
    if not request.get("pid"):
        launcher.report(channel, {"created": True})
        os._exit(0)
    launcher.join_cgroups(request["cgroups"])
    launcher.pause(channel)


def _inside(channel: socket.socket, request: dict[str, Any]) -> None:
    """Whose namespaces they are: waits for its users, makes the others, and goes once they are pinned."""
    from pinnace.cri.engine import launcher

    sys_.unshare(sys_.CLONE_NEWUSER)
    launcher.report(channel, {"created": True})
    if not channel.recv(64):
        os._exit(1)
    become_root()
    flags = 0
    for name in request["namespaces"]:
        flags |= launcher.NAMESPACES.get(name, 0)
    if flags:
        sys_.unshare(flags)
    if "uts" in request["namespaces"] and request.get("hostname"):
        socket.sethostname(request["hostname"])
    for name, value in request.get("sysctls", {}).items():
        launcher.write_sysctl(name, value)
    launcher.report(channel, {"created": True})
    channel.recv(64)
    os._exit(0)


def _expect(channel: socket.socket) -> None:
    """Wait for the other process's word. Raises LaunchError with what went wrong there."""
    import json

    from pinnace.cri.engine import launcher

    message = json.loads(channel.recv(65536) or b'{"error": "the process of a user namespace ended early"}')
    if "error" in message:
        raise launcher.LaunchError(message["error"])


def has_idmapped_mounts() -> bool:
    """Whether the kernel can show files of every usual file system to other users (Linux 6.3), and we may."""
    if sys_.in_user_namespace():
        return False  # this is for the root user of the machine
    release = [int(part) for part in os.uname().release.split(".")[:2] if part.isdigit()]
    return release >= [6, 3]


def can_show(path: str, users: str) -> bool:
    """Whether the file system at a path can show its files to the users of a namespace, which a file names."""
    try:
        tree = sys_.open_tree(path, recursive=False)
        namespace = os.open(users, os.O_RDONLY | os.O_CLOEXEC)
        try:
            sys_.mount_setattr(tree, set_=sys_.MOUNT_ATTR_IDMAP, users=namespace)
        finally:
            os.close(namespace)
            os.close(tree)
    except OSError:
        return False
    return True
