"""Front proxies: servers that say whose request they pass on, believed for the certificate they show.

Only a certificate that the front-proxy authority itself has signed makes `X-Remote-User` and its fellows count, and
such a certificate is nobody's own. https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pinnace.apiserver.authn import AUTHENTICATED, User
from pinnace.apiserver.reloading import stamp
from pinnace.wire.http import Request, lines_of

REMEMBERED = 1000  # certificates


@dataclass(frozen=True, slots=True)
class ProxyHeaders:
    """Where front proxies say who asks: names of headers in lower case, the first that says something counts."""

    username: tuple[str, ...] = ("x-remote-user",)
    uid: tuple[str, ...] = ("x-remote-uid",)
    groups: tuple[str, ...] = ("x-remote-group",)  # all of which count
    extra: tuple[str, ...] = ("x-remote-extra-",)  # prefixes


_HEADERS = ProxyHeaders()


def _first(request: Request, names: tuple[str, ...]) -> str:
    return next(filter(None, (request.headers.get(name, "") for name in names)), "")


class FrontProxies:
    """Which certificates are front proxies', and who they speak for."""

    def __init__(
        self,
        ca_file: Path,
        client_ca_file: Path | None,
        allowed_names: tuple[str, ...],
        headers: ProxyHeaders = _HEADERS,
    ) -> None:
        """Raises OSError or ValueError for files that cannot be used."""
        self._files = (ca_file, client_ca_file)
        self._allowed = allowed_names
        self._headers = headers
        self._read()
        self._known: dict[bytes, tuple[bool, bool]] = {}

    def _read(self) -> None:
        ca_file, client_ca_file = self._files
        self._stamps = self._now()
        self._authorities = _certificates(ca_file)
        self._client_authorities = _certificates(client_ca_file) if client_ca_file is not None else []

    def _now(self) -> list[tuple[int, int, int]]:
        return [stamp(file) for file in self._files if file is not None]

    def user_of(self, request: Request) -> User | None:
        """Who a front proxy speaks for; None where no front proxy speaks, or for nobody."""
        told = self._headers
        name = _first(request, told.username)
        der = request.peer.certificate
        if not name or der is None or not self._judge(der)[0]:
            return None
        groups = tuple(
            filter(None, (one for header in told.groups for one in lines_of(request.headers.get(header, ""))))
        )
        extra: dict[str, tuple[str, ...]] = {}
        for header, value in request.headers.items():
            prefix = next(filter(header.startswith, told.extra), None)
            if prefix is not None:
                key = unquote(header[len(prefix) :])
                extra[key] = (*extra.get(key, ()), *lines_of(value))
        if AUTHENTICATED not in groups:
            groups = (*groups, AUTHENTICATED)
        return User(name, _first(request, told.uid), groups, extra)

    def is_clients_own(self, der: bytes) -> bool:
        """Whether a certificate names its holder: the clients' authority has signed it."""
        return self._judge(der)[1]

    def _judge(self, der: bytes) -> tuple[bool, bool]:
        found = self._known.get(der)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[der] = self._examine(der)
        return found

    def _examine(self, der: bytes) -> tuple[bool, bool]:
        """`(a front proxy's, a client's own)`, by the authorities as they are now."""
        if self._stamps != self._now():
            with contextlib.suppress(OSError, ValueError):  # what cannot be read now is read at the next certificate
                self._read()
        from cryptography import x509
        from cryptography.x509.oid import NameOID

        certificate = x509.load_der_x509_certificate(der)
        names = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        is_proxy = _is_signed(certificate, self._authorities)
        allowed = not self._allowed or any(name in self._allowed for name in names)
        return is_proxy and allowed, _is_signed(certificate, self._client_authorities)


def _certificates(file: Path) -> list[object]:
    from cryptography import x509

    return list(x509.load_pem_x509_certificates(file.read_bytes()))


def _is_signed(certificate: object, authorities: list[object]) -> bool:
    from cryptography.exceptions import InvalidSignature

    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)  # type: ignore[attr-defined]
        except (InvalidSignature, ValueError, TypeError):
            continue
        return True
    return False
