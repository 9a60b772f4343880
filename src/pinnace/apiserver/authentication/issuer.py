"""Tokens of OpenID Connect issuers, verified with the keys that each issuer publishes.

Keys are fetched when a token first needs them, remembered, and looked for again when a token names one that is not
known. https://openid.net/specs/openid-connect-discovery-1_0.html.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import orjson
import structlog

from pinnace.apiserver.asking import Answers
from pinnace.apiserver.authentication.claims import ClaimsError
from pinnace.apiserver.authentication.configuration import IssuerOptions
from pinnace.apiserver.authn import User
from pinnace.machinery import errors
from pinnace.machinery.meta import Obj

log = structlog.get_logger()

_SECONDS = 30.0  # for one document
_KEYS_SECONDS = 600.0  # that keys are believed without another look
_UNKNOWN_SECONDS = 5.0  # before a key that was not found is looked for again
_MOST = 1 << 20  # bytes of a document


class Issuer:
    """One issuer."""

    def __init__(self, options: IssuerOptions) -> None:
        self.options = options
        self._keys: Answers[str, list[Any]] = Answers()  # by key id, all of them by the empty one

    def verify(self, token: str) -> User | None:
        """None for another issuer's token; raises 401 for one of this that does not hold, MustAsk for its keys."""
        import jwt

        if token.count(".") != 2:
            return None
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
            head = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError):
            return None
        if claims.get("iss") != self.options.url:
            return None
        key_id = head.get("kid")
        keys = self._keys.get(key_id if isinstance(key_id, str) else "", lambda: self._fetch(key_id or ""))
        verified = self._verified(token, keys)
        try:
            return self.options.rules.user_of(verified)
        except ClaimsError as error:
            log.info("token refused", issuer=self.options.url, error=str(error))
            raise errors.unauthorized() from None

    def _verified(self, token: str, keys: list[Any]) -> Obj:
        """The claims, once a key has proved them. Raises 401."""
        import jwt

        why = "no key of the issuer fits"
        for key in keys:
            try:
                found: Obj = jwt.decode(
                    token,
                    key,
                    algorithms=list(self.options.algorithms),
                    audience=list(self.options.audiences),
                    issuer=self.options.url,
                    options={"require": ["exp"], "verify_iat": False},
                )
                return found
            except (jwt.PyJWTError, ValueError, TypeError) as error:
                why = str(error)
        log.info("token refused", issuer=self.options.url, error=why)
        raise errors.unauthorized()

    async def _fetch(self, key_id: str) -> tuple[list[Any], float]:
        """The keys of this id, and how long they count."""
        import jwt

        try:
            published = await self._published()
            every = jwt.PyJWKSet.from_dict(published).keys
        except (OSError, ValueError, jwt.PyJWTError, TimeoutError) as error:
            log.error("the issuer's keys cannot be had", issuer=self.options.url, error=str(error))
            return [], 0
        keys = [key for key in every if not key_id or key.key_id == key_id]
        return keys, _KEYS_SECONDS if keys else _UNKNOWN_SECONDS

    async def _published(self) -> Obj:
        """The issuer's key set. Raises OSError, ValueError and TimeoutError."""
        import aiohttp

        options = self.options
        context = ssl.create_default_context(cadata=options.authority or None)
        discovery = options.discovery_url or options.url.rstrip("/") + "/.well-known/openid-configuration"
        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
                described = await _document(session, discovery)
                if described.get("issuer") != options.url:
                    said = described.get("issuer")
                    raise ValueError(f'oidc: issuer did not match: expected "{options.url}" got "{said}"')
                return await _document(session, str(described.get("jwks_uri") or ""))
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from None

    async def close(self) -> None:
        """Nothing is left open between documents."""


async def _document(session: Any, url: str) -> Obj:
    async with asyncio.timeout(_SECONDS), session.get(url) as response:
        body = await response.content.read(_MOST)
        while len(body) < _MOST and not response.content.at_eof():
            body += await response.content.read(_MOST - len(body))
        if response.status != 200:
            raise OSError(f"{url}: {response.status}")
        found = orjson.loads(body)
        if not isinstance(found, dict):
            raise ValueError(f"{url} is no JSON object")
        return found
