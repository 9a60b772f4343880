"""The server's side of WebSocket (RFC 6455): the handshake as an HTTP response, then messages over a raw connection.

Framing, ping and close are those of the `websockets` library's sans-IO core, imported on first use (60 ms).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from pinnace.wire.http import RawConnection, Request, Response, UpgradeResponse

if TYPE_CHECKING:
    from websockets.frames import Frame
    from websockets.server import ServerProtocol

MESSAGE_BYTES = 4 << 20

NORMAL_CLOSURE = 1000
GOING_AWAY = 1001
UNSUPPORTED_DATA = 1003
INTERNAL_ERROR = 1011


def is_websocket(request: Request) -> bool:
    """Whether the request asks to become a WebSocket."""
    return request.headers.get("upgrade", "").lower() == "websocket" and "upgrade" in _tokens(request, "connection")


def _tokens(request: Request, header: str) -> list[str]:
    return [token.strip().lower() for token in request.headers.get(header, "").split(",")]


def offered_subprotocols(request: Request) -> list[str]:
    """The subprotocols that the client offers, in its order of preference."""
    offered = request.headers.get("sec-websocket-protocol", "")
    return [name.strip() for name in offered.split(",") if name.strip()]


def accept(
    request: Request, subprotocols: Sequence[str], run: Callable[[WebSocket, str], Awaitable[None]]
) -> UpgradeResponse | Response:
    """Answer the handshake; `run` gets the socket and the subprotocol (the client's first choice among ours).

    A client that offers none is served with the subprotocol `""`. Offers without a match, and handshakes that break
    RFC 6455, are answered 400 or 426. The socket is closed normally when `run` returns, with 1011 when it raises.
    """
    from websockets.datastructures import Headers
    from websockets.http11 import Request as HandshakeRequest
    from websockets.server import ServerProtocol

    offered = offered_subprotocols(request)
    chosen = next((name for name in offered if name in subprotocols), "")
    if offered and not chosen:
        wanted, ours = ", ".join(offered), ", ".join(subprotocols)
        return _refuse(400, f"unable to negotiate protocol: client supports [{wanted}], server accepts [{ours}]")
    headers = Headers()
    for name, value in request.headers.items():
        if name != "sec-websocket-protocol":
            headers[name] = value
    answer = ServerProtocol().accept(HandshakeRequest(request.raw_path or request.path, headers))
    if answer.status_code != 101:
        return _refuse(answer.status_code, bytes(answer.body or b"").decode().strip())
    fields = [(name, value) for name, value in answer.headers.raw_items() if name.lower() != "date"]
    if chosen:
        fields.append(("Sec-WebSocket-Protocol", chosen))

    async def serve(connection: RawConnection) -> None:
        socket = WebSocket(connection)
        code = INTERNAL_ERROR
        try:
            await run(socket, chosen)
            code = NORMAL_CLOSURE
        finally:
            await socket.close(code)

    return UpgradeResponse(serve, tuple(fields))


def _refuse(status: int, message: str) -> Response:
    headers = [("Content-Type", "text/plain; charset=utf-8")]
    if status == 426:
        headers.append(("Upgrade", "websocket"))
    return Response(status, tuple(headers), (message + "\n").encode())


class WebSocket:
    """An open WebSocket of the server. Pings are answered while `receive` is awaited."""

    def __init__(self, connection: RawConnection) -> None:
        from websockets.frames import Opcode
        from websockets.protocol import State
        from websockets.server import ServerProtocol

        self._opcodes = Opcode
        self._open_state = State.OPEN
        self._connection = connection
        self._protocol: ServerProtocol = ServerProtocol(state=State.OPEN, max_size=MESSAGE_BYTES)
        self._frames: deque[Frame] = deque()
        self._parts: list[bytes] = []
        self._text = False
        self._ended = False

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._protocol.state is not self._open_state

    async def receive(self) -> bytes | str | None:
        """The next message (text as str), None when the peer has closed. Errors of the peer close the socket."""
        while True:
            while self._frames:
                message = self._assemble(self._frames.popleft())
                if message is not None:
                    return message
            if self._ended:
                return None
            data = await self._connection.read()
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
                self._ended = True
            for event in self._protocol.events_received():
                self._frames.append(event)  # type: ignore[arg-type]
            self._flush()
            self._ended = self._ended or self._protocol.close_expected()  # the peer closed, or broke the protocol

    def _assemble(self, frame: Frame) -> bytes | str | None:
        """A message when this frame is its last, else None."""
        opcode = frame.opcode
        if opcode is self._opcodes.CLOSE:
            self._ended = True
            return None
        if opcode not in (self._opcodes.TEXT, self._opcodes.BINARY, self._opcodes.CONT):
            return None
        if opcode is not self._opcodes.CONT:
            self._text = opcode is self._opcodes.TEXT
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return None
        whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        if not self._text:
            return whole
        try:
            return whole.decode()
        except UnicodeDecodeError:
            self._protocol.fail(1007)
            self._ended = True
            return None

    def send(self, message: bytes | str) -> None:
        """Queue a message: bytes as binary, str as text. Nothing happens once the socket is closed."""
        if self.closed:
            return
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        self._flush()

    async def drain(self) -> None:
        await self._connection.drain()

    async def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Say good-bye and close; the peer's answer is not awaited."""
        if not self.closed:
            self._protocol.send_close(code, reason)
            self._flush()
        self._ended = True
        self._connection.close()

    def _flush(self) -> None:
        data = self._protocol.data_to_send()
        if data:
            self._connection.write(data[0] if len(data) == 1 else b"".join(data))


class WebSocketStream:
    """A WebSocket as a plain stream of bytes: the payloads of binary messages, one after the other."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        """The next message's bytes; empty at the end."""
        while True:
            message = await self._socket.receive()
            if message is None:
                return b""
            if message:
                return message.encode() if isinstance(message, str) else message

    def write(self, data: bytes) -> None:
        self._socket.send(data)

    async def drain(self) -> None:
        await self._socket.drain()

    def close(self) -> None:
        """Ends when the WebSocket is closed by whoever opened it."""
