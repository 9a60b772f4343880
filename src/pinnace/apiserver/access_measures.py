"""The metrics of who came in: authentication and authorization, under kube-apiserver's names.

Every request passes here, so that what most of them have in common is counted in place and named when somebody asks.
https://kubernetes.io/docs/reference/instrumentation/metrics/.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from time import perf_counter as clock

from pinnace.apiserver.authn import LIFETIMES, Authenticator
from pinnace.machinery.metrics import Collected, Family, Sample, spread
from pinnace.wire.process_metrics import Figures

QUICK = 0.001
SECONDS = tuple(QUICK * 2**power for power in range(15))
MOST = 10_000  # users that are told apart until somebody asks
_KNOWN = frozenset(("admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default"))
_FORBIDDEN = 403


class Access:
    """Counts requests as they are admitted or refused."""

    def __init__(self, denied: Callable[[], int]) -> None:
        """`denied` says how many an authorizer refused outright, instead of having no opinion of them."""
        self._denied = denied
        self._users: dict[str, int] = {}
        self._authentication = {result: _empty() for result in ("success", "failure")}
        self._authorization = {result: _empty() for result in ("allowed", "refused", "error")}
        self._successes = self._authentication["success"]
        self._allowed = self._authorization["allowed"]

    def allowed(self, user: str, began: float, known: float, asked: float) -> None:
        """Somebody may; the moments at which the request came, its author was known, and the question was put."""
        # What `known` does, without the call.
        users = self._users
        try:
            users[user] += 1
        except KeyError:
            if len(users) >= MOST:
                self._users = users = dict(self._by_kind())
            users[user] = 1
        spent, found = known - began, self._successes
        found[0] += spent
        found[1 if spent <= QUICK else 1 + bisect_left(SECONDS, spent)] += 1
        spent, found = clock() - asked, self._allowed
        found[0] += spent
        found[1 if spent <= QUICK else 1 + bisect_left(SECONDS, spent)] += 1

    def unknown(self, began: float) -> None:
        """Credentials that do not hold."""
        _note(self._authentication["failure"], clock() - began)

    def known(self, user: str, began: float, known: float) -> None:
        """Somebody's credentials hold; the question what they may is never put, or on its own."""
        if user not in self._users and len(self._users) >= MOST:
            self._users = dict(self._by_kind())
        self._users[user] = self._users.get(user, 0) + 1
        _note(self._successes, known - began)

    def refused(self, user: str, began: float, known: float, asked: float, code: int) -> None:
        """Somebody may not, or that could not be told, with this code."""
        self.known(user, began, known)
        _note(self._authorization["refused" if code == _FORBIDDEN else "error"], clock() - asked)

    def _by_kind(self) -> Iterable[tuple[str, int]]:
        found: dict[str, int] = {}
        for name, count in self._users.items():
            kind = name if name in _KNOWN else "email_id" if "@" in name or name == "email_id" else "other"
            found[kind] = found.get(kind, 0) + count
        return sorted(found.items())

    def _decisions(self) -> Figures:
        refused, denied = sum(self._authorization["refused"][1:]), self._denied()
        figures = {
            "allowed": sum(self._allowed[1:]),
            "denied": denied,
            "error": sum(self._authorization["error"][1:]),
            "no-opinion": max(refused - denied, 0),
        }
        return [((result,), count) for result, count in figures.items() if count]

    def families(self) -> list[Family]:
        def attempts() -> Figures:
            return [((result,), sum(found[1:])) for result, found in self._authentication.items() if any(found[1:])]

        def users() -> Figures:
            return [((name,), count) for name, count in self._by_kind()]

        names = {"allowed": "allowed", "refused": "no-opinion", "error": "error"}
        decided = {names[result]: found for result, found in self._authorization.items()}
        return [
            Collected(
                "counter", "authentication_attempts", "Counter of authenticated attempts.", ("result",), attempts
            ),
            Collected(
                "counter",
                "authenticated_user_requests",
                "Counter of authenticated requests broken out by username.",
                ("username",),
                users,
            ),
            _Durations(
                "authentication_duration_seconds",
                "Authentication duration in seconds broken out by result.",
                self._authentication,
            ),
            Collected(
                "counter",
                "authorization_attempts_total",
                "Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', "
                "'no-opinion' or 'error'.",
                ("result",),
                self._decisions,
            ),
            _Durations(
                "authorization_duration_seconds", "Authorization duration in seconds broken out by result.", decided
            ),
        ]


def token_families(authenticator: Authenticator) -> list[Family]:
    """Of the memory of bearer tokens. What is remembered takes no time that could be measured."""
    name = "authentication_token_cache"

    def requests() -> Figures:
        misses = sum(authenticator.token_fetches.values.values())
        return [(("hit",), authenticator.token_hits), (("miss",), misses)]

    return [
        Collected("counter", f"{name}_request_total", "", ("status",), requests),
        authenticator.token_fetches,
        authenticator.token_misses,
    ]


class Lifetimes(Family):
    """Of client certificates, at each request that showed one."""

    kind = "histogram"

    def __init__(self, authenticator: Authenticator) -> None:
        about = "Distribution of the remaining lifetime on the certificate used to authenticate a request."
        super().__init__("apiserver_client_certificate_expiration_seconds", about)
        self._authenticator = authenticator

    def samples(self) -> Iterable[Sample]:
        self._authenticator.add_up()
        yield from spread((), LIFETIMES, self._authenticator.lifetimes)


class _Durations(Family):
    kind = "histogram"

    def __init__(self, name: str, about: str, found: dict[str, list[float]]) -> None:
        super().__init__(name, about, ("result",))
        self._found = found

    def samples(self) -> Iterable[Sample]:
        for result, found in sorted(self._found.items()):
            if any(found[1:]):
                yield from spread(self.named((result,)), SECONDS, found)


def _empty() -> list[float]:
    return [0.0] * (len(SECONDS) + 2)


def _note(found: list[float], spent: float) -> None:
    found[0] += spent
    found[1 + bisect_left(SECONDS, spent)] += 1
