"""The cluster's certificate authority and every certificate it signs, as files.

Names, subjects and usages are those of kubeadm (https://kubernetes.io/docs/setup/best-practices/certificates/); keys
are ECDSA P-256. What exists, is valid and says the right thing is kept: a CA is never replaced silently, a leaf is
signed anew when it expires within the month or its names changed.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=1095)
RENEW_BEFORE = timedelta(days=30)

PrivateKey = ec.EllipticCurvePrivateKey


class PkiError(Exception):
    """A file of the PKI is missing its twin, unreadable, or not what its name says; the message names the file."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a certificate should say."""

    name: str  # file name without .crt/.key
    common_name: str
    organizations: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # DNS names and IP addresses
    server: bool = False
    client: bool = False


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that can sign."""

    certificate: x509.Certificate
    key: PrivateKey
    file: Path


def ensure_authority(directory: Path, name: str, common_name: str, now: datetime) -> Authority:
    """Load `<name>.crt` and `<name>.key`, or make them where neither exists. Raises PkiError for half a pair."""
    cert_file, key_file = directory / f"{name}.crt", directory / f"{name}.key"
    if cert_file.exists() != key_file.exists():
        missing, present = (cert_file, key_file) if key_file.exists() else (key_file, cert_file)
        raise PkiError(f"{missing} is missing while {present} exists")
    if cert_file.exists():
        certificate = load_certificate(cert_file)
        if certificate.not_valid_after_utc <= now:
            raise PkiError(f"{cert_file} expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
        return Authority(certificate, load_key(key_file), cert_file)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(common_name, ())
    certificate = (
        _builder(subject, subject, key.public_key(), now, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    # The key first: a certificate whose key was lost to a crash would be half a pair for ever.
    write_pair(cert_file, certificate, key_file, key)
    return Authority(certificate, key, cert_file)


def ensure_leaf(directory: Path, authority: Authority, leaf: Leaf, now: datetime) -> Path:
    """Make sure that `<name>.crt` and `.key` are there, signed by `authority` and saying what `leaf` says; its path."""
    cert_file, key_file = directory / f"{leaf.name}.crt", directory / f"{leaf.name}.key"
    if cert_file.exists() and key_file.exists() and _still_good(load_certificate(cert_file), authority, leaf, now):
        return cert_file
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.SERVER_AUTH] if leaf.server else []
    if leaf.client:
        usages.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    subject = _subject(leaf.common_name, leaf.organizations)
    builder = (
        _builder(subject, authority.certificate.subject, key.public_key(), now, LEAF_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(_authority_key(authority), critical=False)
    )
    if leaf.names:
        builder = builder.add_extension(x509.SubjectAlternativeName(_general_names(leaf.names)), critical=False)
    write_pair(cert_file, builder.sign(authority.key, hashes.SHA256()), key_file, key)
    return cert_file


def ensure_signing_key(directory: Path, name: str = "sa") -> Path:
    """The key pair that signs service account tokens: `sa.key` and `sa.pub`; the path of the private half."""
    key_file, public_file = directory / f"{name}.key", directory / f"{name}.pub"
    key = load_key(key_file) if key_file.exists() else ec.generate_private_key(ec.SECP256R1())
    if not key_file.exists():
        write_file(key_file, _key_bytes(key), 0o600)
    if not public_file.exists():
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        write_file(public_file, public, 0o644)
    return key_file


def load_certificate(file: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        raise PkiError(f"{file} is not a readable certificate: {error}") from error


def load_key(file: Path) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise PkiError(f"{file} is not a readable private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{file} is not an ECDSA key")
    return key


def write_pair(cert_file: Path, certificate: x509.Certificate, key_file: Path, key: PrivateKey) -> None:
    write_file(key_file, _key_bytes(key), 0o600)
    write_file(cert_file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def write_file(file: Path, content: bytes, mode: int) -> None:
    """Replace `file` in one step: a crash leaves the old content or the new, and never a readable private key."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(file)


def _still_good(certificate: x509.Certificate, authority: Authority, leaf: Leaf, now: datetime) -> bool:
    if certificate.not_valid_after_utc - RENEW_BEFORE <= now:
        return False
    if certificate.subject != _subject(leaf.common_name, leaf.organizations):
        return False
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except Exception:  # cryptography raises three unrelated kinds here, and all mean: not ours
        return False
    return _names_in(certificate) == set(_general_names(leaf.names))


def _names_in(certificate: x509.Certificate) -> set[x509.GeneralName]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return set()


def _general_names(names: Iterable[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _subject(common_name: str, organizations: Iterable[str]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization) for organization in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks of joining machines differ
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _authority_key(authority: Authority) -> x509.AuthorityKeyIdentifier:
    extension = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(extension.value)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_bytes(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
