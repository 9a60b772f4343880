"""Says which API servers there are: a Lease for each, and who of them the Service `kubernetes` leads to.

A server renews its Lease every ten seconds and forgets the Leases of those that are long gone
(https://kubernetes.io/docs/concepts/architecture/leases/#api-server-identity, KEP-1965). Servers that share a store
also keep their addresses there; who has not been heard of for a while, by our own clock, is no longer named.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj, format_micro_time, get_in, parse_time, utc_now
from pinnace.store.contract import ROOT, RevisionConflict, Store

log = structlog.get_logger()

RENEW_SECONDS = 10.0
LEASE_SECONDS = 3600
COLLECT_SECONDS = 3600.0  # between looks for the leases of servers that are gone
SILENT_SECONDS = 15.0  # after which an address is no longer told
LABEL = "apiserver.kubernetes.io/identity"
COMPONENT = "kube-apiserver"

_LEASES = GVR("coordination.k8s.io", "v1", "leases")
_NAMESPACE = "kube-system"
_ADDRESSES = f"{ROOT}masterleases/"

Request = Callable[[str, str, Obj | None], Awaitable[Obj]]
"""`(method, path, body)` with the rights of the server itself."""


def identity_of(host: str) -> str:
    """The name of the Lease of the API server on a host."""
    digest = hashlib.sha256(host.encode()).digest()[:16]
    return f"apiserver-{base64.b32encode(digest).decode().rstrip('=').lower()}"


class IdentityLease:
    def __init__(self, request: Request, host: str = "") -> None:
        self._host = host or socket.gethostname()
        self._request = request
        self.name = identity_of(self._host)
        self.holder = f"{self.name}_{uuid.uuid4()}"

    async def renew(self) -> None:
        """Take or renew the Lease, whoever held it. Raises ApiError."""
        path = _LEASES.path(_NAMESPACE, self.name)
        try:
            found = await self._request("GET", path, None)
        except ApiError as error:
            if not error.is_not_found:
                raise
            found = {}
        try:
            if found:
                await self._request("PUT", path, self._lease(found))
            else:
                await self._request("POST", _LEASES.path(_NAMESPACE), self._lease(found))
        except ApiError as error:
            if error.code != 409:  # else another server of this host was first
                raise

    def _lease(self, found: Obj) -> Obj:
        labels = {LABEL: COMPONENT, "kubernetes.io/hostname": self._host}
        metadata = found.get("metadata") or {"name": self.name, "namespace": _NAMESPACE}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), **labels}},
            "spec": {
                "holderIdentity": self.holder,
                "leaseDurationSeconds": LEASE_SECONDS,
                "renewTime": format_micro_time(utc_now()),
            },
        }

    async def collect(self) -> None:
        """Delete the Leases of servers that renewed theirs no more. Raises ApiError."""
        for lease in (await self._request("GET", _LEASES.path(_NAMESPACE), None)).get("items") or []:
            if has_expired(lease, utc_now()):
                await self._request("DELETE", _LEASES.path(_NAMESPACE, lease["metadata"]["name"]), None)

    async def run(self) -> None:
        """Renew and collect until cancelled."""
        rounds = 0
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            rounds += 1
            try:
                await self.renew()
                if rounds % (COLLECT_SECONDS // RENEW_SECONDS) == 0:
                    await self.collect()
            except ApiError as error:
                log.warning("cannot renew the lease of this server", error=error.message)


def has_expired(lease: Obj, now: datetime) -> bool:
    """Whether it is the Lease of an API server that is gone; of one without a time or a duration, yes."""
    if get_in(lease, "metadata", "labels", LABEL) != COMPONENT:
        return False
    spec = lease.get("spec") or {}
    renewed, seconds = spec.get("renewTime"), spec.get("leaseDurationSeconds")
    return not renewed or not seconds or parse_time(renewed) + timedelta(seconds=seconds) < now


class Addresses:
    """The addresses of the API servers over one store."""

    def __init__(self, store: Store, own: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._own = own
        self._clock = clock
        self._heard: dict[str, tuple[int, float]] = {}  # key -> revision and when it was first seen

    async def renew(self) -> list[str]:
        """Say that we are here; who else is, in order. Raises StoreError."""
        if not self._store.is_shared:
            return [self._own]
        key = _ADDRESSES + self._own
        found = await self._store.get(key)
        try:
            await self._store.put(key, b"{}", found.mod_revision if found is not None else 0)
        except RevisionConflict:
            pass  # another one that says the same
        return await self._others(key)

    async def leave(self) -> list[str]:
        """Say that we are gone; who is left. Raises StoreError."""
        key = _ADDRESSES + self._own
        if not self._store.is_shared:
            return []
        found = await self._store.get(key)
        if found is not None:
            await self._forget(key, found.mod_revision)
        return await self._others("")

    async def _others(self, own: str) -> list[str]:
        found, _ = await self._store.range(_ADDRESSES)
        now = self._clock()
        heard, here = {}, []
        for item in found:
            revision, since = self._heard.get(item.key, (0, now))
            if revision != item.mod_revision:
                since = now
            if item.key != own and now - since > SILENT_SECONDS:
                await self._forget(item.key, item.mod_revision)
                continue
            heard[item.key] = (item.mod_revision, since)
            here.append(item.key.removeprefix(_ADDRESSES))
        self._heard = heard
        return sorted(here)

    async def _forget(self, key: str, revision: int) -> None:
        try:
            await self._store.delete(key, revision)
        except RevisionConflict:
            pass  # it has been renewed, or forgotten, meanwhile
