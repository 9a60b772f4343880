"""The engines connected to a monitor: their requests come in and are handed to verbs, answers and events go out.

JSON datagrams over SOCK_SEQPACKET, with descriptors by SCM_RIGHTS. A request names its `verb` and a number `n`, which
the answer repeats. Nothing here waits: what a slow client does not take is kept until it does.
"""

# Imports are few on purpose: this is a part of the monitor, whose memory is the price of every node.
from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from collections.abc import Iterable
from typing import Any

from pinnace.cri.engine.loop import Loop

MESSAGE_LIMIT = 4 * 1024 * 1024  # bytes of one datagram


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors, those that are closed already, too."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


class Client:
    """A connected engine."""

    __slots__ = ("pending", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pending: list[tuple[bytes, list[int]]] = []


class DatagramServer:
    """Calls `verb_<name>(client, n, request, descriptors)` of a subclass, which calls `answer` now or later."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.clients: dict[int, Client] = {}

    def accept(self, listener: socket.socket) -> None:
        try:
            sock = listener.accept()[0]
        except OSError:
            return
        sock.setblocking(False)
        for option in (33, 32):  # SO_RCVBUFFORCE, SO_SNDBUFFORCE
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, MESSAGE_LIMIT)
        client = Client(sock)
        self.clients[sock.fileno()] = client
        self.loop.watch(sock.fileno(), lambda events: self.client_ready(client, events))

    def client_ready(self, client: Client, events: int) -> None:
        if events & select.EPOLLOUT:
            self.flush(client)
        if not events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            return
        try:
            data, fds, _, _ = socket.recv_fds(client.sock, MESSAGE_LIMIT, 16, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self.drop(client)
            return
        number = 0
        try:
            request = json.loads(data)
            number = request["n"]
            getattr(self, "verb_" + request["verb"])(client, number, request, fds)
        except Exception as error:
            self.answer(client, number, {"error": f"{error}" or type(error).__name__})
            close_all(fds)

    def drop(self, client: Client) -> None:
        fd = client.sock.fileno()
        if self.clients.pop(fd, None):
            self.loop.unwatch(fd)
            client.sock.close()
            for _, fds in client.pending:
                close_all(fds)
            client.pending.clear()

    def send(self, client: Client, message: dict[str, Any], fds: list[int] | None = None) -> None:
        if client.sock.fileno() < 0:
            return
        # A copy of each descriptor waits with a message that cannot go at once.
        client.pending.append((json.dumps(message).encode(), [os.dup(fd) for fd in fds or []]))
        self.flush(client)

    def flush(self, client: Client) -> None:
        while client.pending:
            data, fds = client.pending[0]
            try:
                socket.send_fds(client.sock, [data], fds)
            except BlockingIOError:
                self.loop.change(client.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
                return
            except OSError:
                self.drop(client)
                return
            close_all(fds)
            client.pending.pop(0)
        self.loop.change(client.sock.fileno(), select.EPOLLIN)

    def answer(self, client: Client, number: int, message: dict[str, Any], fds: list[int] | None = None) -> None:
        self.send(client, {"n": number, **message}, fds)

    def broadcast(self, message: dict[str, Any]) -> None:
        for client in list(self.clients.values()):
            self.send(client, message)
