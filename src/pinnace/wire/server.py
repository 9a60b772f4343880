"""Listening sockets and the connections they bring: start, accept, time out, close gracefully.

The only module of `wire` that listens. A slow timer looks after idle and stuck connections, so that a request costs no
timer of its own. Closing follows what Kubernetes' servers do: stop accepting, let what runs finish, then abort.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Sequence

from pinnace.wire.connection import HttpConnection, Settings
from pinnace.wire.http import Handler, Peer
from pinnace.wire.http1 import Http1Connection
from pinnace.wire.tls import TlsConfig
from pinnace.wire.transport import Transport

ACCEPTS_PER_WAKE = 64
BACKLOG = 1024
SWEEP_SECONDS = 5.0
STUCK_SECONDS = 120.0  # a complete response that the peer has not taken any of for so long
HANDSHAKE_SECONDS = 10.0
KEEPALIVE_SECONDS = 15  # watchers and exec sessions whose peer vanished without a word are found by TCP

_LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


class _Tracked:
    """A connection and how long nothing has changed on it."""

    __slots__ = ("activity", "http", "progress", "since", "stuck_since", "transport")

    def __init__(self, transport: Transport, now: float) -> None:
        self.transport = transport
        self.http: HttpConnection | None = None  # None until TLS is agreed
        self.since = now  # when `activity` last changed
        self.activity = 0
        self.stuck_since = now
        self.progress = 0


class Server:
    """Listeners and connections of one handler. Made by `serve`."""

    def __init__(self, handler: Handler, tls: TlsConfig | None, settings: Settings) -> None:
        self._handler = handler
        self._tls = tls
        self._settings = settings
        self._context: ssl.SSLContext | None = tls.server_context() if tls else None
        self._stamp = tls.stamp() if tls else ()  # of the files that the context was made of
        self._loop = asyncio.get_running_loop()
        self._listeners: list[socket.socket] = []
        self._connections: dict[Transport, _Tracked] = {}
        self._emptied = asyncio.Event()
        self._closing = False
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        self.handshake_errors = 0  # connections that ended before TLS was agreed
        self.addresses: list[tuple[str, int]] = []  # where it listens, real ports

    @property
    def connections(self) -> int:
        """How many connections are open, handshakes included."""
        return len(self._connections)

    def bind(self, host: str, port: int = 0) -> int:
        """Listen on one more address; its port. Raises OSError when it cannot be had."""
        self.listen(_bind(host, port, dual_stack=False))
        return self.addresses[-1][1]

    def listen(self, sock: socket.socket) -> None:
        """Accept connections from a bound, listening socket; the server owns it from now on."""
        sock.setblocking(False)
        self._listeners.append(sock)
        self.addresses.append(_name(sock))
        self._loop.add_reader(sock.fileno(), self._accept, sock)

    def reload_certificate(self) -> None:
        """Read the certificate files again; connections made from now on use them."""
        if self._tls is not None:
            stamp = self._tls.stamp()
            self._context = self._tls.server_context()
            self._stamp = stamp

    def _fresh_context(self) -> ssl.SSLContext | None:
        """The context of the files as they are now; the last one while they cannot be used together."""
        if self._tls is not None and self._tls.stamp() != self._stamp:
            with contextlib.suppress(OSError, ValueError):  # half written, or a key is to follow: tried again
                self.reload_certificate()
        return self._context

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_WAKE):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._rest(listener)
                return
            if len(self._connections) >= self._settings.connections:
                sock.close()  # at once: who waits in vain would be one connection more
            else:
                self._open(sock, Peer(address[0] if isinstance(address, tuple) else "", came_to=_name(sock)))

    def _rest(self, listener: socket.socket) -> None:
        """Out of descriptors or memory: a level-triggered listener would spin, so look again in a second."""
        self._loop.remove_reader(listener.fileno())

        def resume() -> None:
            if listener in self._listeners:
                self._loop.add_reader(listener.fileno(), self._accept, listener)

        self._loop.call_later(1.0, resume)

    def _open(self, sock: socket.socket, peer: Peer) -> None:
        try:
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS)
                if peer.address in _LOOPBACK:  # pacing (BBR) costs a quarter of a long answer where there is no network
                    with contextlib.suppress(OSError):
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
            context = self._fresh_context()
            if context is not None:
                sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError:
            sock.close()
            return
        transport = Transport(self._loop, sock, peer, self._connected, self._gone)
        self._connections[transport] = _Tracked(transport, self._loop.time())
        transport.start(HANDSHAKE_SECONDS)

    def _connected(self, transport: Transport, peer: Peer) -> HttpConnection:
        """Who speaks no ALPN, as clients that want to leave HTTP do not, speaks HTTP/1.1."""
        http: HttpConnection
        if transport.alpn == "h2":
            from pinnace.wire.http2 import Http2Connection  # not every server meets such a client

            http = Http2Connection(self._handler, self._settings, transport, peer)
        else:
            http = Http1Connection(self._handler, self._settings, transport, peer)
        self._connections[transport].http = http
        return http

    def _gone(self, transport: Transport) -> None:
        tracked = self._connections.pop(transport, None)
        if tracked is not None and tracked.http is None and self._context is not None and not self._closing:
            self.handshake_errors += 1
        if not self._connections:
            self._emptied.set()

    # Time-outs.

    def _sweep(self) -> None:
        now = self._loop.time()
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        for tracked in list(self._connections.values()):
            self._look_at(tracked, now)

    def _look_at(self, tracked: _Tracked, now: float) -> None:
        http, transport = tracked.http, tracked.transport
        if http is None:
            return
        http.sweep(now, STUCK_SECONDS)
        if http.streaming:
            return
        if not transport.buffered or transport.progress != tracked.progress:
            tracked.progress = transport.progress
            tracked.stuck_since = now
        elif now - tracked.stuck_since > STUCK_SECONDS:
            transport.abort()
            return
        if http.busy or http.activity != tracked.activity:
            tracked.activity = http.activity
            tracked.since = now
            return
        if http.in_request:
            if now - tracked.since > self._settings.request_seconds:
                transport.close()
        elif now - tracked.since > self._settings.idle_seconds:
            http.close_when_done()

    # Ending.

    async def close(self, grace: float = 5.0) -> None:
        """Stop accepting, close idle connections, let the others finish for `grace` seconds, then abort them.

        Streaming responses and upgraded connections end when their `run` returns: whoever runs them ends them first.
        """
        if self._closing:
            return
        self._closing = True
        self._sweeper.cancel()
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners.clear()
        for tracked in list(self._connections.values()):
            if tracked.http is None:
                tracked.transport.abort()
            else:
                tracked.http.close_when_done()
        if self._connections and grace > 0:
            self._emptied.clear()
            try:
                await asyncio.wait_for(self._emptied.wait(), grace)
            except TimeoutError:
                pass
        for transport in list(self._connections):
            transport.abort()


def _name(sock: socket.socket) -> tuple[str, int]:
    """Address and port at our end; of a Unix socket its path and 0."""
    name = sock.getsockname()
    return (name[0], name[1]) if isinstance(name, tuple) else (str(name), 0)


def _bind(host: str, port: int, dual_stack: bool) -> socket.socket:
    family, kind, proto, _, address = socket.getaddrinfo(
        host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual_stack else 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


async def serve(
    handler: Handler,
    addresses: Sequence[tuple[str, int]] = (),
    tls: TlsConfig | None = None,
    *,
    settings: Settings | None = None,
    sockets: Sequence[socket.socket] = (),
) -> Server:
    """Listen on `addresses` (port 0: any free one) and on `sockets` (bound and listening already); serve until closed.

    Raises OSError when an address cannot be had; then nothing is left open.
    """
    server = Server(handler, tls, settings or Settings())
    dual_stack = all(":" in host for host, _ in addresses)
    try:
        for host, port in addresses:
            server.listen(_bind(host, port, dual_stack))
        for sock in sockets:
            server.listen(sock)
    except BaseException:
        await server.close(0)
        raise
    return server
