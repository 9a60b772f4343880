"""Who asks the kubelet, and whether they may: client certificates, bearer tokens by TokenReview, SubjectAccessReviews.

What a request is called in a review is pure (`attributes`); answers of the API server are kept for a while, so that a
session costs it nothing twice. Specified by
https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from pinnace.apis.resources import SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS
from pinnace.client.client import Client
from pinnace.kubelet.options import KubeletOptions
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj
from pinnace.wire.http import Request

_T = TypeVar("_T")
_KEPT = 1024  # answers, the oldest dropped

_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_SUBRESOURCES = {"stats": "stats", "metrics": "metrics", "logs": "log", "checkpoint": "checkpoint"}
_FINE_GRAINED = ("configz", "healthz", "pods", "runningpods")
_PAGES = ("statusz", "flagz")


class User(NamedTuple):
    """Somebody that was let in."""

    name: str
    groups: tuple[str, ...]
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


class Attributes(NamedTuple):
    """What a request is in a review: any one of the subresources is enough to be allowed."""

    verb: str
    node: str
    subresources: tuple[str, ...]


def attributes(method: str, path: str, node: str, *, fine_grained: bool) -> Attributes:
    """The node's subresource that a path stands for; `proxy`, which allows everything, where it has none of its own."""
    first = path.strip("/").partition("/")[0]
    verb = _VERBS.get(method, "")
    if first in _SUBRESOURCES:
        return Attributes(verb, node, (_SUBRESOURCES[first],))
    if first in _PAGES:
        return Attributes(verb, node, (first, "proxy"))
    if fine_grained and first in _FINE_GRAINED:
        return Attributes(verb, node, ("pods" if first == "runningpods" else first, "proxy"))
    return Attributes(verb, node, ("proxy",))


def forbidden(user: User, asked: Attributes) -> str:
    """What somebody is told that may not."""
    shown = " ".join(asked.subresources)
    return f"Forbidden (user={user.name}, verb={asked.verb}, resource=nodes, subresource(s)=[{shown}])\n"


class _Cache(Generic[_T]):
    """Answers, each for its time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, _T]] = OrderedDict()

    def get(self, key: Hashable) -> _T | None:
        found = self._kept.get(key)
        return found[1] if found is not None and found[0] > self._clock() else None

    def put(self, key: Hashable, value: _T, seconds: float) -> None:
        self._kept.pop(key, None)
        self._kept[key] = (self._clock() + seconds, value)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)


class ServerAuth:
    """Lets requests to one kubelet in, or not."""

    def __init__(self, client: Client, options: KubeletOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._options = options
        self._users: _Cache[User] = _Cache(clock)
        self._certificates: _Cache[User] = _Cache(clock)
        self._verdicts: _Cache[bool] = _Cache(clock)

    async def refusal(self, request: Request) -> tuple[int, str] | None:
        """Status and text for who is not let in; None for the others."""
        if self._options.authorization_mode == "AlwaysAllow" and request.peer.certificate is not None:
            return None
        try:
            user = await self._authenticate(request)
        except ApiError:
            user = None
        if user is None:
            return 401, "Unauthorized"
        if self._options.authorization_mode == "AlwaysAllow":
            return None
        fine_grained = self._options.features.enabled("KubeletFineGrainedAuthz")
        asked = attributes(request.method, request.path, self._options.node_name, fine_grained=fine_grained)
        try:
            allowed = await self._authorize(user, asked)
        except ApiError as error:
            shown = f"user={user.name}, verb={asked.verb}, resource=nodes, subresource(s)={list(asked.subresources)}"
            return 500, f"Authorization error ({shown}): {error.message}"
        return None if allowed else (403, forbidden(user, asked))

    async def _authenticate(self, request: Request) -> User | None:
        if request.peer.certificate is not None:
            return self._of_certificate(request.peer.certificate)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token.strip() and self._options.authentication_webhook:
            return await self._of_token(token.strip())
        if not scheme and self._options.anonymous_auth:
            return ANONYMOUS
        return None

    def _of_certificate(self, der: bytes) -> User:
        """Its common name, and organizations as groups; the connection has verified who signed it."""
        digest = hashlib.sha256(der).digest()
        user = self._certificates.get(digest)
        if user is None:
            user = read_certificate(der)
            self._certificates.put(digest, user, 3600.0)
        return user

    async def _of_token(self, token: str) -> User | None:
        key = hashlib.sha256(token.encode()).digest()
        user = self._users.get(key)
        if user is None:
            head = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}}
            review = {**head, "spec": {"token": token}}
            status = (await self._client.create(TOKEN_REVIEWS, review)).get("status") or {}
            if not status.get("authenticated"):
                return None
            user = _user_of(status.get("user") or {})
            self._users.put(key, user, self._options.authentication_cache_ttl)
        return user

    async def _authorize(self, user: User, asked: Attributes) -> bool:
        for subresource in asked.subresources:
            key = (user, asked.verb, subresource)
            allowed = self._verdicts.get(key)
            if allowed is None:
                allowed = await self._review(user, asked.verb, subresource)
                ttl = self._options.authorized_cache_ttl if allowed else self._options.unauthorized_cache_ttl
                self._verdicts.put(key, allowed, ttl)
            if allowed:
                return True
        return False

    async def _review(self, user: User, verb: str, subresource: str) -> bool:
        resource = {"verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource}
        spec: Obj = {
            "user": user.name,
            "groups": list(user.groups),
            "uid": user.uid,
            "extra": {name: list(values) for name, values in user.extra},
            "resourceAttributes": {**resource, "name": self._options.node_name},
        }
        head = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {}}
        review = {**head, "spec": spec}
        status = (await self._client.create(SUBJECT_ACCESS_REVIEWS, review)).get("status") or {}
        return bool(status.get("allowed")) and not status.get("denied")


def read_certificate(der: bytes) -> User:
    """The user that a client certificate names."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    subject = x509.load_der_x509_certificate(der).subject
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = [str(one.value) for one in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return User(str(names[0].value) if names else "", (*groups, "system:authenticated"))


def _user_of(found: Obj) -> User:
    extra = tuple((name, tuple(values)) for name, values in sorted((found.get("extra") or {}).items()))
    return User(found.get("username", ""), tuple(found.get("groups") or ()), found.get("uid", ""), extra)
