"""Ports for servers that a test starts later, or starts again: nobody is given them meanwhile.

The kernel gives ports of its own range to outgoing connections and to who asks for any, so that a port which was free
there a moment ago may be another's when the server comes; a client that dials a dead server's port again and again is
at last connected to itself. Node ports begin at 30000, and clusters' servers have theirs from 20000.
"""

from __future__ import annotations

import random
import socket

_PORTS = range(12_000, 20_000)
_claims: list[socket.socket] = []  # names that the kernel gives once in a network namespace, as it does ports


def free_port() -> int:
    """A port of this machine that no program listens on; no other test is given it while this process runs."""
    while True:
        port = random.choice(_PORTS)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0pinnace-test-port-{port}")
            _probe(port)
        except OSError:
            claim.close()
        else:
            _claims.append(claim)
            return port


def free_ports(count: int) -> list[int]:
    """As many of them."""
    return [free_port() for _ in range(count)]


def _probe(port: int) -> None:
    """Raises OSError where a server could not have the port."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.bind(("", port))
