"""`pinnace snapshot`: what a cluster stores, saved to a file and brought back.

A cluster that runs is asked for it over HTTPS, as its administrator; the file of one that does not is read. Only a
stopped cluster can be restored. The file's form is `pinnace.store.snapshot`'s.
"""

from __future__ import annotations

import asyncio
import http.client
import ssl
from datetime import UTC, datetime
from pathlib import Path

from pinnace.cluster import control, turns
from pinnace.cluster.profile import Profile, ProfileConfig
from pinnace.cluster.reasons import RUNNING, SNAPSHOT, ClusterError
from pinnace.store import snapshot as files
from pinnace.store.contract import StoreError
from pinnace.store.location import Location

_SECONDS = 300.0


def save(profile: Profile, file: Path) -> files.Snapshot:
    """Write a snapshot to `file`. Raises ClusterError."""
    config = profile.load()
    try:
        if control.snapshot(profile):
            data = _ask(profile, config)
        else:
            with turns.turn(profile):
                data = asyncio.run(files.save(_location(profile), datetime.now(UTC)))
        found = files.decode(data)
        files.write_file(file, data)
    except (files.SnapshotError, StoreError) as error:
        raise ClusterError(SNAPSHOT, str(error)) from error
    return found


def restore(profile: Profile, file: Path, *, replace: bool) -> files.Snapshot:
    """Fill the store of a stopped cluster; with `replace`, whatever it holds. Raises ClusterError."""
    with turns.turn(profile):
        profile.load()
        if control.snapshot(profile):
            raise ClusterError(RUNNING, f'The cluster "{profile.name}" is running', "Stop it: pinnace stop")
        try:
            found = files.read_file(file)
            asyncio.run(files.restore(_location(profile), found, replace=replace))
        except (files.SnapshotError, StoreError) as error:
            advice = "Replace what it holds: --replace" if "is not empty" in str(error) else ""
            raise ClusterError(SNAPSHOT, str(error), advice) from error
    return found


def _location(profile: Profile) -> Location:
    return Location(file=profile.store_file, text=str(profile.store_file))


def _ask(profile: Profile, config: ProfileConfig) -> bytes:
    try:
        context = ssl.create_default_context(cafile=str(profile.pki_dir / "ca.crt"))
        context.load_cert_chain(profile.pki_dir / "admin.crt", profile.pki_dir / "admin.key")
        connection = http.client.HTTPSConnection("127.0.0.1", config.api_server_port, timeout=_SECONDS, context=context)
        connection.request("GET", files.SERVED_AT)
        answer = connection.getresponse()
        data = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ClusterError(SNAPSHOT, f"the API server cannot be asked: {error}") from error
    if answer.status != 200:
        raise ClusterError(SNAPSHOT, f"the API server refuses: {data.decode(errors='replace')}")
    return data
