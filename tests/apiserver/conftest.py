"""An API server of the test's own, over TLS with a PKI of its own, and ways to talk to it."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from pinnace.apiserver.options import Options
from pinnace.apiserver.server import ApiServer
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, utc_now
from pinnace.store.contract import Store
from pinnace.store.etcd import EtcdStore
from pinnace.store.sqlite import SqliteStore
from tests.apiserver.hooks import Hooks
from tests.store.etcd_server import EtcdServer

TOKEN = "test-token"


def _write(path: Path, key: Any, certificate: x509.Certificate | None = None) -> None:
    path.with_suffix(".key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    if certificate is not None:
        path.with_suffix(".crt").write_bytes(certificate.public_bytes(Encoding.PEM))


def _certificate(common_name: str, groups: tuple[str, ...], issuer: Any, issuer_key: Any, key: Any, ca: bool) -> Any:
    import ipaddress

    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
        ]
    )
    now = utc_now()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer or name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca, None), True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            False,
        )
        .sign(issuer_key, hashes.SHA256())
    )


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca, server, admin and sa keys."""
    where = tmp_path_factory.mktemp("pki")
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("kubernetes", (), None, ca_key, ca_key, True)
    _write(where / "ca", ca_key, ca)
    for file, name, groups in (
        ("server", "kube-apiserver", ()),
        ("admin", "kubernetes-admin", ("system:masters", "kubeadm:cluster-admins")),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        _write(where / file, key, _certificate(name, groups, ca.subject, ca_key, key, False))
    _write(where / "sa", ec.generate_private_key(ec.SECP256R1()))
    (where / "tokens.csv").write_text(f'{TOKEN},tester,1,"system:masters"\nplain,plain-user,2\n')
    return where


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    warnings: list[str] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Cluster:
    """A running server; `call` goes over the wire, `create` and the like over the loop-back path."""

    def __init__(self, server: ApiServer, store: Store, pki: Path) -> None:
        self.server = server
        self.store = store
        self.pki = pki
        self.tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self.port = server.addresses[0][1]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def open(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int, dict[str, str]]:
        """Send a request; the connection, its status and headers read."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls, limit=1 << 24)
        fields = {"Host": "x", "Authorization": f"Bearer {TOKEN}", "Connection": "close", **(headers or {})}
        if body or method in ("POST", "PUT", "PATCH"):
            fields.setdefault("Content-Type", "application/json")
            fields["Content-Length"] = str(len(body))
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields.items() if v) + "\r\n"
        writer.write(head.encode() + body)
        top = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        found: dict[str, str] = {}
        for line in top[1:]:
            name, _, value = line.partition(": ")
            if name:
                key = name.lower()
                found[key] = f"{found[key]}\n{value}" if key in found else value
        return reader, writer, int(top[0].split()[1]), found

    async def call(
        self, method: str, path: str, body: Any = None, *, content_type: str = "", headers: dict[str, str] | None = None
    ) -> Answer:
        """One whole request; `body` is bytes or something to send as JSON."""
        sent = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        more = dict(headers or {})
        if content_type:
            more["Content-Type"] = content_type
        reader, writer, status, found = await self.open(method, path, sent, more)
        content = await reader.read()
        if found.get("transfer-encoding") == "chunked":
            content = _unchunk(content)
        writer.close()
        warnings = found.get("warning", "")
        return Answer(status, found, content, warnings.split("\n") if warnings else [])

    async def request(
        self, method: str, path: str, body: Any = None, params: dict[str, str] | None = None, **more: Any
    ) -> Obj:
        return await self.server.loopback_request(
            more.get("user", "system:admin"),
            method,
            path,
            params or {},
            body,
            more.get("content_type", "application/json"),
        )

    async def refused(self, method: str, path: str, body: Any = None, **more: Any) -> ApiError:
        """The error that the request is answered with."""
        with pytest.raises(ApiError) as caught:
            await self.request(method, path, body, **more)
        return caught.value

    async def watch(self, path: str) -> Watch:
        reader, writer, status, headers = await self.open("GET", path)
        return Watch(reader, writer, status, headers)


class Watch:
    """A watch over the wire."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int, headers: Any) -> None:
        self.reader = reader
        self.writer = writer
        self.status = status
        self.headers = headers
        self._buffer = b""

    async def next(self) -> Obj | None:
        """The next event; None at the end."""
        async with asyncio.timeout(30):
            while b"\n" not in self._buffer:
                size = int((await self.reader.readline()).strip() or b"0", 16)
                if not size:
                    return None
                self._buffer += await self.reader.readexactly(size)
                await self.reader.readline()
        line, _, self._buffer = self._buffer.partition(b"\n")
        event: Obj = json.loads(line)
        return event

    async def take(self, count: int) -> list[tuple[str, str]]:
        """Type and name of the next events."""
        found = []
        for _ in range(count):
            event = await self.next()
            assert event is not None
            found.append((event["type"], event["object"].get("metadata", {}).get("name", "")))
        return found

    def close(self) -> None:
        self.writer.close()


def _unchunk(content: bytes) -> bytes:
    whole = b""
    while content:
        size, _, content = content.partition(b"\r\n")
        length = int(size, 16)
        whole += content[:length]
        content = content[length + 2 :]
    return whole


def options_for(pki: Path, **more: Any) -> Options:
    return Options(
        bind=[("127.0.0.1", 0)],
        cert_file=pki / "server.crt",
        key_file=pki / "server.key",
        client_ca_file=pki / "ca.crt",
        token_auth_file=pki / "tokens.csv",
        service_account_signing_key_file=pki / "sa.key",
        **more,
    )


@asynccontextmanager
async def serving(pki: Path, where: Path, **more: Any) -> AsyncIterator[Cluster]:
    """A server with options of its own, its state in the directory `where`."""
    store = SqliteStore.open(where / "state.db")
    server = ApiServer(options_for(pki, **more), store)
    try:
        await server.start()
        yield Cluster(server, store, pki)
    finally:
        await server.stop(0.2)
        await store.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A SQLite file; with PINNACE_TEST_STORE=etcd, an etcd."""
    if os.environ.get("PINNACE_TEST_STORE") != "etcd":
        file = SqliteStore.open(tmp_path / "state.db")
        yield file
        await file.close()
        return
    etcd = EtcdServer(tmp_path / "etcd")
    etcd.start()
    shared = await EtcdStore.open([etcd.endpoint])
    yield shared
    await shared.close()
    etcd.kill()


@pytest.fixture(scope="session")
def one_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """An etcd for many tests, each of which keeps to a prefix of its own."""
    etcd = EtcdServer(tmp_path_factory.mktemp("etcd"))
    etcd.start()
    yield etcd
    etcd.kill()


@pytest.fixture(params=["sqlite", "etcd"])
async def each_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """One store and then the other, for modules whose tests are to hold over both."""
    if request.param == "sqlite":
        file = SqliteStore.open(tmp_path / "state.db")
        yield file
        await file.close()
        return
    etcd: EtcdServer = request.getfixturevalue("one_etcd")
    shared = await EtcdStore.open([etcd.endpoint], prefix=f"/{uuid.uuid4()}")
    yield shared
    await shared.close()


@pytest.fixture
async def cluster(pki: Path, store: Store) -> AsyncIterator[Cluster]:
    server = ApiServer(options_for(pki), store)
    try:
        await server.start()
        made = Cluster(server, store, pki)
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await made.request("POST", "/api/v1/namespaces/default/serviceaccounts", account)
        yield made
    finally:
        await server.stop(0.2)


@pytest.fixture
async def hooks(pki: Path) -> AsyncIterator[Hooks]:
    """A server of webhooks, which the test tells what to answer."""
    made = Hooks(pki)
    runner = await made.start()
    try:
        yield made
    finally:
        made.slow.set()
        await runner.cleanup()


def config_map(name: str, **data: str) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str, **spec: Any) -> Obj:
    containers = [{"name": "main", "image": "busybox"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": containers, **spec},
    }
