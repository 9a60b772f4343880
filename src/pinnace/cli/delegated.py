"""Who may ask kube-controller-manager and kube-scheduler of themselves: certificates and front proxies are judged here,
bearer tokens and rights by the API server (`--authentication-kubeconfig`, `--authorization-kubeconfig`).

https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/ tells of the same way for kubelets.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from pinnace.cli.serving import connect, connection
from pinnace.cli.values import FILE, NAMES, Decorator

if TYPE_CHECKING:
    from pinnace.apiserver.authn import User
    from pinnace.apiserver.front_proxy import FrontProxies
    from pinnace.client.client import Client
    from pinnace.wire.http import Request, Response

_TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))

OPTIONS: list[Decorator] = [
    click.option(
        "--authentication-kubeconfig",
        type=FILE,
        help="How to reach the API server that knows bearer tokens.  [default: as --kubeconfig says]",
    ),
    click.option(
        "--authorization-kubeconfig",
        type=FILE,
        help="How to reach the one that knows who may what.  [default: as --kubeconfig says]",
    ),
    click.option(
        "--authorization-always-allow-paths",
        type=NAMES,
        default="/healthz,/readyz,/livez",
        show_default=True,
        help="Paths that everybody may ask for; one that ends in * stands for all below.",
    ),
    click.option("--client-ca-file", type=FILE, help="Who signs client certificates that are believed."),
    click.option("--requestheader-client-ca-file", type=FILE, help="Who signs certificates of proxies to be believed."),
    click.option(
        "--requestheader-allowed-names", type=NAMES, default="", help="Common names of such proxies.  [default: any]"
    ),
]


@dataclass(slots=True, kw_only=True)
class Access:
    """Judges requests."""

    tokens: Client  # of the server that knows them
    rights: Client
    open_paths: tuple[str, ...] = ()
    believes_certificates: bool = False  # those that the wire has verified name their holders
    proxies: FrontProxies | None = None

    async def refused(self, request: Request) -> Response | None:
        """The answer to who may not; None for who may. Raises ApiError where the API server cannot be asked."""
        from pinnace.wire.http import Response

        if any(_covers(path, request.path) for path in self.open_paths):
            return None
        user = self._of_certificate(request) or await self._of_token(request)
        if user is None:
            return Response(401, _TEXT, b"Unauthorized\n")
        verb = "get" if request.method in ("GET", "HEAD") else request.method.lower()
        if await self._may(user, verb, request.path):
            return None
        words = f'forbidden: User "{user["username"]}" cannot {verb} path "{request.path}"'
        return Response(403, _TEXT, f"{words}\n".encode())

    def _of_certificate(self, request: Request) -> dict[str, Any] | None:
        der = request.peer.certificate
        if der is None:
            return None
        from pinnace.apiserver.authn import read_certificate

        if self.proxies is not None:
            if (told := self.proxies.user_of(request)) is not None:
                return _described(told)
            if not self.proxies.is_clients_own(der):
                return None
        user, _ = read_certificate(der)
        return _described(user) if self.believes_certificates and user.name else None

    async def _of_token(self, request: Request) -> dict[str, Any] | None:
        """Nobody in particular where there is none; None for one that does not hold."""
        from pinnace.apis.resources import TOKEN_REVIEWS

        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return {"username": "system:anonymous", "groups": ["system:unauthenticated"]}
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "metadata": {},
            "spec": {"token": token.strip()},
        }
        status = (await self.tokens.create(TOKEN_REVIEWS, review)).get("status") or {}
        return status["user"] if status.get("authenticated") else None

    async def _may(self, user: dict[str, Any], verb: str, path: str) -> bool:
        from pinnace.apis.resources import SUBJECT_ACCESS_REVIEWS

        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": {
                "user": user["username"],
                "groups": user.get("groups") or [],
                "uid": user.get("uid", ""),
                "extra": user.get("extra") or {},
                "nonResourceAttributes": {"path": path, "verb": verb},
            },
        }
        verdict = (await self.rights.create(SUBJECT_ACCESS_REVIEWS, review)).get("status") or {}
        return bool(verdict.get("allowed"))


def _covers(pattern: str, path: str) -> bool:
    return path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern


def _described(user: User) -> dict[str, Any]:
    extra = {key: list(values) for key, values in user.extra.items()}
    return {"username": user.name, "groups": list(user.groups), "uid": user.uid, "extra": extra}


@contextlib.asynccontextmanager
async def access(client: Client, component: str, flags: dict[str, Any]) -> AsyncIterator[Access]:
    """What the flags of `OPTIONS` say; `client` is asked where they name no other server."""
    async with contextlib.AsyncExitStack() as stack:

        def asked(file: Any) -> Client:
            if file is None:
                return client
            other = connect(connection(file), component)
            stack.push_async_callback(other.transport.close)
            return other

        yield Access(
            tokens=asked(flags["authentication_kubeconfig"]),
            rights=asked(flags["authorization_kubeconfig"]),
            open_paths=tuple(flags["authorization_always_allow_paths"]),
            believes_certificates=flags["client_ca_file"] is not None,
            proxies=_proxies(flags),
        )


def _proxies(flags: dict[str, Any]) -> FrontProxies | None:
    if flags["requestheader_client_ca_file"] is None:
        return None
    from pinnace.apiserver.front_proxy import FrontProxies

    names = tuple(flags["requestheader_allowed_names"])
    return FrontProxies(flags["requestheader_client_ca_file"], flags["client_ca_file"], names)
