"""`pinnace node`: which nodes a cluster has, and hollow ones added and deleted.

Hollow nodes are wished for in a file of the profile, which the process that plays them follows (`hollow.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pinnace.apis.resources import NODES
from pinnace.client.client import Client
from pinnace.cluster import control, hollow, turns
from pinnace.cluster.hollow import GROUP_LABEL, HollowGroup
from pinnace.cluster.node import connect, is_ready
from pinnace.cluster.preflight import require_root
from pinnace.cluster.profile import Profile, ProfileConfig
from pinnace.cluster.progress import Progress
from pinnace.cluster.reasons import NODE_ADD, NODE_NOT_FOUND, NODE_TIMEOUT, USAGE, ClusterError
from pinnace.cluster.status import require_running
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, labels_of, name_of
from pinnace.machinery.names import is_dns_subdomain

TOTAL_STEPS = 2
T = TypeVar("T")


def list_nodes(profile: Profile) -> list[tuple[str, str, bool]]:
    """Name, address and whether it is hollow, of each node. Raises ClusterError."""
    config = require_running(profile)
    listed = _ask(profile, config, lambda client: client.list(NODES))
    return [(name_of(node), _address(node), GROUP_LABEL in labels_of(node)) for node in listed["items"]]


def add_hollow(profile: Profile, group: HollowGroup, progress: Progress, timeout: float) -> None:
    """Add a group of hollow nodes and wait until all are Ready. Raises ClusterError."""
    require_root()
    if wrong := is_dns_subdomain(f"{group.name}-0"):
        raise ClusterError(USAGE, f'"{group.name}" cannot begin the name of a node: {wrong[0]}')
    with turns.turn(profile):
        config = require_running(profile)
        groups = hollow.load_groups(profile)
        if group.name in groups:
            advice = f"Choose another --name, or remove them: pinnace node delete {group.name}"
            raise ClusterError(NODE_ADD, f'There are hollow nodes "{group.name}" already', advice)
        progress.step("Node", f'Adding {group.count} hollow nodes "{group.name}"')
        hollow.save_groups(profile, {**groups, group.name: group})
        control.look_again(profile)
        try:
            _ask(profile, config, lambda client: _all_ready(client, set(group.node_names), timeout))
        except TimeoutError:
            why = f'The hollow nodes "{group.name}" were not Ready within {timeout:.0f} s'
            raise ClusterError(NODE_TIMEOUT, why, "See: pinnace logs") from None
    progress.done(f'{group.count} hollow nodes "{group.name}" are ready')


def delete_hollow(profile: Profile, name: str, progress: Progress) -> None:
    """Delete a group of hollow nodes, with their Nodes. Raises ClusterError."""
    require_root()
    with turns.turn(profile):
        config = require_running(profile)
        groups = hollow.load_groups(profile)
        if name not in groups:
            known = ", ".join(groups) or "none"
            raise ClusterError(NODE_NOT_FOUND, f'There are no hollow nodes "{name}"', f"There are: {known}")
        progress.step("Node", f'Deleting the hollow nodes "{name}"')
        del groups[name]
        hollow.save_groups(profile, groups)
        control.look_again(profile)
        selector = f"{GROUP_LABEL}={name}"
        _ask(profile, config, lambda client: client.delete_collection(NODES, label_selector=selector))
    progress.done(f'The hollow nodes "{name}" are deleted')


def _ask(profile: Profile, config: ProfileConfig, question: Callable[[Client], Awaitable[T]]) -> T:
    async def ask() -> T:
        client = connect(profile, config, "admin", "pinnace")
        try:
            return await question(client)
        finally:
            await client.transport.close()

    try:
        return asyncio.run(ask())
    except ApiError as error:
        raise ClusterError(NODE_ADD, f"the API server refuses: {error.message}") from error


async def _all_ready(client: Client, missing: set[str], timeout: float) -> None:
    """Return when every one of the named nodes is Ready. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    async with asyncio.timeout(timeout):
        while missing and time.monotonic() < deadline:  # a watch may end before its time
            async for event in client.watch(NODES, resource_version="0"):
                node = event["object"]
                if event["type"] in ("ADDED", "MODIFIED") and is_ready(node):
                    missing.discard(name_of(node))
                if not missing:
                    return


def _address(node: Obj) -> str:
    addresses = get_in(node, "status", "addresses", default=[])
    return next((str(one["address"]) for one in addresses if one["type"] == "InternalIP"), "")
