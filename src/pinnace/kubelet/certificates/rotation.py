"""Asks for a certificate, waits until it is approved and signed, and does so again before it ends.

Who uses it is told by `renewed`; connections that are open stay. What fails is tried again, later and later.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import datetime
from math import inf

import structlog

from pinnace.apis.resources import CERTIFICATE_SIGNING_REQUESTS
from pinnace.client.client import Client
from pinnace.kubelet.certificates import requests
from pinnace.kubelet.certificates.lives import CLIENT_SIGNER, kept
from pinnace.kubelet.certificates.requests import Refused, Wanted
from pinnace.kubelet.certificates.store import CertificateStore, Pair
from pinnace.kubelet.statistics.measures import client_renewal_errors, server_renewal_errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import name_of, utc_now

_log = structlog.get_logger()

DECISION = 900.0  # seconds that a request is waited for, before another is made
_FIRST_PAUSE, _LAST_PAUSE = 2.0, 128.0
_LONGEST_SLEEP = 3600.0  # seconds; clocks may be set meanwhile


class Rotation:
    """One certificate of one kubelet; `stopgap` (PEM) is what is used until there is one that was asked for."""

    def __init__(
        self,
        client: Client,
        store: CertificateStore,
        wanted: Wanted,
        renewed: Callable[[Pair], None] = lambda _: None,
        *,
        stopgap: bytes = b"",
        now: Callable[[], datetime] = utc_now,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._store = store
        self._wanted = wanted
        self._renewed = renewed
        self._stopgap = stopgap.strip()
        self._now = now
        self._chance = chance
        kept.add(self)

    @property
    def signer(self) -> str:
        return self._wanted.signer

    def left(self) -> float:
        """Seconds for which the certificate holds, below zero where it has ended; infinity where there is none."""
        pair = self._store.current()
        if pair is None:
            return inf
        try:
            return (requests.lifetime(pair.certificate)[1] - self._now()).total_seconds()
        except ValueError:
            return inf

    async def run(self) -> None:
        """Have a certificate that holds, until cancelled."""
        while True:
            due = self.due()
            left = (due - self._now()).total_seconds() if due is not None else 0.0
            if left > 0:
                await asyncio.sleep(min(left, _LONGEST_SLEEP))
                if left > _LONGEST_SLEEP:
                    continue
            await self.renew()

    def due(self) -> datetime | None:
        """When the certificate is to be renewed; None: now, for there is none that will do."""
        pair = self._store.current()
        if pair is None or pair.certificate.strip() == self._stopgap:
            return None
        try:
            if not requests.good_for(pair.certificate, self._wanted.names):
                return None
            return requests.renewal(*requests.lifetime(pair.certificate), self._chance())
        except ValueError:
            return None

    async def renew(self) -> Pair:
        """Ask until there is another; it counts when this returns."""
        pause = _FIRST_PAUSE
        while True:
            try:
                pair = await self._obtain()
                self._store.update(pair, self._now())
            except (ApiError, Refused, TimeoutError, OSError, ValueError) as error:
                errors = client_renewal_errors if self._wanted.signer == CLIENT_SIGNER else server_renewal_errors
                errors.inc()
                _log.warning("no certificate yet", signer=self._wanted.signer, error=str(error))
            else:
                _log.info("certificate renewed", signer=self._wanted.signer)
                self._renewed(pair)
                return pair
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)

    async def _obtain(self) -> Pair:
        """One request. Raises ApiError, Refused, TimeoutError."""
        key = requests.new_key()
        request = requests.request_object(self._wanted, requests.signing_request(key, self._wanted))
        made = await self._client.create(CERTIFICATE_SIGNING_REQUESTS, request)
        certificate = requests.issued(made)
        async with asyncio.timeout(DECISION):
            while certificate is None:
                certificate = await self._decision(name_of(made))
        return Pair(certificate, requests.key_pem(key))

    async def _decision(self, name: str) -> bytes | None:
        """Follow the request until it is decided, or the watch ends. Raises ApiError, Refused."""
        selector = f"metadata.name={name}"
        version = "0"
        watch = self._client.watch(CERTIFICATE_SIGNING_REQUESTS, field_selector=selector, resource_version=version)
        async for event in watch:
            if event["type"] == "DELETED":
                raise Refused("certificate signing request was deleted")
            if event["type"] in ("ADDED", "MODIFIED"):
                certificate = requests.issued(event["object"])
                if certificate is not None:
                    return certificate
        return None


def still_holds(pem: bytes, now: datetime) -> bool:
    """Whether a certificate counts now, for what has ended must be asked for with the bootstrap token again."""
    try:
        begins, ends = requests.lifetime(pem)
    except ValueError:
        return False
    return begins <= now < ends
