"""An API server in a process of its own, to be killed, and a client that knows what was acknowledged."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.apiserver.conftest import TOKEN
from tests.support.ports import free_port

PROGRAM = Path(sys.executable).with_name("pinnace")
START_SECONDS = 60.0


class ServerProcess:
    """`pinnace kube-apiserver` over `storage`, always on the same port."""

    def __init__(self, directory: Path, pki: Path, storage: str) -> None:
        self.directory = directory
        self.storage = storage
        self._pki = pki
        self.port = free_port()
        self.tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it says that it is ready, as to systemd."""
        address = self.directory / "ready"
        address.unlink(missing_ok=True)
        command = [
            PROGRAM,
            "kube-apiserver",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--etcd-servers={self.storage}",
            f"--tls-cert-file={self._pki}/server.crt",
            f"--tls-private-key-file={self._pki}/server.key",
            f"--client-ca-file={self._pki}/ca.crt",
            f"--token-auth-file={self._pki}/tokens.csv",
            f"--service-account-signing-key-file={self._pki}/sa.key",
        ]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, (self.directory / "log").open("ab") as log:
            ready.bind(str(address))
            ready.settimeout(START_SECONDS)
            environment = os.environ | {"NOTIFY_SOCKET": str(address)}
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            assert ready.recv(64) == b"READY=1"

    def kill(self, how: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    async def connect(self) -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls, limit=1 << 26)
        return Connection(reader, writer)


class Connection:
    """One connection that is used for one request after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """Status and document. Raises OSError or IncompleteReadError when the server is gone before it has answered."""
        sent = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        if sent:
            head += f"Content-Type: {content_type}\r\nContent-Length: {len(sent)}\r\n"
        self._writer.write(head.encode() + b"\r\n" + sent)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:] if line)
        content = await self._reader.readexactly(int(fields["content-length"]))
        return int(lines[0].split()[1]), json.loads(content)

    def close(self) -> None:
        self._writer.close()
