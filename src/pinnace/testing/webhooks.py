"""Webhooks of the program under test, and small ones of the test's own, where the API server can reach them.

Manifests name a Service; a test's cluster has no network behind its Services, so `pointed_at` rewrites them to a URL
(https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#url).
"""

from __future__ import annotations

import copy
import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pinnace.machinery.meta import Obj
from pinnace.testing.credentials import encoded

Review = Callable[[Obj], Obj]
"""From the review's `request` to its `response`; the uid is filled in."""


class Webhook:
    """An HTTPS server on loopback that answers reviews (AdmissionReview, ConversionReview) by a function."""

    def __init__(self, review: Review, certificate: Path, ca: str) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(review))
        self._server.daemon_threads = True
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, certificate.with_suffix(".key"))
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        self.ca_bundle = encoded(ca.encode())  # as `clientConfig.caBundle` wants it

    @property
    def client_config(self) -> Obj:
        """What to put into a webhook's `clientConfig`."""
        return {"url": self.url, "caBundle": self.ca_bundle}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Webhook:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def pointed_at(configuration: Obj, url: str, ca_bundle: str) -> Obj:
    """A webhook configuration, or a CRD with a conversion webhook, whose Services are `url` instead.

    The path that each Service names is appended to `url`.
    """
    changed = copy.deepcopy(configuration)
    conversion = (changed.get("spec") or {}).get("conversion") or {}
    for holder in [*changed.get("webhooks", ()), conversion.get("webhook") or {}]:
        service = (holder.get("clientConfig") or {}).get("service")
        if service is not None:
            holder["clientConfig"] = {"url": url + service.get("path", ""), "caBundle": ca_bundle}
    return changed


def _handler(review: Review) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30  # seconds a connection may say nothing

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            response = {"uid": asked["request"]["uid"], **review(asked["request"])}
            body = json.dumps({**_envelope(asked), "response": response}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
            """Say nothing: the test knows what it was asked."""

    return Handler


def _envelope(asked: Obj) -> Obj:
    return {"apiVersion": asked["apiVersion"], "kind": asked["kind"]}
