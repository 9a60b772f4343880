"""The servers of a test's cluster: assembled here, run in the test's process or, by `python -m`, in one beside it.

The process beside takes its options as JSON in its argument, says on standard output where it listens, and ends when
its standard input does: it cannot outlive the tests, however they end.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinnace.machinery.errors import ApiError

if TYPE_CHECKING:
    from pinnace.apiserver.options import Options as ServerOptions
    from pinnace.apiserver.server import ApiServer
    from pinnace.client.client import Client

STOP_SECONDS = 0.5  # for requests under way when a cluster is stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a test wants of its cluster."""

    controllers: bool | tuple[str, ...] = True  # all, none, or as --controllers names them
    scheduler: bool = True
    minor: int | None = None  # which Kubernetes 1.<minor>; the newest when None
    runtime_config: str = ""  # which alpha and beta versions to serve, as --runtime-config takes it
    feature_gates: str = ""  # as --feature-gates takes them, for every server
    service_cluster_ip_range: str = "10.96.0.0/16"
    pod_cidr: str = "10.244.0.0/16"

    def __post_init__(self) -> None:
        if self.controllers not in (True, False):
            object.__setattr__(self, "controllers", tuple(self.controllers))  # type: ignore[arg-type] # of JSON: a list

    @property
    def makes_service_accounts(self) -> bool:
        """Whether namespaces get the service account that pods need."""
        if isinstance(self.controllers, bool):
            return self.controllers
        from pinnace.controllers.selection import selected

        return selected("serviceaccount-controller", self.controllers)


class ControlPlane:
    """API server, controllers and scheduler in the running event loop, on the certificates in `directory`."""

    def __init__(self, directory: Path, options: Options) -> None:
        self._directory = directory
        self._options = options
        self._tasks: list[asyncio.Task[None]] = []
        self._store: Any = None
        self.server: ApiServer

    async def start(self) -> int:
        """Start everything; the port. Without a controller that makes them, namespaces have no service accounts."""
        from pinnace.apiserver.server import ApiServer
        from pinnace.store.sqlite import SqliteStore

        self._store = SqliteStore.open(self._directory / "state.db")
        self.server = ApiServer(self._server_options(), self._store)
        await self.server.start()
        if self._options.controllers:
            self._run("controllers", self._controllers())
        if self._options.scheduler:
            from pinnace.scheduler.scheduler import Scheduler

            self._run(
                "scheduler",
                Scheduler(self.client("system:kube-scheduler"), features=self.server.api.registry.features).run(),
            )
        if self._options.makes_service_accounts:
            await self._default_service_account()
        return self.server.addresses[0][1]

    async def stop(self) -> None:
        from pinnace.wire.tasks import end_tasks

        await end_tasks(self._tasks)
        if hasattr(self, "server"):
            await self.server.stop(STOP_SECONDS)
        if self._store is not None:
            await self._store.close()

    def client(self, user: str) -> Client:
        """A client without a wire between; what it returns is shared and read-only."""
        from pinnace.client.client import Client
        from pinnace.client.transport import LoopbackTransport

        return Client(LoopbackTransport(self.server, user))

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    def _server_options(self) -> ServerOptions:
        from pinnace.apis.builtin import GROUPS
        from pinnace.apis.runtime_config import parse_runtime_config
        from pinnace.apiserver.options import Options as ServerOptions

        pki = self._directory
        return ServerOptions(
            bind=[("127.0.0.1", 0)],
            cert_file=pki / "apiserver.crt",
            key_file=pki / "apiserver.key",
            client_ca_file=pki / "ca.crt",
            authorization_modes=("Node", "RBAC"),
            service_account_signing_key_file=pki / "sa.key",
            service_cluster_ip_range=self._options.service_cluster_ip_range,
            kubelet_client_certificate=pki / "apiserver-kubelet-client.crt",
            kubelet_client_key=pki / "apiserver-kubelet-client.key",
            kubelet_certificate_authority=pki / "ca.crt",
            proxy_client_cert_file=pki / "front-proxy-client.crt",
            proxy_client_key_file=pki / "front-proxy-client.key",
            requestheader_client_ca_file=pki / "front-proxy-ca.crt",
            requestheader_allowed_names=("front-proxy-client",),
            minor=self._options.minor,
            feature_gates=self._feature_gates(),
            runtime_config=parse_runtime_config(self._options.runtime_config, GROUPS),
        )

    def _feature_gates(self) -> dict[str, bool]:
        from pinnace.machinery.features import parse_feature_gates

        return parse_feature_gates(self._options.feature_gates)

    def _controllers(self) -> Coroutine[Any, Any, None]:
        from pinnace.controllers.manager import ControllerManager
        from pinnace.controllers.manager import Options as ControllerOptions

        chosen = self._options.controllers
        options = ControllerOptions.with_keys_of(
            self._directory,
            controllers=("*",) if chosen is True else chosen or (),
            cluster_cidrs=[self._options.pod_cidr],
            feature_gates=self._feature_gates(),
        )
        if self._options.minor is not None:
            options.kubernetes_minor = self._options.minor
        return ControllerManager(self.client("system:kube-controller-manager"), options).run()

    async def _default_service_account(self) -> None:
        """Wait for what pods of namespace `default` need: without it their creation is refused."""
        from pinnace.apis.resources import SERVICE_ACCOUNTS

        client = self.client("system:apiserver")
        while True:
            try:
                await client.get(SERVICE_ACCOUNTS, "default", "default")
                return
            except ApiError as error:
                if not error.is_not_found:
                    raise
            await asyncio.sleep(0.002)


async def _serve(directory: Path, options: Options) -> None:
    plane = ControlPlane(directory, options)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    try:
        port = await plane.start()
        loop.add_reader(0, ended.set)  # nothing is ever written to us: what can be read is the end
        sys.stdout.write(json.dumps({"port": port}) + "\n")
        sys.stdout.flush()
        await ended.wait()
    finally:
        await plane.stop()


def command(directory: Path, options: Options) -> list[str]:
    """How the process beside is started."""
    return [sys.executable, "-m", __name__, str(directory), json.dumps(asdict(options))]


def main() -> None:
    from pinnace.testing.logs import log_to_stderr

    log_to_stderr()
    asyncio.run(_serve(Path(sys.argv[1]), Options(**json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()
