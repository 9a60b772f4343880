"""Watches that begin with more than their client takes at once: everything comes, in order, and nothing twice."""

from __future__ import annotations

import pytest

from tests.apiserver.conftest import Cluster, config_map

PATH = "/api/v1/namespaces/default/configmaps"
COUNT, SIZE = 40, 700_000  # more than the socket and what may be queued for a slow client together


async def fill(cluster: Cluster) -> int:
    """Create the objects; the revision before."""
    before = cluster.server.api.storage.revision
    for number in range(COUNT):
        await cluster.request("POST", PATH, config_map(f"c-{number:02}", v="x" * SIZE))
    return before


@pytest.mark.parametrize("query", ["resourceVersion={}", "resourceVersion=0", ""])
async def test_slow_client_gets_the_beginning_and_then_what_happened_meanwhile(cluster: Cluster, query: str) -> None:
    before = await fill(cluster)
    watch = await cluster.watch(f"{PATH}?watch=true&{query.format(before)}")
    for number in (3, 1):
        await cluster.request(
            "PATCH", f"{PATH}/c-{number:02}", {"data": {"v": "changed"}}, content_type="application/merge-patch+json"
        )
    await cluster.request("DELETE", f"{PATH}/c-02")
    names = [f"c-{number:02}" for number in range(COUNT)]
    expected = [("ADDED", name) for name in names]
    expected += [("MODIFIED", "c-03"), ("MODIFIED", "c-01"), ("DELETED", "c-02")]
    assert await watch.take(len(expected)) == expected
    watch.close()


async def test_end_of_the_beginning_is_marked_at_the_revision_it_shows(cluster: Cluster) -> None:
    await fill(cluster)
    shown = cluster.server.api.storage.revision
    options = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    watch = await cluster.watch(f"{PATH}?watch=true&{options}")
    await cluster.request("DELETE", f"{PATH}/c-00")
    assert {kind for kind, _ in await watch.take(COUNT)} == {"ADDED"}
    bookmark = await watch.next()
    assert bookmark is not None
    assert bookmark["type"] == "BOOKMARK"
    assert int(bookmark["object"]["metadata"]["resourceVersion"]) == shown
    assert await watch.take(1) == [("DELETED", "c-00")]
    watch.close()


async def test_client_that_leaves_at_the_beginning_is_forgotten(cluster: Cluster) -> None:
    await fill(cluster)
    watch = await cluster.watch(f"{PATH}?watch=true")
    watch.writer.transport.abort()
    other = await cluster.watch(f"{PATH}?watch=true&fieldSelector=metadata.name%3Dc-00")
    assert await other.take(1) == [("ADDED", "c-00")]
    other.close()
