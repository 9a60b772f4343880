"""gRPC probes without a gRPC library: one `grpc.health.v1.Health/Check` call over plain HTTP/2.

Sends fixed frames with literal headers and reads the answer's message and status. Words are those of Kubernetes' prober
and of Go's gRPC client. Specified by RFC 9113, https://github.com/grpc/grpc/blob/master/doc/health-checking.md and
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote

from pinnace.kubelet.go_words import duration
from pinnace.kubelet.probes.checks import Result
from pinnace.wire.hpack import Decoder, HpackError

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 6, 7, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_MAX_FRAME = 16384  # bytes, while nobody agrees on more
_RETRY = 1.0  # seconds to the next try to connect
_SERVING = 1
_STATES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_CODES = (
    *("OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists"),
    *("PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented"),
    *("Internal", "Unavailable", "DataLoss", "Unauthenticated"),
)
_OF_HTTP = {  # what a status of HTTP means where gRPC's own is missing
    400: "Internal",
    401: "Unauthenticated",
    403: "PermissionDenied",
    404: "Unimplemented",
    **dict.fromkeys((429, 502, 503, 504), "Unavailable"),
}


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
    """The `status` of a HealthCheckResponse with its gRPC prefix; 0, UNKNOWN, where it is left out."""
    payload = message[5:]
    return payload[1] if len(payload) >= 2 and payload[0] == 0x08 else 0


def verdict(fields: dict[str, str], message: bytes, timeout: float) -> Result:
    """What an answer says: its headers and trailers, and its message with its gRPC prefix."""
    code, text = _status(fields)
    if code == "Unimplemented":
        why = "this server does not implement the grpc health protocol (grpc.health.v1.Health)"
        return Result("failure", f"error: {why}: {text}")
    if code == "DeadlineExceeded":
        return _late(timeout)
    if code != "OK":
        return _failed(code, text)
    state = serving_state(message)
    if state == _SERVING:
        return Result("success", "service healthy")
    return Result("failure", f'service unhealthy (responded with "{_STATES.get(state, state)}")')


def _status(fields: dict[str, str]) -> tuple[str, str]:
    """The name of the code of a call that was answered, and its message."""
    number = fields.get("grpc-status", "")
    if number.isdecimal():
        known = int(number) < len(_CODES)
        return _CODES[int(number)] if known else f"Code({number})", unquote(fields.get("grpc-message", ""))
    http = int(fields.get(":status", "")) if fields.get(":status", "").isdecimal() else 0
    kind = fields.get("content-type")
    about = "missing content-type field" if kind is None else f'received unexpected content-type "{kind}"'
    phrase = HTTPStatus(http).phrase if http in {status.value for status in HTTPStatus} else ""
    text = f"unexpected HTTP status code received from server: {http} ({phrase}); transport: {about}"
    return _OF_HTTP.get(http, "Unknown"), text


def _late(timeout: float) -> Result:
    return Result("failure", f"timeout: health rpc did not complete within {duration(timeout)}")


def _failed(code: str, text: str) -> Result:
    return Result("failure", f"error: health rpc probe failed: rpc error: code = {code} desc = {text}")


async def check_grpc(host: str, port: int, service: str, timeout: float) -> Result:
    """Ask once; who refuses the connection is asked again until `timeout` seconds are over."""
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request, call = request_frames(shown, service), _Call()
    try:
        async with asyncio.timeout(timeout):
            await call.connect(host, port, request)
            await call.finish()
    except TimeoutError:
        if call.connected:
            return _late(timeout)
        within = f"within {duration(timeout)}: context deadline exceeded"
        return Result("failure", f'timeout: failed to connect service "{shown}" {within}')
    except (OSError, EOFError):
        return _failed("Unavailable", "error reading from server: EOF")
    except _CallError as error:
        return _failed("Unavailable", str(error))
    except HpackError as error:
        return _failed("Internal", str(error))
    finally:
        call.close()
    return verdict(call.fields, call.message, timeout)


class _CallError(Exception):
    """The server ended the call without an answer."""


@dataclass(slots=True)
class _Call:
    """One call, as far as it got."""

    connected: bool = False  # the server speaks HTTP/2
    fields: dict[str, str] = field(default_factory=dict)  # headers, then trailers
    message: bytes = b""
    _decoder: Decoder = field(default_factory=lambda: Decoder(_MAX_FRAME))
    _block: bytes = b""  # of headers that are not complete yet
    _ended: bool = False  # with the headers in the block the call ends
    _reader: asyncio.StreamReader | None = None
    _writer: asyncio.StreamWriter | None = None

    async def connect(self, host: str, port: int, request: bytes) -> None:
        """Send everything to who speaks HTTP/2, trying until somebody does."""
        while True:
            try:
                self._reader, self._writer = await asyncio.open_connection(host, port)
                self._writer.write(request)
                kind, flags, payload = await self._frame()
            except (OSError, EOFError):
                kind = -1
            if kind == _SETTINGS:
                break
            self.close()
            await asyncio.sleep(_RETRY)
        self.connected = True
        self._take(kind, flags, payload)

    async def finish(self) -> None:
        """Read the answer to its end. Raises OSError, EOFError, _CallError and HpackError."""
        while not self._take(*await self._frame()):
            pass

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    async def _frame(self) -> tuple[int, int, bytes]:
        assert self._reader is not None
        head = await self._reader.readexactly(9)
        length = int.from_bytes(head[:3], "big")
        if length > _MAX_FRAME:
            raise ConnectionError("not a frame of HTTP/2")
        return head[3], head[4], await self._reader.readexactly(length)

    def _take(self, kind: int, flags: int, payload: bytes) -> bool:
        """Whether a frame ends the call."""
        assert self._writer is not None
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            self._writer.write(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind == _DATA:
            self.message += _unpadded(flags, payload)
            return bool(flags & _END_STREAM)
        elif kind in (_HEADERS, _CONTINUATION):
            return self._take_headers(kind, flags, payload)
        elif kind == _RESET:
            number = int.from_bytes(payload[:4], "big")
            raise _CallError(f"stream terminated by RST_STREAM with error code: {number}")
        elif kind == _GOAWAY and int.from_bytes(payload[:4], "big") < 1:
            raise _CallError("the connection is draining")
        return False

    def _take_headers(self, kind: int, flags: int, payload: bytes) -> bool:
        if kind == _HEADERS:
            payload = _unpadded(flags, payload)
            self._block = payload[5:] if flags & _PRIORITY else payload
            self._ended = bool(flags & _END_STREAM)
        else:
            self._block += payload
        if not flags & _END_HEADERS:
            return False
        self.fields |= {name: value for name, value, _ in self._decoder.decode(self._block)}
        return self._ended


def _unpadded(flags: int, payload: bytes) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & _PADDED and payload else payload
