"""Listening sockets of the machine's loopback for those in the namespaces: the keeper opens them and hands them over.

One request a connection at `loopback.sock`: the port as text; the answer is the socket (SCM_RIGHTS) or an errno.
"""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress

from pinnace.cluster.profile import Profile

_BACKLOG = 128
_MESSAGE = 64  # bytes
_PATIENCE = 5.0  # seconds


def listen(port: int, backlog: int = _BACKLOG) -> socket.socket:
    """A listener on 127.0.0.1. Raises OSError."""
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


def serve(profile: Profile, pid: int) -> None:
    """Open what is asked for until the child `pid` ends, which the caller reaps."""
    path = profile.loopback_socket
    path.unlink(missing_ok=True)
    ended = os.pidfd_open(pid)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(str(path))
        path.chmod(0o600)
        server.listen(16)
        poller = select.poll()
        poller.register(ended, select.POLLIN)
        poller.register(server, select.POLLIN)
        while not any(descriptor == ended for descriptor, _ in poller.poll()):
            with suppress(OSError, ValueError):  # who asked has left, or asked for nonsense
                _answer(server)
    os.close(ended)


def _answer(server: socket.socket) -> None:
    client, _ = server.accept()
    with client:
        client.settimeout(_PATIENCE)
        port = int(client.recv(_MESSAGE))
        try:
            with listen(port) as listener:
                socket.send_fds(client, [b"0"], [listener.fileno()])
        except (OSError, OverflowError) as error:
            client.send(str(error.errno if isinstance(error, OSError) else 0).encode())


def ask(profile: Profile, port: int) -> socket.socket:
    """A listener on the machine's 127.0.0.1, said from within. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(_PATIENCE)
        client.connect(str(profile.loopback_socket))
        client.send(str(port).encode())
        answer, descriptors, _, _ = socket.recv_fds(client, _MESSAGE, 1)
    if not descriptors:
        number = int(answer or b"0")
        raise OSError(number, os.strerror(number))
    return socket.socket(fileno=descriptors[0])
