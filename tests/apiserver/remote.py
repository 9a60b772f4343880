"""A server of the test's own that the API server calls by a kubeconfig, over TLS: it answers by a function."""

from __future__ import annotations

import asyncio
import inspect
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from pinnace.machinery.meta import Obj

Answer = Callable[[str, Any], Any]
"""From path and document to the document that is answered, or `(status, document)`; perhaps later."""


class Remote:
    def __init__(self, pki: Path, answer: Answer) -> None:
        self._pki = pki
        self._answer = answer
        self._runner: web.AppRunner | None = None
        self.asked: list[Any] = []  # documents, in the order in which they came
        self.headers: list[dict[str, str]] = []
        self.url = ""
        self._more = asyncio.Condition()

    async def __aenter__(self) -> Remote:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self._pki / "server.crt", self._pki / "server.key")
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.url = f"https://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def kubeconfig(self, path: Path, where: str = "/", **user: str) -> Path:
        """A kubeconfig by which this server is called."""
        cluster = {"server": self.url + where, "certificate-authority": str(self._pki / "ca.crt")}
        document: Obj = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "us", "user": user}],
            "contexts": [{"name": "here", "context": {"cluster": "it", "user": "us"}}],
            "current-context": "here",
        }
        path.write_text(json.dumps(document))
        return path

    async def wait_for(self, enough: Callable[[list[Any]], bool]) -> list[Any]:
        """What was asked, once that is enough."""
        async with asyncio.timeout(60), self._more:
            await self._more.wait_for(lambda: enough(self.asked))
        return self.asked

    async def _handle(self, request: web.Request) -> web.Response:
        text = await request.text()
        document = json.loads(text) if text else None
        answered = self._answer(request.path, document)
        if inspect.isawaitable(answered):
            answered = await answered
        status, body = answered if isinstance(answered, tuple) else (200, answered)
        async with self._more:
            self.asked.append(document)
            self.headers.append(dict(request.headers))
            self._more.notify_all()
        return web.json_response(body, status=status)
