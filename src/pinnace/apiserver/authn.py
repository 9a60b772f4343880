"""Who is calling: client certificates, static tokens, service account tokens.

What a credential says is remembered, so that a request costs a dictionary look-up: certificates by their DER for as
long as they are valid, tokens for ten seconds. https://kubernetes.io/docs/reference/access-authn-authz/authentication/.
"""

from __future__ import annotations

import csv
import hashlib
import math
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pinnace.apis.builtin import NEWEST
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.features import FeatureGates
from pinnace.machinery.metrics import Counter, Histogram
from pinnace.wire.http import Request

if TYPE_CHECKING:
    from pinnace.apiserver.front_proxy import FrontProxies

TOKEN_SECONDS = 10.0  # how long a verified token is believed without another look
_HOUR, _DAY = 3600, 86400
LIFETIMES = (
    *(0, _HOUR / 2, _HOUR, 2 * _HOUR, 6 * _HOUR, 12 * _HOUR),
    *(_DAY, 2 * _DAY, 4 * _DAY, 7 * _DAY, 30 * _DAY, 90 * _DAY, 180 * _DAY, 360 * _DAY),
)
"""Seconds that certificates are told apart by, of what is left of their lives."""

REMEMBERED = 10_000  # credentials

_MISSES = (
    "authentication_token_cache_request_duration_seconds",
    "",
    ("status",),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_FETCHES = ("authentication_token_cache_fetch_total", "", ("status",))

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_USER_ID = "1.3.6.1.4.1.57683.2"  # of a certificate's subject
_DIGEST_SINCE = 32  # the minor
_FEATURES = FeatureGates(NEWEST)

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"


@dataclass(frozen=True, slots=True)
class User:
    """Who a request comes from."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict, compare=False)  # for audit events of this credential

    @property
    def is_anonymous(self) -> bool:
        return UNAUTHENTICATED in self.groups


ANONYMOUS = User("system:anonymous", groups=(UNAUTHENTICATED,))


Known = tuple[User, tuple[str, ...]]
"""Whose token it is, and for which of the audiences asked about."""


class TokenVerifier(Protocol):
    def verify(self, token: str) -> User | None:
        """Whose token it is; None when it is not one of ours. Raises ApiError for one that is, but does not hold, and
        `asking.MustAsk` where another server must tell first."""


@runtime_checkable
class AudienceVerifier(Protocol):
    """Knows whom a token is for. Tokens of other verifiers are for this server."""

    def verify_for(self, token: str, audiences: tuple[str, ...]) -> Known | None:
        """`verify` for a token that is to be for one of `audiences`."""


class Authenticator:
    """Tries the ways in, the certificate first, then who knows tokens, in order."""

    def __init__(
        self,
        static: Mapping[str, User],
        verifiers: Sequence[TokenVerifier],
        anonymous: Anonymous,
        front_proxies: FrontProxies | None = None,
        features: FeatureGates = _FEATURES,
    ) -> None:
        self._front_proxies = front_proxies
        self._static = static
        self._verifiers = tuple(verifiers)
        self._anonymous = anonymous
        self._features = features
        self._by_header: dict[str, tuple[User, float]] = {}  # Authorization header -> user, believed until
        self._by_certificate: dict[bytes, _Certificate] = {}  # by DER
        self.token_hits = 0  # bearer tokens that were remembered
        self.token_misses = Histogram(*_MISSES)
        self.token_fetches = Counter(*_FETCHES)
        self.lifetimes = [0.0] * (len(LIFETIMES) + 2)  # the sum of seconds left, then how many between two bounds

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
                self.token_hits += 1
                return known[0]
            return self._of_header(header)
        if self._anonymous.allows(request.path):
            return ANONYMOUS
        raise errors.unauthorized()

    def replace(self, verifiers: Sequence[TokenVerifier], anonymous: Anonymous) -> None:
        """Ask others from now on."""
        self._verifiers, self._anonymous = tuple(verifiers), anonymous
        self.forget()

    def forget(self) -> None:
        """Look at every credential again: what it is judged by has changed."""
        self._by_header.clear()
        self.add_up()
        self._by_certificate.clear()

    def add_up(self) -> None:
        """Bring `lifetimes` up to date."""
        for known in self._by_certificate.values():
            known.move(self.lifetimes, 0)

    def of_token(self, token: str) -> User | None:
        """Whose bearer token it is, None for nobody's."""
        user = self._static.get(token)
        if user is not None:
            return user
        for verifier in self._verifiers:
            try:
                user = verifier.verify(token)
            except ApiError:
                continue
            if user is not None:
                return user
        return None

    def review(self, token: str, audiences: tuple[str, ...], own: tuple[str, ...]) -> Known | None:
        """Whose bearer token it is that is for one of `audiences`, None for nobody's; `own` are this server's."""
        for_us = tuple(audience for audience in audiences if audience in own)
        user = self._static.get(token)
        if user is not None and for_us:
            return user, for_us
        for verifier in self._verifiers:
            found: Known | None = None
            try:
                if isinstance(verifier, AudienceVerifier):
                    found = verifier.verify_for(token, audiences)
                elif for_us and (user := verifier.verify(token)) is not None:
                    found = user, for_us
            except ApiError:
                continue
            if found is not None:
                return found
        return None

    def _of_header(self, header: str) -> User:
        scheme, _, token = header.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise errors.unauthorized()
        began = time.perf_counter()
        user = self.of_token(token)
        self.token_misses.observe(time.perf_counter() - began, "miss")
        self.token_fetches.inc("ok" if user is not None else "error")
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
            known = _Certificate(*read_certificate(der, self._features))
            if len(self._by_certificate) >= REMEMBERED:
                self.add_up()
                self._by_certificate.clear()
            self._by_certificate[der] = known
        now = time.time()
        if now >= known.turn:
            known.move(self.lifetimes, now)
        if known.until <= now:
            return None
        known.uses += 1
        known.moments += now
        return known.user if known.user.name else None


class _Certificate:
    """What a client certificate says, and how often it was shown since its lifetime fell below a bound."""

    __slots__ = ("moments", "place", "turn", "until", "user", "uses")

    def __init__(self, user: User, until: float) -> None:
        self.user = user
        self.until = until  # by the wall clock
        self.turn = 0.0  # when what is left of it falls below the next bound
        self.place = 0  # of the bounds, the one above what is left
        self.uses = 0
        self.moments = 0.0  # the sum of when

    def move(self, lifetimes: list[float], now: float) -> None:
        """Add its uses to the lifetimes and begin anew, at the bound that holds now."""
        if self.uses:
            lifetimes[0] += self.uses * self.until - self.moments
            lifetimes[1 + self.place] += self.uses
            self.uses, self.moments = 0, 0.0
        if now >= self.turn:
            self.place = bisect_left(LIFETIMES, self.until - now)
            self.turn = self.until - LIFETIMES[self.place - 1] if self.place else math.inf


@dataclass(frozen=True, slots=True)
class Anonymous:
    """Whether one may come without credentials: everywhere, or to certain paths alone."""

    enabled: bool = True
    paths: frozenset[str] | None = None  # None: all

    def allows(self, path: str) -> bool:
        return self.enabled and (self.paths is None or path in self.paths)


def read_certificate(der: bytes, features: FeatureGates = _FEATURES) -> tuple[User, float]:
    """The user a client certificate names (CN, and O as groups), and until when. The wire has verified its chain."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID, ObjectIdentifier

    certificate = x509.load_der_x509_certificate(der)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = [str(item.value) for item in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    name = str(names[0].value) if names else ""
    uid = ObjectIdentifier(_USER_ID)
    has_uid = features.enabled("AllowParsingUserUIDFromCertAuth")
    uids = certificate.subject.get_attributes_for_oid(uid) if has_uid else []
    extra = (
        {CREDENTIAL_ID: (f"X509SHA256={hashlib.sha256(der).hexdigest()}",)} if features.minor >= _DIGEST_SINCE else {}
    )
    user = User(name, str(uids[0].value) if uids else "", (*groups, AUTHENTICATED), extra)
    return user, certificate.not_valid_after_utc.timestamp()


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
