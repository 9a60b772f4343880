"""gRPC probes without a gRPC library: one `grpc.health.v1.Health/Check` call over plain HTTP/2.

Sends fixed frames with literal headers and reads the answer's DATA frame; the headers of the answer are not decoded, so
a server that answers without a message counts as failed. Specified by RFC 9113 and
https://github.com/grpc/grpc/blob/master/doc/health-checking.md.
"""

from __future__ import annotations

import asyncio
import struct

from pinnace.kubelet.go_words import duration
from pinnace.kubelet.probes.checks import Result

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY, _RESET = 0, 1, 4, 6, 7, 3
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_SERVING = 1
_STATES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header field that is not indexed and not compressed."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def request_frames(authority: str, service: str) -> bytes:
    """Everything the probe sends."""
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "kube-probe/1.37"),
    ]
    name = service.encode()[:127]
    message = b"\x0a" + bytes([len(name)]) + name if name else b""
    body = b"\x00" + struct.pack(">I", len(message)) + message
    block = b"".join(_literal(name, value) for name, value in headers)
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0)
        + _frame(_HEADERS, _END_HEADERS, 1, block)
        + _frame(_DATA, _END_STREAM, 1, body)
    )


def serving_state(message: bytes) -> int:
    """The `status` of a HealthCheckResponse with its gRPC prefix; -1 where there is none."""
    payload = message[5:]
    if not payload:
        return 0 if len(message) == 5 else -1
    return payload[1] if len(payload) >= 2 and payload[0] == 0x08 else -1


async def check_grpc(host: str, port: int, service: str, timeout: float) -> Result:
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with asyncio.timeout(timeout):
            state = await _ask(host, port, shown, service)
    except TimeoutError:
        return Result(
            "failure",
            f'timeout: failed to connect service "{shown}" within {duration(timeout)}: context deadline exceeded',
        )
    except OSError:
        return Result("failure", f'error: this server does not implement the grpc health protocol or refused "{shown}"')
    except asyncio.IncompleteReadError:
        return Result("failure", f'service unhealthy (connection to "{shown}" closed)')
    if state == _SERVING:
        return Result("success", "service healthy")
    if state < 0:
        return Result(
            "failure", "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
        )
    return Result("failure", f'service unhealthy (responded with "{_STATES.get(state, state)}")')


async def _ask(host: str, port: int, authority: str, service: str) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request_frames(authority, service))
        message = b""
        while True:
            head = await reader.readexactly(9)
            length = int.from_bytes(head[:3], "big")
            kind, flags = head[3], head[4]
            payload = await reader.readexactly(length)
            if kind == _SETTINGS and not flags & _ACK:
                writer.write(_frame(_SETTINGS, _ACK, 0))
            elif kind == _PING and not flags & _ACK:
                writer.write(_frame(_PING, _ACK, 0, payload))
            elif kind == _DATA:
                message += payload
            elif kind in (_GOAWAY, _RESET):
                return -1
            if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
                return serving_state(message)
    finally:
        writer.close()
