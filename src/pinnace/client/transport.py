"""How a client's calls travel: the interface that the HTTPS transport and the in-process one share.

`LoopbackTransport` hands calls to an API server in the same process: authentication, authorization and admission still
run, TLS, HTTP and JSON do not. Objects that come back are shared and read-only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from pinnace.machinery.meta import Obj

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

Params = Mapping[str, str]


class Transport(Protocol):
    """Carries requests to one API server."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Obj | list[Obj] | None = None,
        content_type: str = JSON,
    ) -> Obj:
        """Send one request; the decoded answer. Raises ApiError for any answer above 399 and for a lost server."""

    def watch(self, path: str, params: Params) -> AsyncIterator[Obj]:
        """Watch events `{"type": …, "object": …}` until the server ends the watch; ERROR events raise ApiError."""

    async def read(self, path: str, *, params: Params | None = None) -> bytes:
        """The bytes of an answer that is not JSON (`/healthz`, logs)."""

    async def close(self) -> None: ...


class LoopbackHandler(Protocol):
    """What an API server offers to clients in its own process; `user` is who the caller is trusted to be."""

    async def loopback_request(
        self,
        user: str,
        method: str,
        path: str,
        params: Params,
        body: Obj | list[Obj] | None,
        content_type: str,
    ) -> Obj: ...

    def loopback_watch(self, user: str, path: str, params: Params) -> AsyncIterator[Obj]: ...


class LoopbackTransport:
    """Calls into an API server of this process as one fixed user, e.g. `system:kube-scheduler`."""

    def __init__(self, handler: LoopbackHandler, user: str) -> None:
        self._handler = handler
        self._user = user

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Obj | list[Obj] | None = None,
        content_type: str = JSON,
    ) -> Obj:
        return await self._handler.loopback_request(self._user, method, path, params or {}, body, content_type)

    def watch(self, path: str, params: Params) -> AsyncIterator[Obj]:
        return self._handler.loopback_watch(self._user, path, params)

    async def read(self, path: str, *, params: Params | None = None) -> bytes:
        raise NotImplementedError("the loop-back transport carries API objects only")

    async def close(self) -> None:
        return None
