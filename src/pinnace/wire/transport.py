"""One accepted connection: a non-blocking socket, plain or TLS, driven by the event loop's reader and writer callbacks.

OpenSSL reads and writes the descriptor itself, so no byte is copied through memory BIOs and an idle connection costs
about 20 kB instead of the 280 kB of asyncio's TLS. Relies on `loop.add_reader`/`add_writer` (any selector loop). TLS is
that of RFC 8446 and RFC 5246 as OpenSSL implements it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from pinnace.wire.connection import TLS_RECORD
from pinnace.wire.http import Peer

READS_PER_WAKE = 64  # Go writes SPDY in tiny records: take many per wake-up, but leave time for the others
WRITES_PER_CALL = 128  # OpenSSL writes one record a call: 2 MiB, then the others have their turn
CHOKE_BYTES = 16 << 20  # queued: a peer that asks and asks and does not read is not heard until it does
LINGER_SECONDS = 2.0
LINGER_BYTES = 8 << 20

_WOULD_BLOCK = (BlockingIOError, InterruptedError, ssl.SSLWantReadError)


class ConnectionProtocol(Protocol):
    """What a transport hands its bytes to."""

    wants_more: bool  # whether reading again at once is worth a system call (in the middle of a message)

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> None:
        """The peer will send nothing more."""

    def drained(self) -> None:
        """The peer has taken most of what was queued."""

    def connection_lost(self) -> None:
        """The connection is gone; called once, whoever ended it."""


class Transport:
    """The socket of one connection. Every method is for the event loop's thread.

    `connected` is called with the transport and the peer when TLS is agreed and returns the protocol; `closed` is
    called once at the end in any case.
    """

    __slots__ = (
        "_choked",
        "_closed_callback",
        "_closing",
        "_connected",
        "_discarded",
        "_drain_waiters",
        "_fd",
        "_linger",
        "_loop",
        "_peer",
        "_protocol",
        "_queue",
        "_reading",
        "_recv",
        "_send",
        "_sock",
        "_timer",
        "_writer_armed",
        "buffered",
        "closed",
        "progress",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        peer: Peer,
        connected: Callable[[Transport, Peer], ConnectionProtocol],
        closed: Callable[[Transport], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._peer = peer
        self._connected = connected
        self._closed_callback = closed
        self._protocol: ConnectionProtocol | None = None
        self._queue: deque[bytes | memoryview] = deque()  # what the socket would not take yet
        self._drain_waiters: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._reading = False
        self._writer_armed = False
        self._choked = False  # nothing is read while so much waits to be sent
        self._closing = False  # close() was called: flush, then go
        self._linger = False  # close once the peer has closed, see close()
        self._discarded = 0
        self.buffered = 0  # bytes in the queue
        self.closed = False
        self.progress = 0  # grows whenever queued bytes leave: how the owner finds peers that stopped reading
        if isinstance(sock, ssl.SSLSocket):
            self._recv: Callable[[int], bytes] = sock.read
            self._send: Callable[[bytes | memoryview], int] = sock.write
        else:
            self._recv = sock.recv
            self._send = sock.send

    # Coming up.

    def start(self, handshake_timeout: float) -> None:
        """Begin the TLS handshake, or reading where there is none."""
        sock = self._sock
        if isinstance(sock, ssl.SSLSocket):
            self._timer = self._loop.call_later(handshake_timeout, self.abort)
            self._loop.add_reader(self._fd, self._shake_hands, sock)
            self._shake_hands(sock)
        else:
            self._established(None)

    def _shake_hands(self, sock: ssl.SSLSocket) -> None:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            self._disarm_writer()
            return
        except ssl.SSLWantWriteError:
            if not self._writer_armed:
                self._writer_armed = True
                self._loop.add_writer(self._fd, self._shake_hands, sock)
            return
        except (OSError, ValueError):
            self.abort()
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._disarm_writer()
        self._established(sock.getpeercert(binary_form=True))

    def _established(self, certificate: bytes | None) -> None:
        self._peer.certificate = certificate
        self._protocol = self._connected(self, self._peer)
        self._reading = True
        self._loop.add_reader(self._fd, self._on_readable)
        self._on_readable()

    @property
    def alpn(self) -> str | None:
        """The protocol that the TLS handshake agreed on."""
        sock = self._sock
        return sock.selected_alpn_protocol() if isinstance(sock, ssl.SSLSocket) else None

    # Reading.

    def _on_readable(self) -> None:
        protocol = self._protocol
        assert protocol is not None
        for _ in range(READS_PER_WAKE):
            try:
                data = self._recv(TLS_RECORD)  # a whole record, so that nothing decrypted stays behind in OpenSSL
            except _WOULD_BLOCK:
                return
            except ssl.SSLWantWriteError:
                return  # a key update waits for room; the next wake-up finishes it
            except OSError:
                self.abort()
                return
            if self._closing:
                self._discard(data)
            elif data:
                self._deliver(protocol, data)
            else:
                self.pause_reading()
                protocol.eof_received()
                return
            if self.closed or not self._reading or self._choked or not protocol.wants_more:
                return

    def _deliver(self, protocol: ConnectionProtocol, data: bytes) -> None:
        try:
            protocol.data_received(data)
        except Exception:
            self.abort()
            raise  # the loop's exception handler logs it; the connection must not hang

    def _discard(self, data: bytes) -> None:
        """While closing: drop what still comes, so that the peer sees our last words and not a reset."""
        self._discarded += len(data)
        if not data or self._discarded > LINGER_BYTES:
            self.pause_reading()
            if not self.buffered:
                self.abort()

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        if not self._reading and not self.closed:
            self._reading = True
            if not self._choked:
                self._loop.add_reader(self._fd, self._on_readable)

    # Writing.

    def write(self, data: bytes | memoryview) -> None:
        """Send at once what the socket takes and queue the rest. Nothing happens after `close` or on a lost peer."""
        if self.closed or self._closing or not data:
            return
        if self._queue:
            self._queue.append(data)
            self.buffered += len(data)
            self._arm_writer()
            return
        size = len(data)
        if size > TLS_RECORD:
            self._queue.append(data)
            self.buffered = size
            self._flush()
            return
        try:
            sent = self._send(data)
        except (*_WOULD_BLOCK, ssl.SSLWantWriteError):
            sent = 0
        except OSError:
            self._loop.call_soon(self.abort)
            return
        if sent < size:
            self._queue.append(memoryview(data)[sent:])
            self.buffered = size - sent
            self._arm_writer()

    def writelines(self, pieces: Sequence[bytes | memoryview]) -> None:
        """As `write` of all of them joined; those longer than a TLS record are not copied."""
        if len(pieces) == 1:
            self.write(pieces[0])
            return
        if self.closed or self._closing:
            return
        was_idle = not self._queue
        short: list[bytes | memoryview] = []
        for piece in pieces:
            if len(piece) <= TLS_RECORD:
                short.append(piece)
            else:
                self._put_off(b"".join(short))
                self._put_off(piece)
                short = []
        self._put_off(b"".join(short))
        if was_idle and self._queue:
            self._flush()
        elif self._queue:
            self._arm_writer()

    def _put_off(self, data: bytes | memoryview) -> None:
        if data:
            self._queue.append(data)
            self.buffered += len(data)

    def _flush(self) -> None:
        queue = self._queue
        before = self.buffered
        corked = before > TLS_RECORD and self._cork(1)
        try:
            for _ in range(WRITES_PER_CALL):
                head = queue[0]
                sent = self._send(head)
                self.buffered -= sent
                if sent == len(head):
                    queue.popleft()
                    if not queue:
                        break
                else:
                    # the same bytes must be offered again after a refusal (SSL_write), so the head stays as it is
                    queue[0] = memoryview(head)[sent:]
        except (*_WOULD_BLOCK, ssl.SSLWantWriteError):
            pass
        except OSError:
            self._loop.call_soon(self.abort)
            return
        if corked:
            self._cork(0)
        if self.buffered != before:
            self.progress += 1
        if queue:
            self._arm_writer()
        else:
            self._disarm_writer()
            if self._closing:
                self._say_goodbye()
        if self._drain_waiters and self.buffered <= TLS_RECORD:
            self._wake_drainers()

    def _cork(self, on: int) -> bool:
        """Have many records leave in packets as large as can be: each costs its way through the whole network stack."""
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)
        except OSError:  # a Unix socket has no packets
            return False
        return True

    def _on_writable(self) -> None:
        self._flush()
        if self.closed or self.buffered > TLS_RECORD:
            return
        if self._choked:
            self._choked = False
            if self._reading:
                self._loop.add_reader(self._fd, self._on_readable)
        if self._protocol is not None:
            self._protocol.drained()

    def _arm_writer(self) -> None:
        if not self._writer_armed:
            self._writer_armed = True
            self._loop.add_writer(self._fd, self._on_writable)
        if self.buffered > CHOKE_BYTES and not self._choked:
            self._choked = True
            if self._reading:
                self._loop.remove_reader(self._fd)

    def _disarm_writer(self) -> None:
        if self._writer_armed:
            self._writer_armed = False
            self._loop.remove_writer(self._fd)

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was queued, or is gone."""
        if self.buffered <= 4 * TLS_RECORD or self.closed:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._drain_waiters.append(waiter)
        await waiter

    def _wake_drainers(self) -> None:
        waiters, self._drain_waiters = self._drain_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # Ending.

    def close(self, *, linger: bool = False) -> None:
        """Flush, say good-bye, close; with `linger` wait until the peer closes too, dropping what it still sends."""
        if self._closing or self.closed:
            return
        self._closing = True
        self._linger = linger
        if not self._queue:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        sock = self._sock
        try:
            if isinstance(sock, ssl.SSLSocket):
                sock.unwrap()
        except (OSError, ValueError):
            pass  # the peer's own good-bye is not awaited
        if not self._linger:
            self.abort()
            return
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()
            return
        self._recv = lambda limit: socket.socket.recv(sock, limit)  # TLS is over: take the rest as it comes
        self._timer = self._loop.call_later(LINGER_SECONDS, self.abort)
        self.resume_reading()

    def abort(self) -> None:
        """Close at once; what is queued is lost."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._reading = False
        self._writer_armed = False
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._queue.clear()
        self.buffered = 0
        self._sock.close()
        self._wake_drainers()
        self._closed_callback(self)
        if self._protocol is not None:
            self._protocol.connection_lost()
