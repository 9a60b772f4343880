"""What is the SQLite store's own: order of acceptance, history in the file, its lock, damage, a full disk, kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pinnace.store import sqlite as sqlite_store
from pinnace.store.contract import Change, Compacted, RevisionConflict, StoreError
from pinnace.store.sqlite import SqliteStore


async def test_of_concurrent_writes_the_first_accepted_wins_and_losers_see_it(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "db")
    results = await asyncio.gather(*(store.put("/a", b"%d" % n, 0) for n in range(20)), return_exceptions=True)

    assert results[0] == 1
    for result in results[1:]:
        assert isinstance(result, RevisionConflict)
        assert result.found == 1
    await store.close()


async def test_writes_pipelined_on_one_key_land_in_order(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "db")
    tasks = [asyncio.ensure_future(store.put("/a", b"%d" % n, n)) for n in range(5)]
    tasks.append(asyncio.ensure_future(store.delete("/a", 5)))
    tasks.append(asyncio.ensure_future(store.put("/a", b"new", 0)))
    seen: list[Change] = []
    store.subscribe("/", 0, seen.extend)

    assert await asyncio.gather(*tasks) == [1, 2, 3, 4, 5, 6, 7]
    assert [change.value for change in seen[-3:]] == [b"4", None, b"new"]
    assert await store.get("/a") == ("/a", b"new", 7, 7)
    await store.close()


async def test_history_is_read_from_the_file(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "db")
    for n in range(10):
        await store.put("/a", b"%d" % n, n)
    seen: list[Change] = []
    store.subscribe("/", 2, seen.extend)
    assert seen == [("/a", b"%d" % n, n + 1) for n in range(2, 10)]
    await store.close()


async def test_revision_grows_over_restart_after_delete_and_compaction(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "db")
    await store.put("/a", b"1", 0)
    await store.delete("/a", 1)
    await store.compact(2)
    await store.close()

    store = SqliteStore.open(tmp_path / "db")
    assert store.revision == 2
    with pytest.raises(Compacted) as caught:
        store.subscribe("/", 1, [].extend)
    assert caught.value.oldest == 2
    assert await store.put("/a", b"2", 0) == 3
    await store.close()


async def test_compaction_works_in_batches_and_keeps_what_later_history_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "COMPACT_BATCH", 4)
    store = SqliteStore.open(tmp_path / "db")
    for n in range(30):
        await store.put("/a", b"%d" % n, n)
    await store.compact(20)
    await store.close()

    store = SqliteStore.open(tmp_path / "db")
    seen: list[Change] = []
    store.subscribe("/", 20, seen.extend)
    assert seen == [("/a", b"%d" % (n - 1), n) for n in range(21, 31)]
    await store.close()


async def test_a_second_process_is_told_that_the_file_is_in_use(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "db")
    with pytest.raises(StoreError, match="in use by another process"):
        SqliteStore.open(tmp_path / "db")
    await store.close()
    await SqliteStore.open(tmp_path / "db").close()


async def test_a_damaged_file_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"not a database, " * 100)
    with pytest.raises(StoreError, match="not a database"):
        SqliteStore.open(tmp_path / "db")


async def test_writes_after_close_fail(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "db")
    waiting = asyncio.ensure_future(store.put("/a", b"1", 0))
    await asyncio.wait([waiting], timeout=0)
    await store.close()
    assert await waiting == 1, "what was accepted is finished"
    with pytest.raises(StoreError, match="closed"):
        await store.put("/b", b"1", 0)


async def test_a_full_disk_fails_the_batch_and_what_was_built_on_it_then_heals(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "db")
    await store.put("/a", b"1", 0)
    await store._in_thread(lambda: store._connection.execute("PRAGMA max_page_count=4").fetchall())
    seen: list[Change] = []
    store.subscribe("/", 1, seen.extend)

    big = os.urandom(200_000)
    writes = [store.put("/a", big, 1), store.put("/a", b"3", 2), store.put("/b", b"1", 0)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [StoreError, StoreError, StoreError]
    assert "full" in str(results[0])
    assert await store.get("/a") == ("/a", b"1", 1, 1)
    assert (seen, store.revision) == ([], 1)

    await store._in_thread(lambda: store._connection.execute("PRAGMA max_page_count=100000").fetchall())
    assert await store.put("/a", big, 1) == 2
    await store.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from pinnace.store.sqlite import SqliteStore

async def main():
    store = SqliteStore.open(Path(sys.argv[1]))
    tag = sys.argv[2]
    async def writer(n):
        count = 0
        while True:
            key = f"/{tag}/{n}/{count}"
            revision = await store.put(key, b"x" * 300, 0)
            sys.stdout.write(f"{key} {revision}\\n")
            sys.stdout.flush()
            if count and count % 3 == 0:
                gone = f"/{tag}/{n}/{count - 1}"
                await store.delete(gone, (await store.get(gone)).mod_revision)
                sys.stdout.write(f"{gone} 0\\n")
                sys.stdout.flush()
            count += 1
            if count % 50 == 0 and n == 0:
                await store.compact(store.revision - 20)
    await asyncio.gather(*(writer(n) for n in range(8)))

asyncio.run(main())
"""


async def test_acknowledged_writes_survive_kill_9(tmp_path: Path) -> None:
    acknowledged: dict[str, int] = {}
    for turn in range(4):
        process = subprocess.Popen(  # noqa: ASYNC220 - the test has nothing else to do while it waits
            [sys.executable, "-c", WRITER, str(tmp_path / "db"), f"t{turn}"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(150 + 170 * turn)]
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        process.wait()
        process.stdout.close()
        whole = ("".join(lines) + rest).rpartition("\n")[0]
        for line in whole.splitlines():
            key, revision = line.split()
            acknowledged[key] = int(revision)

        store = SqliteStore.open(tmp_path / "db")
        last = max(acknowledged.values())
        assert store.revision >= last
        for key, revision in acknowledged.items():
            found = await store.get(key)
            if revision:
                # The key may have been deleted by a write that was not acknowledged in time; never one before that.
                if found is None:
                    newest = max(
                        int(k.rsplit("/", 1)[1]) for k in acknowledged if k.startswith(key.rsplit("/", 1)[0] + "/")
                    )
                    assert int(key.rsplit("/", 1)[1]) >= newest - 1
                else:
                    assert found.mod_revision == revision
            else:
                assert found is None
        await store.close()
