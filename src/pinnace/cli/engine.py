"""`pinnace engine`: the container engine alone, served on a socket as CRI v1, as containerd is.

For `crictl` and for kubelets in other processes: `--container-runtime-endpoint unix:///run/pinnace/engine.sock`.
Containers belong to the engine's monitor and run on when this process ends.
"""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from pinnace.cli.container_runtime import DEFAULT_DIRECTORY, engine_flags, make_engine, read_parts
from pinnace.cli.serving import require_root, run, verbosity_option
from pinnace.cli.values import DIRECTORY, NETWORKS, Text

DEFAULT_LISTEN = "unix:///run/pinnace/engine.sock"


def _socket(text: str) -> Path:
    scheme, _, path = text.partition("://")
    if scheme != "unix" or not path.startswith("/"):
        raise ValueError(f'"{text}" is not unix:///PATH')
    return Path(path)


@click.command("engine")
@click.option("--listen", type=Text("socket", _socket), default=DEFAULT_LISTEN, show_default=True, help="The socket.")
@click.option(
    "--root",
    type=DIRECTORY,
    default=DEFAULT_DIRECTORY,
    show_default=True,
    help="Where images and containers are; no other process may use them at the same time.",
)
@click.option("--pod-cidr", type=NETWORKS, help="Addresses of pods, until a kubelet tells them.")
@engine_flags
@verbosity_option
def command(verbosity: int, listen: Path, root: Path, pod_cidr: list[str] | None, **parts: Any) -> None:
    """Run the container engine alone, in the foreground, for others to use."""
    require_root("engine")
    try:
        from pinnace.cri.server import CriServer
    except ImportError as error:
        raise click.ClickException(f"a socket needs {error.name}: pip install 'pinnace[cri]'") from None

    async def start() -> Coroutine[Any, Any, None]:
        import asyncio

        engine = make_engine(root.absolute(), parts=read_parts(parts))
        await engine.start()
        if pod_cidr:
            await engine.update_runtime_config(",".join(pod_cidr))
        server = CriServer(engine, engine, engine.inspection)
        await server.start(listen)

        async def serve() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await server.close()
                await engine.stop()

        return serve()

    run("engine", verbosity, start)
