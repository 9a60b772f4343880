"""Clients that act as ServiceAccounts, by tokens that another client asks for: what `--use-service-account-credentials`
of kube-controller-manager means.

Tokens are good for an hour and renewed in time; an account that is not there is made.
https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from pinnace.apis.resources import SERVICE_ACCOUNTS
from pinnace.client.client import Client
from pinnace.client.https import HttpsTransport
from pinnace.client.kubeconfig import Connection
from pinnace.client.throttle import Throttle
from pinnace.client.transport import JSON, Params
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj

TOKEN_SECONDS = 3600
_RENEWED_AFTER = 0.8  # of a token's life


class ServiceAccountTransport:
    """Requests as one account. `root` may make accounts and tokens for them."""

    def __init__(self, root: Client, transport: HttpsTransport, name: str, namespace: str = "kube-system") -> None:
        self._root = root
        self._transport = transport
        self._name, self._namespace = name, namespace
        self._good_until = 0.0  # by the monotonic clock
        self._renewing = asyncio.Lock()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Obj | list[Obj] | None = None,
        content_type: str = JSON,
    ) -> Obj:
        await self._renew()
        try:
            return await self._transport.request(method, path, params=params, body=body, content_type=content_type)
        except ApiError as error:
            self._note(error)
            raise

    async def watch(self, path: str, params: Params) -> AsyncIterator[Obj]:
        await self._renew()
        try:
            async for event in self._transport.watch(path, params):
                yield event
        except ApiError as error:
            self._note(error)
            raise

    async def read(self, path: str, *, params: Params | None = None) -> bytes:
        await self._renew()
        try:
            return await self._transport.read(path, params=params)
        except ApiError as error:
            self._note(error)
            raise

    async def close(self) -> None:
        await self._transport.close()

    def _note(self, error: ApiError) -> None:
        if error.code == 401:  # the account was made anew, or the key of its tokens
            self._good_until = 0.0

    async def _renew(self) -> None:
        if time.monotonic() < self._good_until:
            return
        async with self._renewing:
            if time.monotonic() < self._good_until:
                return
            asked = time.monotonic()
            self._transport.bearer = await self._token()
            self._good_until = asked + TOKEN_SECONDS * _RENEWED_AFTER

    async def _token(self) -> str:
        body: Obj = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS},
        }
        where = {"name": self._name, "subresource": "token"}
        try:
            made = await self._root.create(SERVICE_ACCOUNTS, body, self._namespace, **where)
        except ApiError as error:
            if not error.is_not_found:
                raise
            await self._make_account()
            made = await self._root.create(SERVICE_ACCOUNTS, body, self._namespace, **where)
        token: str = made["status"]["token"]
        return token

    async def _make_account(self) -> None:
        metadata = {"name": self._name, "namespace": self._namespace}
        account: Obj = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
        try:
            await self._root.create(SERVICE_ACCOUNTS, account)
        except ApiError as error:
            if not error.is_already_exists:
                raise


class ServiceAccountClients:
    """A client for each account that is asked for, of the server that `connection` leads to."""

    def __init__(
        self,
        root: Client,
        connection: Connection,
        component: str,
        throttle: Callable[[], Throttle | None] = lambda: None,
    ) -> None:
        self._root = root
        self._connection = replace(connection, certificate=b"", key=b"", token="", token_file=None)
        self._component = component  # which becomes, with the account, the field manager
        self._throttle = throttle  # one for each
        self._made: dict[str, Client] = {}

    def client(self, account: str) -> Client:
        if account not in self._made:
            transport = HttpsTransport(self._connection, user_agent=self._component, throttle=self._throttle())
            self._made[account] = Client(ServiceAccountTransport(self._root, transport, account))
        return self._made[account]

    async def close(self) -> None:
        for client in self._made.values():
            await client.transport.close()
