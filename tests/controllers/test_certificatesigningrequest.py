"""Nodes get their certificates, others what their signer allows, and old requests are forgotten."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pinnace.apis.resources import CERTIFICATE_SIGNING_REQUESTS
from pinnace.apiserver.server import ApiServer
from pinnace.client.client import Client
from pinnace.client.transport import JSON, Params
from pinnace.controllers.certificate_authority import CertificateAuthority, KeyPair, SigningError, lifetime
from pinnace.controllers.certificate_requests import (
    API_CLIENT,
    KUBELET_CLIENT,
    KUBELET_SERVING,
    LEGACY_UNKNOWN,
    BadRequest,
    forgotten_in,
    parse,
    problem,
)
from pinnace.controllers.certificatesigningrequest import (
    CsrApprovingController,
    CsrCleanerController,
    CsrSigningController,
)
from pinnace.controllers.manager import every_signer
from pinnace.machinery.meta import Obj, format_time
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import conditions, running
from tests.controllers.test_manager import managing, until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLIENT = ("digital signature", "key encipherment", "client auth")
SERVER = ("digital signature", "key encipherment", "server auth")


@cache
def authority(ends: datetime = datetime(2040, 1, 1, tzinfo=UTC)) -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(made.public_bytes(Encoding.PEM), pem)


@cache
def csr(name: str = "system:node:n1", organization: str = "system:nodes", *sans: Any) -> bytes:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    made = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return made.public_bytes(Encoding.PEM)


DNS, IP = x509.DNSName("n1"), x509.IPAddress(ip_address("10.0.0.1"))
MAIL, URI = x509.RFC822Name("a@example.com"), x509.UniformResourceIdentifier("spiffe://x/y")


def request(pem: bytes | None = None, signer: str = KUBELET_CLIENT, usages: Any = CLIENT, **spec: Any) -> Obj:
    encoded = base64.b64encode(pem if pem is not None else csr()).decode()
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "n1"},
        "spec": {"request": encoded, "signerName": signer, "usages": list(usages), **spec},
    }


@pytest.mark.parametrize(
    ("signer", "pem", "usages", "expected"),
    [
        (KUBELET_CLIENT, csr(), CLIENT, ""),
        (KUBELET_CLIENT, csr(), ("digital signature", "client auth"), ""),
        (KUBELET_CLIENT, csr(organization="x"), CLIENT, "subject organization is not system:nodes"),
        (KUBELET_CLIENT, csr("x"), CLIENT, "subject common name does not begin with system:node:"),
        (KUBELET_CLIENT, csr("system:node:n1", "system:nodes", DNS), CLIENT, "DNS subjectAltNames are not allowed"),
        (KUBELET_CLIENT, csr("system:node:n1", "system:nodes", MAIL), CLIENT, "Email subjectAltNames are not allowed"),
        (KUBELET_CLIENT, csr("system:node:n1", "system:nodes", IP), CLIENT, "IP subjectAltNames are not allowed"),
        (KUBELET_CLIENT, csr("system:node:n1", "system:nodes", URI), CLIENT, "URI subjectAltNames are not allowed"),
        (
            KUBELET_CLIENT,
            csr(),
            SERVER,
            "usages did not match [client auth digital signature key encipherment]",
        ),
        (KUBELET_SERVING, csr("system:node:n1", "system:nodes", DNS, IP), SERVER, ""),
        (KUBELET_SERVING, csr(), SERVER, "DNS or IP subjectAltName is required"),
        (
            KUBELET_SERVING,
            csr("system:node:n1", "system:nodes", DNS, URI),
            SERVER,
            "URI subjectAltNames are not allowed",
        ),
        (API_CLIENT, csr("jane", ""), CLIENT, ""),
        (API_CLIENT, csr("jane", ""), SERVER, "invalid usage for client certificate: server auth"),
        (
            API_CLIENT,
            csr("jane", ""),
            ("digital signature",),
            "missing required usage for client certificate: client auth",
        ),
        (LEGACY_UNKNOWN, csr("anything", "at all", URI), ("code signing",), ""),
    ],
)
def test_what_signers_demand(signer: str, pem: bytes, usages: tuple[str, ...], expected: str) -> None:
    assert problem(signer, parse(request(pem)), usages) == expected


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END"])
def test_what_is_no_request_is_refused(pem: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(request(pem))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(None, 86400), (3600, 3600), (60, 600), (10**9, 86400)],
)
def test_how_long_a_certificate_lives(asked: int | None, expected: int) -> None:
    assert lifetime(asked, timedelta(days=1)) == timedelta(seconds=expected)


def test_a_certificate_says_what_was_asked_for() -> None:
    parsed = parse(request(csr("system:node:n1", "system:nodes", DNS, IP)))
    pem = CertificateAuthority(authority()).sign(parsed, SERVER, timedelta(days=1), NOW)
    made = x509.load_pem_x509_certificate(pem)
    assert made.subject == parsed.subject
    assert (made.not_valid_before_utc, made.not_valid_after_utc) == (
        NOW - timedelta(minutes=5),
        NOW + timedelta(days=1) - timedelta(minutes=5),
    )
    found = {extension.oid: extension for extension in made.extensions}
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [DNS, IP]
    usage = made.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (True, True, False)
    purposes = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert x509.AuthorityKeyIdentifier.oid in found
    made.verify_directly_issued_by(x509.load_pem_x509_certificate(authority().certificate))


@pytest.mark.parametrize(
    ("valid", "ends"),
    [
        (timedelta(hours=1), NOW + timedelta(hours=1)),
        (timedelta(hours=9), NOW + timedelta(hours=9) - timedelta(minutes=5)),
        (timedelta(days=3), NOW + timedelta(days=2)),
    ],
)
def test_no_certificate_outlives_its_authority(valid: timedelta, ends: datetime) -> None:
    signer = CertificateAuthority(authority(NOW + timedelta(days=2)))
    made = x509.load_pem_x509_certificate(signer.sign(parse(request()), CLIENT, valid, NOW))
    assert made.not_valid_after_utc == ends


def test_what_cannot_be_signed() -> None:
    with pytest.raises(SigningError, match="the signer has expired"):
        CertificateAuthority(authority(NOW)).sign(parse(request()), CLIENT, timedelta(1), NOW + timedelta(1))
    with pytest.raises(SigningError, match="unrecognized usage values"):
        CertificateAuthority(authority()).sign(parse(request()), ("flying",), timedelta(1), NOW)


def answered(kind: str, ago: float, *, certificate: bool = False) -> Obj:
    made = {**request(), "status": {}}
    made["metadata"] = {"name": "n1", "creationTimestamp": format_time(NOW - timedelta(days=9))}
    moment = format_time(NOW - timedelta(seconds=ago))
    made["status"]["conditions"] = [{"type": kind, "status": "True", "lastUpdateTime": moment}]
    if certificate:
        pem = CertificateAuthority(authority()).sign(parse(request()), CLIENT, timedelta(minutes=50), NOW)
        made["status"]["certificate"] = base64.b64encode(pem).decode()
    return made


def waiting(ago: float) -> Obj:
    made = request()
    made["metadata"]["creationTimestamp"] = format_time(NOW - timedelta(seconds=ago))
    return made


@pytest.mark.parametrize(
    ("made", "after", "left"),
    [
        (waiting(3600), 0, 23 * 3600),
        (waiting(86400), 0, 0),
        (answered("Denied", 600), 0, 3000),
        (answered("Failed", 3600), 0, 0),
        (answered("Approved", 7200), 0, 3600),
        (answered("Approved", 2400, certificate=True), 0, 1200),
        (answered("Approved", 0, certificate=True), 0, 3000),
        (answered("Approved", 0, certificate=True), 3001, 0),
    ],
)
def test_when_requests_are_forgotten(made: Obj, after: float, left: float) -> None:
    assert forgotten_in(made, NOW + timedelta(seconds=after)) == left


# The controllers.


class AuthorizingApi(FakeApi):
    """The fake API, where some may ask for certificates."""

    def __init__(self, *allowed: str) -> None:
        super().__init__()
        self.allowed = allowed
        self.reviewed: list[Obj] = []

    async def request(
        self, method: str, path: str, *, params: Params | None = None, body: Any = None, content_type: str = JSON
    ) -> Obj:
        if not path.endswith("subjectaccessreviews"):
            if path.endswith("/approval"):
                path = path.removesuffix("/approval") + "/status"
            return await super().request(method, path, params=params, body=body, content_type=content_type)
        self.reviewed.append(body["spec"])
        asked = body["spec"]["resourceAttributes"]
        return {**body, "status": {"allowed": asked["subresource"] in self.allowed}}


@pytest.mark.parametrize(
    ("allowed", "user", "message"),
    [
        (("nodeclient",), "system:bootstrap:abcdef", "Auto approving kubelet client certificate after"),
        (("selfnodeclient",), "system:node:n1", "Auto approving self kubelet client certificate after"),
        (("nodeclient",), "system:node:n1", "Auto approving kubelet client certificate after"),
    ],
)
async def test_a_node_is_approved(allowed: tuple[str, ...], user: str, message: str) -> None:
    api = AuthorizingApi(*allowed)
    async with running(api, CsrApprovingController):
        await api.client.create(CERTIFICATE_SIGNING_REQUESTS, request(username=user, groups=["g"]))
        await api.until(lambda: conditions(api.find(CERTIFICATE_SIGNING_REQUESTS, "n1")))
    found = conditions(api.find(CERTIFICATE_SIGNING_REQUESTS, "n1"))
    assert found == {"Approved": ("True", "AutoApproved", f"{message} SubjectAccessReview.")}
    assert (api.reviewed[0]["user"], api.reviewed[0]["groups"]) == (user, ["g"])


@pytest.mark.parametrize(
    "made",
    [
        request(username="stranger"),
        request(csr("x"), username="system:node:n1"),
        request(signer=API_CLIENT, username="system:node:n1"),
    ],
)
async def test_others_are_left_to_people(made: Obj) -> None:
    api = AuthorizingApi("selfnodeclient")
    await api.client.create(CERTIFICATE_SIGNING_REQUESTS, made)
    async with running(api, CsrApprovingController) as (controller,):
        await controller.reconcile("n1")
    assert conditions(api.find(CERTIFICATE_SIGNING_REQUESTS, "n1")) == {}


def signing(client: Any, informers: Any) -> CsrSigningController:
    return CsrSigningController(client, informers, authorities=every_signer(authority()), duration=timedelta(days=1))


APPROVED = {"conditions": [{"type": "Approved", "status": "True"}]}


async def test_what_is_approved_is_signed_once() -> None:
    api = FakeApi()
    await api.client.create(CERTIFICATE_SIGNING_REQUESTS, request(expirationSeconds=3600))
    async with running(api, signing):
        await api.set_status(CERTIFICATE_SIGNING_REQUESTS, "n1", APPROVED)
        status = await api.until(
            lambda: (api.find(CERTIFICATE_SIGNING_REQUESTS, "n1") or {})["status"].get("certificate")
        )
    made = x509.load_pem_x509_certificate(base64.b64decode(status))
    assert made.not_valid_after_utc - made.not_valid_before_utc == timedelta(minutes=65)


async def test_what_breaks_the_signers_rules_fails() -> None:
    api = FakeApi()
    await api.client.create(CERTIFICATE_SIGNING_REQUESTS, request(usages=SERVER))
    async with running(api, signing):
        await api.set_status(CERTIFICATE_SIGNING_REQUESTS, "n1", APPROVED)
        await api.until(lambda: "Failed" in conditions(api.find(CERTIFICATE_SIGNING_REQUESTS, "n1")))
    words = "usages did not match [client auth digital signature key encipherment]"
    found = conditions(api.find(CERTIFICATE_SIGNING_REQUESTS, "n1"))
    assert found["Failed"] == ("True", "SignerValidationFailure", words)


async def test_an_old_request_goes() -> None:
    api = FakeApi()
    old = request()
    old["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    await api.client.create(CERTIFICATE_SIGNING_REQUESTS, old)
    async with running(api, CsrCleanerController):
        await api.until(lambda: not api.all(CERTIFICATE_SIGNING_REQUESTS))


async def test_through_the_api(server: ApiServer, client: Client) -> None:
    """What is written is what the API server takes."""
    async with managing(server, signing=every_signer(authority())):
        await client.create(CERTIFICATE_SIGNING_REQUESTS, request())

        def certificate(found: list[Obj]) -> Any:
            return [one for one in found if (one.get("status") or {}).get("certificate")]

        (done,) = await until(client, CERTIFICATE_SIGNING_REQUESTS, certificate, "")
        assert conditions(done)["Approved"][1] == "AutoApproved"
