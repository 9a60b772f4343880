"""Signs certificates for those who asked by CertificateSigningRequest, with the key of the cluster.

Pure but for the random serial number. What a certificate says is what was asked for, and nothing of it is believed
beyond what the signer's rules have checked. Specified by
https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.x509 import CertificateSigningRequest

_BACKDATE = timedelta(minutes=5)  # for clocks that are behind
_SHORT = timedelta(hours=8)  # so short a certificate is not cut shorter still
_SHORTEST = timedelta(minutes=10)

_KEY_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
_EXTENDED_USAGES = {  # object identifiers, in the order in which Go writes them
    "any": "2.5.29.37.0",
    "server auth": "1.3.6.1.5.5.7.3.1",
    "client auth": "1.3.6.1.5.5.7.3.2",
    "code signing": "1.3.6.1.5.5.7.3.3",
    "email protection": "1.3.6.1.5.5.7.3.4",
    "s/mime": "1.3.6.1.5.5.7.3.4",
    "ipsec end system": "1.3.6.1.5.5.7.3.5",
    "ipsec tunnel": "1.3.6.1.5.5.7.3.6",
    "ipsec user": "1.3.6.1.5.5.7.3.7",
    "timestamping": "1.3.6.1.5.5.7.3.8",
    "ocsp signing": "1.3.6.1.5.5.7.3.9",
    "microsoft sgc": "1.3.6.1.4.1.311.10.3.3",
    "netscape sgc": "2.16.840.1.113730.4.1",
}


class SigningError(Exception):
    """A request that cannot be signed; the message is Kubernetes' own."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate authority as its files hold it, in PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


def lifetime(asked: int | None, longest: timedelta) -> timedelta:
    """For how long to sign when so many seconds are asked for."""
    if asked is None:
        return longest
    return min(max(timedelta(seconds=asked), _SHORTEST), longest)


class CertificateAuthority:
    """Signs with one key."""

    def __init__(self, pair: KeyPair) -> None:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        from cryptography.x509 import load_pem_x509_certificate

        self._certificate = load_pem_x509_certificate(pair.certificate)
        self._key: Any = load_pem_private_key(pair.key, None)

    def sign(self, csr: CertificateSigningRequest, usages: Iterable[str], valid: timedelta, now: datetime) -> bytes:
        """The certificate in PEM. Raises SigningError."""
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding

        begins, last = now - _BACKDATE, self._certificate.not_valid_after_utc
        if begins >= last:
            raise SigningError(f"the signer has expired: NotAfter={last}")
        if now >= last:
            raise SigningError("refusing to sign a certificate that expired in the past")
        if not csr.is_signature_valid:
            raise SigningError("unable to verify certificate request signature")
        ends = min((now if valid < _SHORT else begins) + valid, last)
        builder = (
            x509.CertificateBuilder()
            .subject_name(csr.subject)
            .issuer_name(self._certificate.subject)
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )
        for extension, critical in self._extensions(csr, usages):
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, self._digest()).public_bytes(Encoding.PEM)

    def _extensions(self, csr: CertificateSigningRequest, usages: Iterable[str]) -> list[tuple[Any, bool]]:
        from cryptography import x509

        usages = list(usages)
        unknown = [usage for usage in usages if usage not in _KEY_USAGES and usage not in _EXTENDED_USAGES]
        if unknown:
            raise SigningError(f"unrecognized usage values: [{' '.join(unknown)}]")
        bits = dict.fromkeys(_KEY_USAGES.values(), False)
        bits |= {_KEY_USAGES[usage]: True for usage in usages if usage in _KEY_USAGES}
        bits["key_agreement"] = bits["key_agreement"] or bits["encipher_only"] or bits["decipher_only"]
        found: list[tuple[Any, bool]] = []
        if any(bits.values()):
            found.append((x509.KeyUsage(**bits), True))
        purposes = dict.fromkeys(oid for usage, oid in _EXTENDED_USAGES.items() if usage in usages)
        if purposes:
            found.append((x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in purposes]), False))
        found.append((x509.BasicConstraints(ca=False, path_length=None), True))
        try:
            mine = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            found.append((x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(mine), False))
        except x509.ExtensionNotFound:
            pass
        try:
            names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            found.append((names, not list(csr.subject)))
        except x509.ExtensionNotFound:
            pass
        return found

    def _digest(self) -> Any:
        """Keys of the Edwards curves bring a digest of their own."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, rsa

        return hashes.SHA256() if isinstance(self._key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)) else None
