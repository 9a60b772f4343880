"""Service account tokens of pods: asked for by TokenRequest, kept until four fifths of their life have passed.

Specified by https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pinnace.apis.resources import SERVICE_ACCOUNTS
from pinnace.client.client import Client
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, format_time, name_of, namespace_of, parse_time, uid_of

LONGEST_USE = timedelta(hours=24)
_Key = tuple[str, str, str, int]  # pod UID, service account, audience, seconds


@dataclass(slots=True)
class _Token:
    token: str
    issued: datetime
    expires: datetime
    jitter: timedelta


class Tokens:
    """The tokens of one node's pods."""

    def __init__(self, client: Client, now: Callable[[], datetime]) -> None:
        self._client = client
        self._now = now
        self._tokens: dict[_Key, _Token] = {}

    async def get(self, pod: Obj, audience: str, seconds: int) -> str:
        """A token bound to the pod. Raises ApiError."""
        return (await self._current(pod, audience, seconds)).token

    async def get_with_expiry(self, pod: Obj, audience: str, seconds: int) -> tuple[str, str]:
        """The same, and until when it holds (RFC 3339)."""
        found = await self._current(pod, audience, seconds)
        return found.token, format_time(found.expires)

    async def _current(self, pod: Obj, audience: str, seconds: int) -> _Token:
        account = pod["spec"].get("serviceAccountName") or "default"
        key = (uid_of(pod), account, audience, seconds)
        known = self._tokens.get(key)
        if known is not None and not self._due(known):
            return known
        try:
            made = self._tokens[key] = await self._ask(pod, account, audience, seconds)
        except ApiError:
            if known is None or self._now() >= known.expires:
                raise
            return known  # it still holds: the next sync tries again
        return made

    async def _ask(self, pod: Obj, account: str, audience: str, seconds: int) -> _Token:
        request: Obj = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name_of(pod), "uid": uid_of(pod)},
            },
            "metadata": {},
        }
        issued = self._now()
        answer = await self._client.create(
            SERVICE_ACCOUNTS, request, namespace_of(pod), name=account, subresource="token"
        )
        status = answer["status"]
        jitter = timedelta(seconds=random.uniform(0, 10))
        return _Token(status["token"], issued, parse_time(status["expirationTimestamp"]), jitter)

    def _due(self, token: _Token) -> bool:
        """Whether a token should be replaced: after 80 % of its life, or a day."""
        life = token.expires - token.issued
        return self._now() + token.jitter > token.issued + min(life * 0.8, LONGEST_USE)

    def forget(self, pod_uid: str) -> None:
        for key in [key for key in self._tokens if key[0] == pod_uid]:
            del self._tokens[key]
