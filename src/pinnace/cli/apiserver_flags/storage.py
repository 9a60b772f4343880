"""Flags of where the state is kept, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pinnace.cli.apiserver_flags.section import section
from pinnace.cli.values import DURATION, FILE

if TYPE_CHECKING:
    from pinnace.store.location import Location

options = section(
    click.option(
        "--etcd-servers",
        "storage",
        default="sqlite:///var/lib/pinnace/state.db",
        show_default=True,
        help="Where the state is: the path of a SQLite file, or the URLs of an etcd cluster, separated by commas.",
    ),
    click.option("--etcd-prefix", default="/registry", show_default=True, help="What keys in etcd begin with."),
    click.option("--etcd-cafile", type=FILE, help="Who signs etcd's certificates."),
    click.option("--etcd-certfile", type=FILE, help="Certificate to reach etcd with."),
    click.option("--etcd-keyfile", type=FILE, help="Its key."),
    click.option(
        "--etcd-compaction-interval",
        type=DURATION,
        default="5m",
        show_default=True,
        help="How long history is kept at least; 0 keeps it for ever.",
    ),
    click.option("--storage-backend", default="", help="sqlite or etcd3.  [default: what --etcd-servers says]"),
    click.option("--event-ttl", type=DURATION, default="1h", show_default=True, help="How long events are kept."),
)


def read(flags: dict[str, Any]) -> dict[str, Any]:
    return {"compaction_interval": flags["etcd_compaction_interval"], "event_ttl": flags["event_ttl"]}


def location(flags: dict[str, Any]) -> Location:
    from pinnace.store.location import BACKENDS, parse_location

    files = (flags["etcd_cafile"], flags["etcd_certfile"], flags["etcd_keyfile"])
    try:
        found = parse_location(flags["storage"], flags["etcd_prefix"], *files)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--etcd-servers") from None
    backend = flags["storage_backend"]
    if backend and backend not in BACKENDS:
        why = f'"{backend}" is not one of {", ".join(BACKENDS)}'
        raise click.BadParameter(why, param_hint="--storage-backend")
    if backend and backend != found.backend:
        why = f'"{backend}" is not what --etcd-servers={found} leads to'
        raise click.BadParameter(why, param_hint="--storage-backend")
    return found
