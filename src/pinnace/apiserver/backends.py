"""Servers behind this one: kubelets, and what pods, services and nodes listen on. Addresses, TLS, and the passing on.

Kubelets are reached with the server's own client certificate at the address their Node tells.
https://kubernetes.io/docs/concepts/architecture/control-plane-node-communication/.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Callable
from functools import cache

from pinnace.apis.resources import NODES
from pinnace.apiserver.options import Options
from pinnace.apiserver.storage import Storage
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in
from pinnace.wire.http import AnyResponse, Request

KUBELET_PORT = 10250

Failure = Callable[[str], ApiError]
"""The error of a backend that does not answer, of why it does not."""


class Backends:
    def __init__(self, options: Options, storage: Storage) -> None:
        self._options = options
        self._storage = storage
        self._kubelet_tls: ssl.SSLContext | None = None

    def kubelet_url(self, node_name: str) -> str:
        """`https://address:port` of a node's kubelet. Raises 404 without the node, 503 without an address."""
        found = self._storage.cache(NODES).get(node_name)
        if found is None:
            raise errors.not_found("nodes", node_name)
        node = found.obj()
        port = get_in(node, "status", "daemonEndpoints", "kubeletEndpoint", "Port", default=0) or KUBELET_PORT
        return f"https://{bracketed(self.node_address(node))}:{port}"

    def node_address(self, node: Obj) -> str:
        by_type: dict[str, str] = {}
        for address in get_in(node, "status", "addresses", default=()):
            by_type.setdefault(address.get("type", ""), address.get("address", ""))
        for wanted in self._options.kubelet_preferred_address_types:
            if by_type.get(wanted):
                return by_type[wanted]
        raise errors.unavailable(f"no preferred addresses found; known addresses: {list(by_type.values())}")

    def kubelet_tls(self) -> ssl.SSLContext:
        """How kubelets are spoken to: our client certificate, theirs verified if there is an authority for it."""
        if self._kubelet_tls is None:
            options = self._options
            context = ssl.create_default_context(
                cafile=str(options.kubelet_certificate_authority) if options.kubelet_certificate_authority else None
            )
            if options.kubelet_certificate_authority is None:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if options.kubelet_client_certificate is not None:
                context.load_cert_chain(options.kubelet_client_certificate, options.kubelet_client_key)
            self._kubelet_tls = context
        return self._kubelet_tls

    async def kubelet(self, request: Request, node_name: str, path: str, failure: Failure | None = None) -> AnyResponse:
        """Pass `request` on to a kubelet's `path` (with query); its answer, or an upgraded connection.

        `failure` makes the error of a kubelet that does not answer; without one it is that of a proxy.
        """
        return await pass_on(request, self.kubelet_url(node_name) + path, self.kubelet_tls(), failure or unreachable)


@cache
def trusting() -> ssl.SSLContext:
    """TLS to what a proxy path leads to: pods and services have certificates nobody here knows."""
    return unverified()


def trusting_bundle(bundle: str) -> ssl.SSLContext:
    """TLS that trusts a `caBundle` (base64 of PEM), or who the machine trusts. Raises ValueError."""
    try:
        authorities = base64.b64decode(bundle, validate=True).decode() if bundle else None
        return ssl.create_default_context(cadata=authorities)
    except (binascii.Error, UnicodeDecodeError, ssl.SSLError) as error:
        raise ValueError(f"unable to load root certificates: {error}") from None


def unverified() -> ssl.SSLContext:
    """TLS that asks for no proof, the caller's own to change."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def unreachable(why: str) -> ApiError:
    """What a proxy says where nobody answers: 503."""
    return errors.unavailable(f"error trying to reach service: {why}")


async def pass_on(
    request: Request, url: str, tls: ssl.SSLContext | None, failure: Failure = unreachable
) -> AnyResponse:
    """Pass `request` on to `url`. Raises `failure` when nobody answers there."""
    from pinnace.wire.proxy import BackendError, http_proxy, upgrade_proxy

    context = tls if url.startswith("https:") else None
    try:
        if "upgrade" in request.headers and "upgrade" in request.headers.get("connection", "").lower():
            return await upgrade_proxy(request, url, context)
        return await http_proxy(request, url, context)
    except BackendError as error:
        raise failure(str(error)) from None


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
