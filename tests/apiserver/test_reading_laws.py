"""Laws of reading: pages make up one list, and a watch that is taken up again misses, doubles and reorders nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from pinnace.apiserver.server import ApiServer
from pinnace.machinery.meta import Obj
from pinnace.store.sqlite import SqliteStore
from tests.apiserver.conftest import Cluster, options_for

MAPS = "/api/v1/namespaces/default/configmaps"
NAMES = st.text("abcdef", min_size=1, max_size=4)

Step = tuple[str, str]
"""What a writer does, and to which object."""


def with_cluster(pki: Path, scenario: Callable[[Cluster], Awaitable[None]]) -> None:
    """Run a scenario against a server of its own."""

    async def run() -> None:
        with TemporaryDirectory() as directory:
            store = SqliteStore.open(Path(directory) / "state.db")
            server = ApiServer(options_for(pki), store)
            try:
                await server.start()
                await scenario(Cluster(server, store, pki))
            finally:
                await server.stop()
                await store.close()

    asyncio.run(run())


def config_map(name: str, **data: str) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@settings(max_examples=15, deadline=None)
@given(names=st.sets(NAMES, min_size=1, max_size=12), limit=st.integers(1, 13), disturbed=st.sets(NAMES, max_size=4))
def test_pages_make_up_the_list_there_was_at_the_first(
    pki: Path, names: set[str], limit: int, disturbed: set[str]
) -> None:
    async def scenario(cluster: Cluster) -> None:
        for name in names:
            await cluster.request("POST", MAPS, config_map(name))
        whole = await cluster.request("GET", MAPS)
        pages: list[Obj] = []
        params = {"limit": str(limit)}
        left = len(whole["items"])
        while True:
            page = await cluster.request("GET", MAPS, params=params)
            pages += page["items"]
            left -= len(page["items"])
            assert page["metadata"].get("remainingItemCount", 0) == left
            if not page["metadata"].get("continue"):
                break
            assert len(page["items"]) == limit
            params = {"limit": str(limit), "continue": page["metadata"]["continue"]}
            for name in disturbed:  # what is written meanwhile is of a later list
                write = "DELETE" if name in names else "POST"
                await cluster.request(write, f"{MAPS}/{name}" if name in names else MAPS, config_map(name))
            disturbed.clear()

        assert pages == whole["items"]

    with_cluster(pki, scenario)


@settings(max_examples=15, deadline=None)
@given(
    writers=st.lists(
        st.lists(st.tuples(st.sampled_from(["write", "delete"]), NAMES), min_size=1, max_size=8), min_size=1, max_size=4
    ),
    patience=st.integers(1, 5),
)
def test_a_watch_taken_up_again_and_again_sees_every_write_once_and_in_order(
    pki: Path, writers: list[list[Step]], patience: int
) -> None:
    async def scenario(cluster: Cluster) -> None:
        begun = (await cluster.request("GET", MAPS))["metadata"]["resourceVersion"]
        expected = await asyncio.gather(*(write(cluster, f"w{number}", steps) for number, steps in enumerate(writers)))
        wanted = sorted((entry for entries in expected for entry in entries), key=lambda entry: entry[0])

        seen: list[tuple[int, str, str]] = []
        version = begun
        while len(seen) < len(wanted):
            watch = await cluster.watch(f"{MAPS}?watch=1&resourceVersion={version}")
            for _ in range(min(patience, len(wanted) - len(seen))):  # and hang up in the middle
                event = await watch.next()
                assert event is not None
                meta = event["object"]["metadata"]
                version = meta["resourceVersion"]
                seen.append((int(version), event["type"], meta["name"]))
            watch.close()

        assert seen == wanted

    with_cluster(pki, scenario)


async def write(cluster: Cluster, prefix: str, steps: list[Step]) -> list[tuple[int, str, str]]:
    """Write objects of one writer's own; returns `(revision, type of event, name)` of every write."""
    done: list[tuple[int, str, str]] = []
    there: dict[str, Obj] = {}
    for number, (what, name) in enumerate(steps):
        full = f"{prefix}-{name}"
        if what == "write":
            known = there.get(full)
            new = {**config_map(full), "data": {"n": str(number)}}
            if known is None:
                there[full] = await cluster.request("POST", MAPS, new)
            else:
                there[full] = await cluster.request("PUT", f"{MAPS}/{full}", {**known, "data": {"n": str(number)}})
            revision = int(there[full]["metadata"]["resourceVersion"])
            done.append((revision, "ADDED" if known is None else "MODIFIED", full))
        elif full in there:
            del there[full]
            stream = await cluster.watch(f"{MAPS}?watch=1&fieldSelector=metadata.name%3D{full}")
            await stream.next()  # the object as it is
            await cluster.request("DELETE", f"{MAPS}/{full}")
            gone = await stream.next()
            stream.close()
            assert gone is not None
            done.append((int(gone["object"]["metadata"]["resourceVersion"]), "DELETED", full))
    return done
