"""Signs the cluster's public description for those who know a bootstrap token, and deletes tokens that have expired.

A joining node trusts `kube-public/cluster-info` because its token signs it. Specified by
https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from datetime import datetime

from pinnace.apis.resources import CONFIG_MAPS, SECRETS
from pinnace.client.controller import Controller
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, is_deleting, name_of, namespace_of, parse_time, uid_of, utc_now

TOKEN_TYPE = "bootstrap.kubernetes.io/token"
_TOKENS_OF_TYPE = f"type={TOKEN_TYPE}"
_CLUSTER_INFO = "cluster-info"
_SIGNATURE = "jws-kubeconfig-"
_ID, _SECRET = re.compile("[a-z0-9]{6}"), re.compile("[a-z0-9]{16}")

# Decisions.


def field_of(secret: Obj, name: str) -> str:
    """A field of a token, decoded; empty where there is none."""
    return base64.b64decode(get_in(secret, "data", name) or "").decode(errors="replace")


def expires_in(secret: Obj, now: datetime) -> float | None:
    """Seconds until the token expires, 0 or less once it has; None for one that never does.

    A date that cannot be read is in the past, so that a slip of the pen opens no door.
    """
    text = field_of(secret, "expiration")
    if not text:
        return None
    try:
        return (parse_time(text) - now).total_seconds()
    except ValueError:
        return 0.0


def signing_token(secret: Obj, now: datetime) -> tuple[str, str] | None:
    """Id and secret of a token that signs; None for one that does not, or is none."""
    token, key = field_of(secret, "token-id"), field_of(secret, "token-secret")
    is_token = secret.get("type") == TOKEN_TYPE and name_of(secret) == f"bootstrap-token-{token}"
    if not is_token or not _ID.fullmatch(token) or not _SECRET.fullmatch(key) or is_deleting(secret):
        return None
    left = expires_in(secret, now)
    if (left is not None and left <= 0) or field_of(secret, "usage-bootstrap-signing") != "true":
        return None
    return token, key


def detached_signature(content: str, token: str, key: str) -> str:
    """The JSON Web Signature of a content (RFC 7515), without the content itself (appendix F)."""
    header = _base64url(json.dumps({"alg": "HS256", "kid": token}, separators=(",", ":")).encode())
    signed = f"{header}.{_base64url(content.encode())}".encode()
    return f"{header}..{_base64url(hmac.digest(key.encode(), signed, hashlib.sha256))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed_data(data: dict[str, str], tokens: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The data of `cluster-info` with the signatures of these tokens and no others."""
    kept = {name: text for name, text in data.items() if not name.startswith(_SIGNATURE)}
    content = data.get("kubeconfig")
    if content is None:
        return kept
    return kept | {f"{_SIGNATURE}{token}": detached_signature(content, token, key) for token, key in tokens}


# The controllers.


class BootstrapSigner(Controller):
    """There is one key, the ConfigMap's."""

    name = "bootstrap-signer-controller"
    workers = 1

    def setup(self) -> None:
        field = f"metadata.name={_CLUSTER_INFO}"
        self.infos = self.watch(CONFIG_MAPS, _only_key, namespace="kube-public", field_selector=field)
        self.tokens = self.watch(SECRETS, _only_key, namespace="kube-system", field_selector=_TOKENS_OF_TYPE)

    async def reconcile(self, key: str) -> float | None:
        info = self.infos.store.get(key)
        if info is None:
            return None
        now = utc_now()
        secrets = sorted(self.tokens.store.list(), key=name_of)
        tokens = [found for secret in secrets if (found := signing_token(secret, now)) is not None]
        data = signed_data(info.get("data") or {}, tokens)
        if data != (info.get("data") or {}):
            await self.client.update(CONFIG_MAPS, {**info, "data": data})
        lefts = [left for secret in secrets if (left := expires_in(secret, now)) is not None and left > 0]
        return min(lefts, default=None)


class TokenCleaner(Controller):
    """One key is one token's Secret."""

    name = "token-cleaner-controller"
    workers = 1

    def setup(self) -> None:
        self.tokens = self.watch(SECRETS, namespace="kube-system", field_selector=_TOKENS_OF_TYPE)

    async def reconcile(self, key: str) -> float | None:
        secret = self.tokens.store.get(key)
        left = expires_in(secret, utc_now()) if secret is not None else None
        if secret is None or left is None or left > 0:
            return left
        try:
            await self.client.delete(SECRETS, name_of(secret), namespace_of(secret), uid=uid_of(secret))
        except ApiError as error:
            if not error.is_not_found:
                raise
        return None


def _only_key(_: Obj) -> Iterable[str]:
    return (f"kube-public/{_CLUSTER_INFO}",)
