"""What a kubelet asks for in a CertificateSigningRequest: to be its node to others, or to serve under its names; pure.

Specified by https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pinnace.kubelet.certificates.lives import CLIENT_SIGNER, SERVING_SIGNER
from pinnace.machinery.meta import Obj, get_in


@dataclass(frozen=True, slots=True)
class Wanted:
    """A certificate to ask for; `names` are DNS names and addresses that it is to be good for."""

    signer: str
    node_name: str
    usages: tuple[str, ...]
    names: tuple[str, ...] = ()


def client_certificate(node_name: str) -> Wanted:
    """By it the kubelet is its node to the API server."""
    return Wanted(CLIENT_SIGNER, node_name, ("digital signature", "client auth"))


def serving_certificate(node_name: str, names: Iterable[str]) -> Wanted:
    """The API server knows the kubelet by it."""
    return Wanted(SERVING_SIGNER, node_name, ("digital signature", "server auth"), tuple(dict.fromkeys(names)))


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def signing_request(key: ec.EllipticCurvePrivateKey, wanted: Wanted) -> bytes:
    """PEM of the PKCS #10 request."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{wanted.node_name}"),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder(subject)
    if wanted.names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_name(one) for one in wanted.names]), critical=False
        )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def request_object(wanted: Wanted, request: bytes) -> Obj:
    """The CertificateSigningRequest."""
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "csr-"},
        "spec": {
            "request": base64.b64encode(request).decode(),
            "signerName": wanted.signer,
            "usages": list(wanted.usages),
        },
    }


class Refused(Exception):
    """The request was denied, or its signer failed."""


def issued(request: Obj) -> bytes | None:
    """PEM of the certificate; None while nobody has decided. Raises Refused."""
    for condition in get_in(request, "status", "conditions", default=[]):
        if condition.get("type") == "Denied":
            raise Refused(f"certificate signing request was denied: {condition.get('message') or ''}")
        if condition.get("type") == "Failed":
            raise Refused(f"certificate signing request failed: {condition.get('message') or ''}")
    encoded = get_in(request, "status", "certificate")
    return base64.b64decode(encoded) if encoded else None


def renewal(begins: datetime, ends: datetime, chance: float) -> datetime:
    """When a certificate is to be renewed: at 70 to 90 % of its time, `chance` from 0 to 1 says where between."""
    return begins + (ends - begins) * (0.7 + 0.2 * chance)


def lifetime(pem: bytes) -> tuple[datetime, datetime]:
    """From when until when the first certificate holds. Raises ValueError."""
    found = x509.load_pem_x509_certificate(pem)
    return found.not_valid_before_utc, found.not_valid_after_utc


def good_for(pem: bytes, names: Iterable[str]) -> bool:
    """Whether the certificate has all of the names. Raises ValueError."""
    try:
        extension = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return not list(names)
    has = {str(value) for kind in (x509.DNSName, x509.IPAddress) for value in extension.value.get_values_for_type(kind)}
    return set(names) <= has
