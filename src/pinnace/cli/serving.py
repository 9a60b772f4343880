"""What the commands that run one server in the foreground share: logging, the connection, the election, the end.

A server ends with 0 by SIGTERM or SIGINT, with 2 for flags that cannot be, with 1 and one line for anything else that
it cannot go on without: its kubeconfig, its port, its leadership.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pinnace import __version__
from pinnace.cli.values import DURATION, switch

if TYPE_CHECKING:
    from pinnace.client.client import Client
    from pinnace.client.kubeconfig import Connection
    from pinnace.client.leader_election import Election
    from pinnace.client.service_account import ServiceAccountClients
    from pinnace.client.throttle import Throttle
    from pinnace.machinery.features import FeatureGates

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
Serve = Callable[[], Awaitable[Coroutine[Any, Any, None]]]

verbosity_option: Decorator = click.option(
    "-v",
    "--v",
    "verbosity",
    type=int,
    default=0,
    show_default=True,
    help="Log level: from 2 on, also what helps to debug.",
)

kubeconfig_option: Decorator = click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    help="How to reach the API server, and as whom.  [default: a pod's service account]",
)


def election_options(name: str) -> Decorator:
    """The flags of a server of which several may run while one acts, by the lease `name`."""
    options = [
        switch(
            "--leader-elect",
            default=True,
            show_default=True,
            help="Act only while holding the lease: several may run, one acts.",
        ),
        click.option(
            "--leader-elect-resource-lock",
            type=click.Choice(("leases",)),
            default="leases",
            show_default=True,
            help="What is held: a Lease.",
        ),
        click.option("--leader-elect-resource-name", default=name, show_default=True, help="The lease's name."),
        click.option(
            "--leader-elect-resource-namespace", default="kube-system", show_default=True, help="Its namespace."
        ),
        click.option(
            "--leader-elect-lease-duration",
            type=DURATION,
            default="15s",
            show_default=True,
            help="A lease not renewed for so long is taken over.",
        ),
        click.option(
            "--leader-elect-renew-deadline",
            type=DURATION,
            default="10s",
            show_default=True,
            help="Who could not renew for so long stops.",
        ),
        click.option(
            "--leader-elect-retry-period",
            type=DURATION,
            default="2s",
            show_default=True,
            help="Between attempts to take or renew.",
        ),
    ]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def election(flags: dict[str, Any]) -> Election | None:
    """What the flags of `election_options` say; None where no lease is asked for."""
    from pinnace.client.leader_election import Election, Timing

    lease, renew, retry = (flags[f"leader_elect_{one}"] for one in ("lease_duration", "renew_deadline", "retry_period"))
    if not lease > renew > retry > 0 or lease < 1:
        raise click.BadParameter(
            "must be at least 1s, and longer than --leader-elect-renew-deadline, and that longer than "
            "--leader-elect-retry-period",
            param_hint="--leader-elect-lease-duration",
        )
    if not flags["leader_elect"]:
        return None
    name, namespace = flags["leader_elect_resource_name"], flags["leader_elect_resource_namespace"]
    return Election(name=name, namespace=namespace, timing=Timing(lease, renew, retry))


def connection(kubeconfig: Path | None) -> Connection:
    """Where the API server is, by kubeconfig or, in a pod, by its service account; ends the program without either."""
    from pinnace.client.https import tls_context
    from pinnace.client.kubeconfig import KubeconfigError, in_cluster, load

    try:
        found = load(kubeconfig) if kubeconfig else in_cluster()
        if not found.server:
            raise KubeconfigError("the cluster has no server")
        tls_context(found)
    except KubeconfigError as error:
        prefix = "" if str(kubeconfig) in str(error) else f"{kubeconfig}: "
        raise click.ClickException(f"{prefix if kubeconfig else ''}{error}") from None
    except (ValueError, OSError) as error:
        raise click.ClickException(f"{kubeconfig}: its certificates cannot be used: {error}") from None
    return found


def client_options(qps: int, burst: int) -> Decorator:
    """The flags of how a server asks the API server; the numbers are those of the original, to name them."""
    options: list[Decorator] = [
        click.option(
            "--kube-api-qps", type=float, help=f"Requests a second at most.  [default: no limit; {qps} in the original]"
        ),
        click.option("--kube-api-burst", type=int, default=burst, show_default=True, help="At once, after a rest."),
        click.option(
            "--kube-api-content-type",
            default="application/vnd.kubernetes.protobuf",
            show_default=True,
            help="Taken for the original's sake; JSON is what is sent.",
        ),
    ]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def connect(to: Connection, component: str, flags: Mapping[str, Any] | None = None) -> Client:
    """A client of the API server, within the limits of `client_options`; to be called in the event loop."""
    from pinnace.client.client import Client
    from pinnace.client.https import HttpsTransport

    return Client(HttpsTransport(to, user_agent=_agent(component), throttle=_throttle(flags or {})))


def connect_accounts(root: Client, to: Connection, component: str, flags: Mapping[str, Any]) -> ServiceAccountClients:
    """Clients that act as ServiceAccounts, by tokens that `root` asks for; to be called in the event loop."""
    from pinnace.client.service_account import ServiceAccountClients

    return ServiceAccountClients(root, to, _agent(component), lambda: _throttle(flags))


def _agent(component: str) -> str:
    return f"{component}/v{__version__} pinnace"  # its beginning becomes the field manager


def _throttle(flags: Mapping[str, Any]) -> Throttle | None:
    from pinnace.client.throttle import Throttle

    qps, burst = flags.get("kube_api_qps"), flags.get("kube_api_burst")
    return Throttle(qps, burst or 1) if qps and qps > 0 else None


def own_certificate(directory: Path, name: str, *addresses: str) -> tuple[Path, Path]:
    """A certificate and key of our own, as the originals make them when they are given none."""
    from pinnace.kubeadm.pki import Leaf, PkiError, ensure_authority, ensure_leaf
    from pinnace.machinery.meta import utc_now

    now = utc_now()
    names = tuple(one for one in ("127.0.0.1", "localhost", *addresses) if one and one not in ("0.0.0.0", "::"))
    try:
        authority = ensure_authority(directory, f"{name}-ca", f"{name}-ca", now)
        cert_file = ensure_leaf(directory, authority, Leaf(name, name, names=names, server=True), now)
    except (PkiError, OSError) as error:
        raise click.ClickException(f"cannot make a certificate in {directory}: {error}") from None
    return cert_file, cert_file.with_suffix(".key")


def require_root(name: str) -> None:
    if os.geteuid() != 0:
        raise click.ClickException(f"{name} needs root privileges")


def host_name() -> str:
    """What a node is called unless it is told."""
    import socket

    return socket.gethostname().lower()


def primary_address() -> str:
    """This host's address towards the default route; ends the program where there is none."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: the kernel only looks for the way
        except OSError:
            raise click.ClickException("this host has no default route: give --node-ip") from None
        return str(probe.getsockname()[0])


def _warn_of(features: FeatureGates) -> None:
    import structlog

    for words in features.warnings():
        structlog.get_logger().warning(words)


def run(name: str, verbosity: int, start: Serve, features: FeatureGates | None = None) -> None:
    """Run one server until SIGTERM or SIGINT; `start` makes it, in the event loop, and returns what runs it."""
    import asyncio

    from pinnace.client.leader_election import LeadershipLost
    from pinnace.cluster import process
    from pinnace.cri.programs import search_path

    process.configure_logging(verbosity)
    if features is not None:
        _warn_of(features)
    os.environ["PATH"] = search_path()

    async def serve() -> None:
        try:
            work = await start()
        except OSError as error:
            raise click.ClickException(f"{name} cannot start: {error}") from None
        process.calm_collector()
        process.notify("READY=1")
        await process.run_together({name: work})

    try:
        asyncio.run(serve())
    except LeadershipLost:
        raise SystemExit(1) from None  # it has been logged
