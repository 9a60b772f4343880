"""Who is calling: client certificates, static tokens, service account tokens.

What a credential says is remembered, so that a request costs a dictionary look-up: certificates by their DER for as
long as they are valid, tokens for ten seconds. https://kubernetes.io/docs/reference/access-authn-authz/authentication/.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.wire.http import Request

if TYPE_CHECKING:
    from pinnace.apiserver.front_proxy import FrontProxies

TOKEN_SECONDS = 10.0  # how long a verified token is believed without another look
REMEMBERED = 10_000  # credentials

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"


@dataclass(frozen=True, slots=True)
class User:
    """Who a request comes from."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_anonymous(self) -> bool:
        return UNAUTHENTICATED in self.groups


ANONYMOUS = User("system:anonymous", groups=(UNAUTHENTICATED,))


class TokenVerifier(Protocol):
    def verify(self, token: str) -> User | None:
        """Whose token it is; None when it is not one of ours. Raises ApiError for one that is, but does not hold."""


class Authenticator:
    """Tries the ways in, the certificate first."""

    def __init__(
        self,
        static: Mapping[str, User],
        verifier: TokenVerifier | None,
        anonymous: bool,
        front_proxies: FrontProxies | None = None,
    ) -> None:
        self._front_proxies = front_proxies
        self._static = static
        self._verifier = verifier
        self._anonymous = anonymous
        self._by_header: dict[str, tuple[User, float]] = {}  # Authorization header -> user, believed until
        self._by_certificate: dict[bytes, tuple[User, float]] = {}  # DER -> user, valid until (wall clock)

    def authenticate(self, request: Request) -> User:
        """The user of `request`. Raises 401 for credentials that do not hold, and for none where anonymous is off."""
        if request.peer.certificate is not None:
            user = self._of_peer(request, request.peer.certificate)
            if user is not None:
                return user
        header = request.headers.get("authorization")
        if header is not None:
            known = self._by_header.get(header)
            if known is not None and known[1] > time.monotonic():
                return known[0]
            return self._of_header(header)
        if self._anonymous:
            return ANONYMOUS
        raise errors.unauthorized()

    def of_token(self, token: str) -> User | None:
        """Whose bearer token it is, None for nobody's."""
        user = self._static.get(token)
        if user is None and self._verifier is not None:
            try:
                user = self._verifier.verify(token)
            except ApiError:
                return None
        return user

    def _of_header(self, header: str) -> User:
        scheme, _, token = header.partition(" ")
        token = token.strip()
        user = self.of_token(token) if scheme.lower() == "bearer" and token else None
        if user is None:
            raise errors.unauthorized()
        if len(self._by_header) >= REMEMBERED:
            self._by_header.clear()
        self._by_header[header] = (user, time.monotonic() + TOKEN_SECONDS)
        return user

    def _of_peer(self, request: Request, der: bytes) -> User | None:
        proxies = self._front_proxies
        if proxies is None:
            return self._of_certificate(der)
        return proxies.user_of(request) or (self._of_certificate(der) if proxies.is_clients_own(der) else None)

    def _of_certificate(self, der: bytes) -> User | None:
        known = self._by_certificate.get(der)
        if known is None:
            known = read_certificate(der)
            if len(self._by_certificate) >= REMEMBERED:
                self._by_certificate.clear()
            self._by_certificate[der] = known
        user, until = known
        return user if user.name and until > time.time() else None


def read_certificate(der: bytes) -> tuple[User, float]:
    """The user a client certificate names (CN, and O as groups), and until when. The wire has verified its chain."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    certificate = x509.load_der_x509_certificate(der)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = [str(item.value) for item in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    name = str(names[0].value) if names else ""
    return User(name, groups=(*groups, AUTHENTICATED)), certificate.not_valid_after_utc.timestamp()


def read_token_file(path: Path) -> dict[str, User]:
    """`token,user,uid,"group1,group2"` a line. Raises ValueError naming the line that is not of this form."""
    users: dict[str, User] = {}
    with path.open(newline="") as file:
        for number, row in enumerate(csv.reader(file, skipinitialspace=True), 1):
            if not row or row[0].startswith("#"):
                continue
            if len(row) < 3:
                raise ValueError(f"{path}:{number}: expected at least 3 columns (token, user, uid), found {len(row)}")
            groups = tuple(group.strip() for group in row[3].split(",") if group.strip()) if len(row) > 3 else ()
            users[row[0].strip()] = User(row[1].strip(), row[2].strip(), (*groups, AUTHENTICATED))
    return users


def loopback_user(name: str) -> User:
    """A component of this process, by the name it is trusted to have."""
    groups: tuple[str, ...] = (AUTHENTICATED,)
    if name.startswith("system:node:"):
        groups = ("system:nodes", AUTHENTICATED)
    elif name.startswith("system:serviceaccount:"):
        namespace = name.split(":")[2]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
    elif name in ("system:admin", "system:apiserver", "kubernetes-admin"):
        groups = ("system:masters", AUTHENTICATED)
    return User(name, groups=groups)
