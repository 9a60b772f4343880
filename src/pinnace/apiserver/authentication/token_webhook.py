"""Bearer tokens that another server knows: it is asked with a TokenReview, its answers are remembered.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#webhook-token-authentication.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import orjson
import structlog

from pinnace.apiserver.asking import Answers
from pinnace.apiserver.authn import AUTHENTICATED, Known, User
from pinnace.apiserver.webhook_client import CallFailed, KubeconfigWebhook
from pinnace.machinery.meta import Obj

log = structlog.get_logger()

VERSIONS = ("v1", "v1beta1")


class TokenWebhook:
    """`seconds` is how long an answer counts; one that nobody gave counts for this request alone."""

    def __init__(self, kubeconfig: Path, version: str, seconds: float, audiences: tuple[str, ...]) -> None:
        """Raises ValueError for a kubeconfig that cannot be used."""
        self._webhook = KubeconfigWebhook(kubeconfig)
        self._version = version
        self._seconds = seconds
        self._audiences = audiences
        self._answers: Answers[tuple[bytes, tuple[str, ...]], Known | None] = Answers()

    def verify(self, token: str) -> User | None:
        found = self.verify_for(token, self._audiences)
        return found[0] if found is not None else None

    def verify_for(self, token: str, audiences: tuple[str, ...]) -> Known | None:
        key = hashlib.sha256(token.encode()).digest(), audiences  # so that no token is kept
        return self._answers.get(key, lambda: self._ask(token, audiences))

    async def _ask(self, token: str, audiences: tuple[str, ...]) -> tuple[Known | None, float]:
        version = f"authentication.k8s.io/{self._version}"
        review: Obj = {"kind": "TokenReview", "apiVersion": version, "metadata": {}, "spec": {"token": token}}
        if audiences:
            review["spec"]["audiences"] = list(audiences)
        try:
            answer = orjson.loads(await self._webhook.ask(orjson.dumps(review)))
            return self._known(answer, audiences), self._seconds
        except (CallFailed, ValueError) as error:
            log.error("Failed to make webhook authenticator request", error=str(error))
            return None, 0

    def _known(self, review: object, audiences: tuple[str, ...]) -> Known | None:
        """Who a TokenReview says it is; a webhook that says nothing of audiences knows tokens for this server.

        Raises ValueError for what is none.
        """
        status = review.get("status") if isinstance(review, dict) else None
        if not isinstance(status, dict):
            raise ValueError("the answer is no TokenReview")
        said = status.get("user")
        if not status.get("authenticated") or not isinstance(said, dict):
            return None
        given = _texts(status.get("audiences") or list(self._audiences))
        found = tuple(audience for audience in audiences if audience in given)
        if audiences and not found:
            return None
        told = said.get("extra") or {}
        if not isinstance(told, dict):
            raise ValueError("the user's extra is no map")
        extra = {name: _texts(values) for name, values in told.items()}
        groups = _texts(said.get("groups") or [])
        if AUTHENTICATED not in groups:
            groups = (*groups, AUTHENTICATED)
        return User(str(said.get("username") or ""), str(said.get("uid") or ""), groups, extra), found

    async def close(self) -> None:
        await self._webhook.close()


def _texts(values: object) -> tuple[str, ...]:
    """Raises ValueError for what is no list of texts."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("the answer has something else where a list of texts belongs")
    return tuple(values)
