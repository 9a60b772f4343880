"""Messages between engines and their monitor: what waits for one that does not read, and what becomes of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pinnace.cri.engine.datagrams import Client, DatagramServer
from pinnace.cri.engine.loop import Loop


def test_descriptors_for_a_client_that_goes_are_closed_with_it() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    server, client = DatagramServer(Loop()), Client(ours)
    server.clients[ours.fileno()] = client
    server.loop.watch(ours.fileno(), lambda events: server.client_ready(client, events))
    terminal = os.open("/dev/null", os.O_RDONLY)
    before = _descriptors()

    while len(client.pending) < 3:  # it reads nothing
        server.send(client, {"n": 1, "text": "x" * 4096}, [terminal])
    theirs.close()
    server.flush(client)

    assert not server.clients
    assert _descriptors() == before - 2  # both ends of the connection
    os.close(terminal)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
