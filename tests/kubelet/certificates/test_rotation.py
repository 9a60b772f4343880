"""Certificates of the kubelet: what is asked for, where they are kept, when they are renewed, who uses them."""

from __future__ import annotations

import asyncio
import base64
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pinnace.apis.resources import CERTIFICATE_SIGNING_REQUESTS
from pinnace.client.https import HttpsTransport
from pinnace.client.kubeconfig import Connection
from pinnace.kubelet.certificates import requests
from pinnace.kubelet.certificates.rotation import Rotation, still_holds
from pinnace.kubelet.certificates.store import CertificateStore, Pair
from pinnace.machinery.meta import name_of

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


class Signer:
    """An authority that signs what it is given."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])

    def sign(self, request: x509.CertificateSigningRequest, begins: datetime = NOW, days: float = 10) -> bytes:
        builder = x509.CertificateBuilder(
            self.name, request.subject, request.public_key(), 7, begins, begins + timedelta(days=days)
        )
        for extension in request.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def pair(self, wanted: requests.Wanted, begins: datetime = NOW, days: float = 10) -> Pair:
        key = requests.new_key()
        request = x509.load_pem_x509_csr(requests.signing_request(key, wanted))
        return Pair(self.sign(request, begins, days), requests.key_pem(key))


CLIENT = requests.client_certificate("n1")
SERVING = requests.serving_certificate("n1", ["n1.example", "192.0.2.7"])


def test_what_is_asked_for():
    request = x509.load_pem_x509_csr(requests.signing_request(requests.new_key(), SERVING))
    assert request.subject.rfc4514_string() == "CN=system:node:n1,O=system:nodes"
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1.example"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]
    made = requests.request_object(CLIENT, b"pem")
    assert made["spec"]["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet"
    assert made["spec"]["usages"] == ["digital signature", "client auth"]
    assert base64.b64decode(made["spec"]["request"]) == b"pem"
    assert not list(x509.load_pem_x509_csr(requests.signing_request(requests.new_key(), CLIENT)).extensions)


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ({}, None),
        ({"conditions": [{"type": "Approved"}]}, None),
        ({"conditions": [{"type": "Approved"}], "certificate": "cGVt"}, b"pem"),
    ],
)
def test_what_was_issued(status, found):
    assert requests.issued({"status": status}) == found


@pytest.mark.parametrize("kind", ["Denied", "Failed"])
def test_what_was_refused(kind):
    with pytest.raises(requests.Refused, match="no such node"):
        requests.issued({"status": {"conditions": [{"type": kind, "message": "no such node"}]}})


@pytest.mark.parametrize(("chance", "days"), [(0.0, 7.0), (0.5, 8.0), (1.0, 9.0)])
def test_renewal_is_due_at_seventy_to_ninety_percent(chance, days):
    assert requests.renewal(NOW, NOW + timedelta(days=10), chance) == NOW + timedelta(days=days)


def test_a_certificate_that_has_ended_does_not_hold():
    pair = Signer().pair(CLIENT)
    assert still_holds(pair.certificate, NOW + timedelta(days=9))
    assert not still_holds(pair.certificate, NOW + timedelta(days=11))
    assert not still_holds(b"nothing", NOW)


def test_pairs_on_disk(tmp_path):
    store, signer = CertificateStore(tmp_path / "pki", "kubelet-client"), Signer()
    assert store.current() is None
    first, second = signer.pair(CLIENT), signer.pair(CLIENT)
    store.update(first, NOW)
    assert store.current() == first
    store.update(second, NOW + timedelta(days=1))
    assert store.current() == second
    assert store.path.readlink().name == "kubelet-client-2026-02-01-12-00-00.pem"
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert sorted(one.name for one in (tmp_path / "pki").iterdir()) == [
        "kubelet-client-2026-01-31-12-00-00.pem",
        "kubelet-client-2026-02-01-12-00-00.pem",
        "kubelet-client-current.pem",
    ]


def test_a_broken_file_is_none(tmp_path):
    store = CertificateStore(tmp_path, "kubelet-client")
    store.path.write_text("-----BEGIN CERTIFICATE-----\n")
    assert store.current() is None


async def decided(api, signer: Signer, *, denied: bool = False) -> str:
    """Wait for a request nobody has decided, and decide; its name."""

    def waiting():
        return [one for one in api.all(CERTIFICATE_SIGNING_REQUESTS) if not one.get("status")]

    await api.until(waiting)
    (request,) = waiting()
    asked = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"]))
    status = {"conditions": [{"type": "Denied", "status": "True", "message": "no"}]}
    if not denied:
        certificate = base64.b64encode(signer.sign(asked)).decode()
        status = {"conditions": [{"type": "Approved", "status": "True"}], "certificate": certificate}
    await api.client.update(CERTIFICATE_SIGNING_REQUESTS, {**request, "status": status})
    return name_of(request)


async def test_a_certificate_is_asked_for_waited_for_and_used(api, tmp_path):
    store, signer, used = CertificateStore(tmp_path, "kubelet-client"), Signer(), []
    rotation = Rotation(api.client, store, CLIENT, used.append, now=lambda: NOW)
    task = asyncio.create_task(rotation.renew())
    await decided(api, signer)
    async with asyncio.timeout(30):
        pair = await task
    assert used == [pair]
    assert store.current() == pair
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(store.path)  # certificate and key belong together


async def test_another_is_asked_for_where_one_is_refused(api, tmp_path, monkeypatch):
    monkeypatch.setattr("pinnace.kubelet.certificates.rotation._FIRST_PAUSE", 0.0)
    rotation = Rotation(api.client, CertificateStore(tmp_path, "c"), CLIENT, now=lambda: NOW)
    task = asyncio.create_task(rotation.renew())
    signer = Signer()
    first = await decided(api, signer, denied=True)
    second = await decided(api, signer)
    assert first != second
    async with asyncio.timeout(30):
        await task


@pytest.mark.parametrize(
    ("made", "due"),
    [
        (lambda _: None, None),
        (lambda signer: signer.pair(SERVING), NOW + timedelta(days=8)),
        (lambda signer: signer.pair(requests.serving_certificate("n1", ["192.0.2.7"])), None),
        (lambda signer: signer.pair(CLIENT), None),
    ],
)
def test_a_certificate_without_the_names_is_renewed_at_once(made, due, tmp_path, api):
    store = CertificateStore(tmp_path, "kubelet-server")
    pair = made(Signer())
    if pair is not None:
        store.update(pair, NOW)
    assert Rotation(api.client, store, SERVING, now=lambda: NOW, chance=lambda: 0.5).due() == due


def test_a_stopgap_is_none(tmp_path, api):
    store, pair = CertificateStore(tmp_path, "kubelet-server"), Signer().pair(SERVING)
    store.update(pair, NOW)
    assert Rotation(api.client, store, SERVING, now=lambda: NOW, stopgap=pair.certificate).due() is None
    assert Rotation(api.client, store, SERVING, now=lambda: NOW, stopgap=b"another").due() is not None


async def test_it_is_renewed_before_it_ends(api, tmp_path):
    store, signer = CertificateStore(tmp_path, "kubelet-client"), Signer()
    old = signer.pair(CLIENT, NOW - timedelta(days=9.5))
    store.update(old, NOW)
    renewed = asyncio.Event()
    rotation = Rotation(api.client, store, CLIENT, lambda _: renewed.set(), now=lambda: NOW, chance=lambda: 0.0)
    task = asyncio.create_task(rotation.run())
    await decided(api, signer)
    async with asyncio.timeout(30):
        await renewed.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert store.current() != old
    assert rotation.due() == NOW + timedelta(days=7)


async def test_a_client_shows_the_new_one_on_new_connections(tmp_path: Path):
    """A server notes whom it sees, before and after."""
    signer = Signer()
    authority = x509.CertificateBuilder(
        signer.name, signer.name, signer.key.public_key(), 1, NOW, NOW + timedelta(days=9999)
    )
    ca = authority.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    (tmp_path / "ca.pem").write_bytes(ca.sign(signer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    server, first, second = (
        signer.pair(requests.serving_certificate(name, ["127.0.0.1"]), NOW, 9000) for name in ("s", "one", "two")
    )
    (tmp_path / "server.pem").write_bytes(server.certificate + server.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tmp_path / "server.pem")
    seen = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        subject = dict(pair[0] for pair in writer.get_extra_info("peercert")["subject"])
        seen.append(subject["commonName"])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    transport = HttpsTransport(
        Connection(f"https://127.0.0.1:{port}", ca=(tmp_path / "ca.pem").read_bytes(), **_shown(first))
    )
    try:
        await transport.request("GET", "/")
        transport.show(second.certificate, second.key)
        await transport.request("GET", "/")
    finally:
        await transport.close()
        listening.close()
    assert seen == ["system:node:one", "system:node:two"]


def _shown(pair: Pair) -> dict[str, bytes]:
    return {"certificate": pair.certificate, "key": pair.key}
