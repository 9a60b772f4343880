"""`pinnace snapshot`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pinnace.cli.image import ProfileGroup
from pinnace.cli.options import open_profile, profile_option, progress_for
from pinnace.cli.values import FILE

if TYPE_CHECKING:
    from pinnace.store.location import Location
    from pinnace.store.snapshot import Snapshot

_PATH = click.Path(dir_okay=False, path_type=Path)


def _store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The store of an API server that no profile describes, as that server's flags say it."""
    for option in (
        click.option("--etcd-keyfile", "key_file", type=FILE, help="Its key."),
        click.option("--etcd-certfile", "cert_file", type=FILE, help="Certificate to reach etcd with."),
        click.option("--etcd-cafile", "ca_file", type=FILE, help="Who signs etcd's certificates."),
        click.option("--etcd-prefix", "prefix", default="/registry", help="What keys in etcd begin with."),
        click.option("--etcd-servers", "servers", default="", help="A store instead of a cluster."),
    ):
        command = option(command)
    return command


@click.group("snapshot", cls=ProfileGroup)
def command() -> None:
    """Save what a cluster stores to a file, and restore it."""


@command.command("save")
@profile_option
@_store_options
@click.argument("file", type=_PATH)
def save_command(profile_name: str, file: Path, **store: Any) -> None:
    """Write everything a cluster stores, as it is now, to FILE."""
    if not store["servers"]:
        from pinnace.cluster import snapshot
        from pinnace.cluster.progress import reported

        progress = progress_for("text")
        profile = open_profile(profile_name, progress)
        with reported(progress):
            _tell("Saved", snapshot.save(profile, file))
        return
    import asyncio
    from datetime import UTC, datetime

    from pinnace.store import snapshot as files

    with _failures():
        data = asyncio.run(files.save(_location(**store), datetime.now(UTC)))
        files.write_file(file, data)
        _tell("Saved", files.decode(data))


@command.command("restore")
@profile_option
@_store_options
@click.option("--replace", is_flag=True, help="Replace what a stopped cluster stores.")
@click.argument("file", type=_PATH)
def restore_command(profile_name: str, file: Path, replace: bool, **store: Any) -> None:
    """Bring back what FILE holds, into a stopped cluster or an empty store."""
    if not store["servers"]:
        from pinnace.cluster import snapshot
        from pinnace.cluster.progress import reported

        progress = progress_for("text")
        profile = open_profile(profile_name, progress)
        with reported(progress):
            _tell("Restored", snapshot.restore(profile, file, replace=replace))
        return
    import asyncio

    from pinnace.store import snapshot as files

    with _failures():
        found = files.read_file(file)
        asyncio.run(files.restore(_location(**store), found, replace=replace))
        _tell("Restored", found)


@command.command("status")
@click.argument("file", type=_PATH)
def status_command(file: Path) -> None:
    """Check FILE, and say what it holds."""
    from pinnace.store import snapshot as files

    with _failures():
        _tell("Whole:", files.read_file(file))


def _tell(what: str, found: Snapshot) -> None:
    click.echo(f"{what} {len(found.items)} keys of revision {found.revision}, taken {found.taken}")


def _location(
    servers: str, prefix: str, ca_file: Path | None, cert_file: Path | None, key_file: Path | None
) -> Location:
    from pinnace.store.location import parse_location

    try:
        return parse_location(servers, prefix, ca_file, cert_file, key_file)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--etcd-servers") from None


@contextmanager
def _failures() -> Iterator[None]:
    """One line instead of a traceback for what can go wrong with stores and files."""
    from pinnace.store.contract import StoreError
    from pinnace.store.snapshot import SnapshotError

    try:
        yield
    except (StoreError, SnapshotError) as error:
        raise click.ClickException(str(error)) from None
