"""What kube-controller-manager and kube-scheduler serve of themselves: health, /metrics, /configz, /debug/pprof/ and
the pages of `wire.zpages`.

Health is for everybody; who asks for more shows a bearer token, which the API server judges, as it does whether its
bearer may. https://kubernetes.io/docs/reference/using-api/health-checks/
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from pinnace.cli import delegated
from pinnace.cli.certificate import certificate_options
from pinnace.cli.serving import own_certificate
from pinnace.cli.values import Decorator, switch

if TYPE_CHECKING:
    from pinnace.cli.delegated import Access
    from pinnace.client.client import Client
    from pinnace.machinery.metrics import Family
    from pinnace.wire.http import AnyResponse, Request, Response
    from pinnace.wire.zpages import ZPages

_HEALTH = ("healthz", "livez", "readyz")
_PATHS = ("/configz", "/debug", "/flagz", "/healthz", "/livez", "/metrics", "/metrics/slis", "/readyz", "/statusz")
_TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))


def observing_options(port: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The flags of where a server can be looked at; `port` is the original's, to name it."""
    options: list[Decorator] = [
        click.option("--bind-address", default="0.0.0.0", show_default=True, help="Where health and metrics are."),
        click.option(
            "--secure-port",
            type=click.IntRange(0, 65535),
            default=0,
            show_default=True,
            help=f"Their port, {port} in the original; 0 serves none.",
        ),
        certificate_options("/var/run/kubernetes"),
        *delegated.OPTIONS,
        switch("--profiling", default=True, show_default=True, help="Tell at /debug/pprof/ what the server is doing."),
    ]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@contextlib.asynccontextmanager
async def observed(
    pages: ZPages, client: Client, flags: dict[str, Any], families: Iterable[Family] = ()
) -> AsyncIterator[None]:
    """Serve what the flags ask for meanwhile; `families` are its own. Raises OSError for a port that is taken."""
    if not flags["secure_port"]:
        yield
        return
    from pinnace.wire.server import serve
    from pinnace.wire.tls import TlsConfig

    files = flags["tls_cert_file"], flags["tls_private_key_file"]
    if bool(files[0]) != bool(files[1]):
        raise click.BadParameter("give both or none", param_hint="--tls-cert-file, --tls-private-key-file")
    if not files[0]:
        files = own_certificate(flags["cert_dir"], pages.component, flags["bind_address"])
    proxies = flags["requestheader_client_ca_file"]
    tls = TlsConfig(files[0], files[1], flags["client_ca_file"], ("http/1.1",), (proxies,) if proxies else ())
    async with delegated.access(client, pages.component, flags) as access:
        observer = Observer(access, pages, families, profiling=flags["profiling"])
        server = await serve(observer.handle, [(flags["bind_address"], flags["secure_port"])], tls)
        try:
            yield
        finally:
            await server.close(1.0)


class Observer:
    """Answers for a server; `access` says to whom."""

    def __init__(
        self, access: Access, pages: ZPages, families: Iterable[Family] = (), *, profiling: bool = False
    ) -> None:
        from pinnace.client import measures
        from pinnace.wire.health import Results
        from pinnace.wire.process_metrics import process_families

        self._access = access
        self._profiling = profiling
        self._pages = pages
        self._results = Results()
        pages.paths = _PATHS
        pages.debug_flags = profiling
        features = pages.features
        process = process_families(f"v1.{features.minor}.0", features.table())
        self._families = [*process, *measures.families(), *families]

    async def handle(self, request: Request) -> AnyResponse:
        from pinnace.machinery import metrics
        from pinnace.machinery.errors import ApiError
        from pinnace.wire import health
        from pinnace.wire.http import Response

        endpoint, _, name = request.path.strip("/").partition("/")
        if endpoint in _HEALTH:
            # Who loses its lease ends at once: who answers has it, or waits for it.
            checks: dict[str, health.Check] = {"ping": lambda: "", "leaderElection": lambda: ""}
            verbose, excluded = "verbose" in request.params(), request.param_list("exclude")
            return health.answer(endpoint, name, checks, verbose, excluded, self._results)
        try:
            refused = await self._access.refused(request)
        except ApiError as error:
            return Response(500, _TEXT, f"Internal Server Error: {error.message}\n".encode())
        if refused is not None:
            return refused
        if request.path == "/metrics":
            return Response(200, (("Content-Type", metrics.TEXT),), metrics.text(self._families).encode())
        if request.path == health.SLIS:
            return Response(200, (("Content-Type", metrics.TEXT),), self._results.text())
        found = self._pages.answer(request) or await self._profile(request)
        return found or Response(404, _TEXT, b"404 page not found\n")

    async def _profile(self, request: Request) -> Response | None:
        from pinnace.wire import profiling
        from pinnace.wire.http import Response

        if not self._profiling or request.method != "GET" or not f"{request.path}/".startswith(profiling.BELOW):
            return None
        found = profiling.answer(request)
        return found if found is None or isinstance(found, Response) else await found
