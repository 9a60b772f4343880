"""A client for the HTTP/2 core, made of PyPI's `h2`, which knows nothing of ours: in memory, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.settings

from pinnace.wire.connection import Settings
from pinnace.wire.http import Handler, Peer
from pinnace.wire.http2 import Http2Connection

ROUNDS = 200


class FakeChannel:
    """Remembers what was sent and whether the connection was ended. With `full` set the socket takes nothing."""

    def __init__(self) -> None:
        self.buffered = 0
        self.writes: list[bytes] = []
        self.ended = False
        self.full = False
        self.over = asyncio.Event()

    def write(self, data: bytes | memoryview) -> None:
        if not self.ended:
            self.writes.append(bytes(data))
            if self.full:
                self.buffered += len(data)

    def writelines(self, pieces: Sequence[bytes | memoryview]) -> None:
        self.write(b"".join(pieces))

    def take(self) -> bytes:
        sent, self.writes = b"".join(self.writes), []
        return sent

    def close(self, *, linger: bool = False) -> None:
        self.ended = True
        self.over.set()

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    async def drain(self) -> None: ...


@dataclass
class Got:
    """What has come on one stream."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    informational: list[int] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None


class Pair:
    """The core and a client, connected."""

    def __init__(
        self, handler: Handler, settings: Settings | None = None, *, window: int | None = None, acknowledge: bool = True
    ) -> None:
        self.channel = FakeChannel()
        self.server = Http2Connection(handler, settings or Settings(), self.channel, Peer("192.0.2.1"))
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.client = h2.connection.H2Connection(config)
        self.acknowledge = acknowledge  # gives windows back for what has come
        if window is not None:
            self.client.local_settings = h2.settings.Settings(
                client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
            )
        self.streams: dict[int, Got] = {}
        self.goaways: list[tuple[int, int]] = []  # last stream and code
        self.client.initiate_connection()

    def request(
        self, method: str, path: str, body: bytes | None = None, *more: tuple[str, str], ends: bool = True
    ) -> int:
        """Queue a request; with `ends` false its body goes on."""
        stream = self.client.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":authority", "example"), (":path", path), *more]
        self.client.send_headers(stream, head, end_stream=ends and body is None)
        if body is not None:
            self.client.send_data(stream, body, end_stream=ends)
        self.streams[stream] = Got()
        return stream

    async def talk(self) -> None:
        """Pass bytes both ways until both are silent."""
        silent = 0
        for _ in range(ROUNDS):
            sent = self.client.data_to_send()
            if sent and not self.channel.ended:
                self.server.data_received(sent)
            if not self.channel.full and self.channel.buffered:
                self.channel.buffered = 0
                self.server.drained()
            received = b"" if self.channel.full else self.note_goaways(self.channel.take())
            for event in self.client.receive_data(received) if received else ():
                self._note(event)
            silent = 0 if sent or received else silent + 1
            if silent > 5:
                return
            await asyncio.sleep(0)

    def note_goaways(self, data: bytes) -> bytes:
        """`h2` closes at the first GOAWAY; others, such as Go's client, go on with the streams they have."""
        rest = b""
        while data:
            end = 9 + int.from_bytes(data[:3], "big")
            one, data = data[:end], data[end:]
            if one[3] == 7:
                self.goaways.append((int.from_bytes(one[9:13], "big"), int.from_bytes(one[13:17], "big")))
            else:
                rest += one
        return rest

    async def raw(self, data: bytes) -> None:
        """Bytes that `h2` would not send."""
        self.server.data_received(data)
        await self.talk()

    async def ask(self, method: str, path: str, body: bytes | None = None, *more: tuple[str, str]) -> Got:
        stream = self.request(method, path, body, *more)
        await self.talk()
        return self.streams[stream]

    def _note(self, event: h2.events.Event) -> None:
        stream = self.streams.get(getattr(event, "stream_id", None) or 0)
        if stream is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            stream.headers = dict(event.headers or [])
            stream.status = int(stream.headers.pop(":status"))
        elif isinstance(event, h2.events.InformationalResponseReceived):
            stream.informational.append(int(dict(event.headers or [])[":status"]))
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data or b""
            if self.acknowledge and event.flow_controlled_length and not stream.ended:
                self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id or 0)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = int(event.error_code or 0)
