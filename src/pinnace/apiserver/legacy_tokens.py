"""Tokens in Secrets: since when their uses are noted, and the day of the last use of each, for who retires them.

https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#legacy-serviceaccount-token-tracking-controller
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from pinnace.apis.resources import CONFIG_MAPS, SECRETS
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, labels_of, name_of, namespace_of, uid_of, utc_now
from pinnace.store.contract import StoreError

log = structlog.get_logger()

TRACKING = "kube-apiserver-legacy-service-account-token-tracking"
LAST_USED = "kubernetes.io/legacy-token-last-used"
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
INTERVAL = 600.0  # seconds between looks whether the ConfigMap is still there
_DATE = "%Y-%m-%d"

Request = Callable[[str, str, Obj | None], Awaitable[Obj]]
"""`(method, path, body)` with the rights of the server itself."""


class LegacyTokens:
    """Notes uses, in the background; the Secret of a token that is used is written once a day."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._due: dict[str, Obj] = {}  # UID -> a Secret that was used and does not say so
        self._wake = asyncio.Event()

    def used(self, secret: Obj) -> None:
        """Its token was shown."""
        if labels_of(secret).get(LAST_USED) != utc_now().strftime(_DATE):
            self._due[uid_of(secret)] = secret
            self._wake.set()

    async def run(self) -> None:
        """Write what is noted, until cancelled."""
        while True:
            try:
                await self._ensure_since()
                while self._due:
                    await self._write(*self._due.popitem())
            except (ApiError, StoreError) as error:
                log.info("cannot note the use of tokens", error=str(error))
            self._wake.clear()
            try:
                async with asyncio.timeout(INTERVAL):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _ensure_since(self) -> None:
        """Say since when uses are noted; nothing before that may be taken for unused."""
        path, today = CONFIG_MAPS.path("kube-system", TRACKING), utc_now().strftime(_DATE)
        try:
            found = await self._request("GET", path, None)
        except ApiError as error:
            if not error.is_not_found:
                raise
            meta = {"name": TRACKING, "namespace": "kube-system"}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"since": today}}
            await self._request("POST", CONFIG_MAPS.path("kube-system"), body)
            return
        if not _is_date((found.get("data") or {}).get("since", "")):
            await self._request("PUT", path, {**found, "data": {**(found.get("data") or {}), "since": today}})

    async def _write(self, uid: str, secret: Obj) -> None:
        path = SECRETS.path(namespace_of(secret), name_of(secret))
        try:
            found = await self._request("GET", path, None)
            labels = {**labels_of(found), LAST_USED: utc_now().strftime(_DATE)}
            if uid_of(found) == uid and labels != labels_of(found):
                await self._request("PUT", path, {**found, "metadata": {**found["metadata"], "labels": labels}})
        except ApiError as error:
            if not (error.is_not_found or error.is_conflict):  # the next use notes it
                raise


def is_invalid(secret: Obj) -> bool:
    """Whether its token was retired."""
    return bool(labels_of(secret).get(INVALID_SINCE))


def _is_date(text: str) -> bool:
    try:
        datetime.strptime(text, _DATE)
    except ValueError:
        return False
    return True
