"""A webhook server in the test's own process, with a certificate of its own authority, and ways to register it."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from pinnace.machinery.meta import Obj

if TYPE_CHECKING:
    from tests.apiserver.conftest import Cluster

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1"
Answer = Callable[[Obj], Obj]


class Hooks:
    """An HTTPS server that answers reviews at the paths it is told, and remembers those of the test."""

    def __init__(self, pki: Path) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, Obj]] = []
        self.slow = asyncio.Event()  # `/slow` answers once this is set
        self.headers: Callable[[Mapping[str, str]], object] = len  # told of those of every request
        self.hangs_up: set[str] = set()  # paths whose next call finds the connection closed
        self.port = 0
        self.bundle = base64.b64encode((pki / "ca.crt").read_bytes()).decode()
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(pki / "server.crt", pki / "server.key")

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner

    async def _answer(self, request: web.Request) -> web.Response:
        review = await request.json()
        self.headers(request.headers)
        path = request.path
        if review["request"]["userInfo"]["username"] != "system:apiserver":  # which writes what it needs at any time
            self.asked.append((path, review["request"]))
        if path in self.hangs_up:
            self.hangs_up.discard(path)
            assert request.transport is not None
            request.transport.close()
        if path == "/slow":
            await self.slow.wait()
        response = {"uid": review["request"]["uid"], **self.answers[path](review["request"])}
        return web.json_response({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response})

    def webhook(self, name: str, path: str, resources: str = "configmaps", **more: Any) -> Obj:
        return {
            "name": f"{name}.example.com",
            "clientConfig": {"url": f"https://127.0.0.1:{self.port}{path}", "caBundle": self.bundle},
            "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": [resources]}],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **more,
        }


async def register(cluster: Cluster, kind: str, name: str, *webhooks: Obj) -> None:
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": list(webhooks),
    }
    await cluster.request("POST", f"{CONFIGURATIONS}/{kind.lower()}webhookconfigurations", body)


def allow(_: Obj) -> Obj:
    return {"allowed": True}


def patch(*operations: Obj) -> Answer:
    encoded = base64.b64encode(json.dumps(operations).encode()).decode()
    return lambda _: {"allowed": True, "patchType": "JSONPatch", "patch": encoded}


def add(key: str, value: str) -> Answer:
    return patch({"op": "add", "path": f"/data/{key}", "value": value})
