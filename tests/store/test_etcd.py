"""What is the etcd store's own: TLS, members that fail, watches that break off, history that is gone, shared use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pinnace.store import etcd_messages as messages
from pinnace.store.contract import ROOT, Change, RevisionConflict, StoreError
from pinnace.store.etcd import EtcdStore
from pinnace.store.etcd_client import EtcdClient, TlsFiles
from tests.store.etcd_server import EtcdServer
from tests.support.ports import free_port

A, B = "/registry/a", "/registry/b"


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    """One that a test may kill."""
    server = EtcdServer(tmp_path / "etcd")
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def two(etcd: EtcdServer, request: pytest.FixtureRequest) -> AsyncIterator[tuple[EtcdStore, EtcdStore]]:
    """Two stores of one cluster, as two API servers have them."""
    prefix = f"/{request.node.name}"
    stores = [await EtcdStore.open([etcd.endpoint], prefix=prefix) for _ in range(2)]
    yield stores[0], stores[1]
    for store in stores:
        await store.close()


async def test_keys_lie_where_the_prefix_says(own_etcd: EtcdServer) -> None:
    store = await EtcdStore.open([own_etcd.endpoint])
    await store.put("/registry/pods/default/web", b"{}", 0)
    other = await EtcdStore.open([own_etcd.endpoint], prefix="/registry/pods/")
    assert [item.key for item in (await other.range(ROOT))[0]] == ["/registry/default/web"]
    await other.close()
    await store.close()


async def test_what_one_server_was_acknowledged_another_sees_after_catching_up(
    two: tuple[EtcdStore, EtcdStore],
) -> None:
    first, second = two
    seen: list[Change] = []
    second.subscribe(ROOT, second.revision, seen.extend)
    for turn in range(100):
        revision = await first.put(f"/registry/{turn}", b"x", 0)
        await second.catch_up()
        assert seen[-1].revision == revision


async def test_catching_up_does_not_wait_for_writes_to_keys_of_others(
    two: tuple[EtcdStore, EtcdStore], etcd: EtcdServer
) -> None:
    store, _ = two
    revision = await store.put(A, b"1", 0)
    stranger = EtcdClient([etcd.endpoint], TlsFiles())
    await stranger.call("Put", messages.PutRequest(key=b"elsewhere", value=b"x"))
    async with asyncio.timeout(60):
        await store.catch_up()
    assert store.revision > revision
    assert [item.key for item in (await store.range(ROOT))[0]] == [A]
    await stranger.close()


async def test_two_servers_lose_no_increment_against_each_other(two: tuple[EtcdStore, EtcdStore]) -> None:
    await two[0].put(A, b"0", 0)

    async def increment(store: EtcdStore) -> None:
        for _ in range(20):
            while True:
                found = await store.get(A)
                assert found is not None
                try:
                    await store.put(A, b"%d" % (int(found.value) + 1), found.mod_revision)
                    break
                except RevisionConflict:
                    pass

    await asyncio.gather(*(increment(store) for store in two for _ in range(3)))
    found = await two[1].get(A)
    assert found is not None
    assert found.value == b"120"


async def test_of_several_servers_one_compacts_in_an_interval(two: tuple[EtcdStore, EtcdStore]) -> None:
    first, second = two
    await first.put(A, b"1", 0)
    early = await first.put(B, b"1", 0)
    await second.catch_up()
    await first.compact(early)
    assert first.oldest == early
    before = second.oldest
    await second.compact(early)
    assert second.oldest == before, "the other was first"
    await second.compact(early)
    assert second.oldest == early, "its turn: nobody has compacted since it looked"


async def test_a_watch_goes_on_where_it_broke_off(own_etcd: EtcdServer) -> None:
    store = await EtcdStore.open([own_etcd.endpoint])
    seen: list[Change] = []
    gaps: list[int] = []
    store.subscribe(ROOT, store.revision, seen.extend, gaps.append)
    written = [await store.put(f"/registry/{n}", b"x", 0) for n in range(5)]
    own_etcd.kill()
    waiting = asyncio.ensure_future(store.put(A, b"1", 0))  # asked while nobody answers
    await asyncio.wait([waiting], timeout=0.2)
    own_etcd.start()
    written.append(await waiting)
    written.append(await store.put(B, b"1", 0))
    assert [change.revision for change in seen] == written
    assert gaps == []
    await store.close()


async def test_changes_lost_to_compaction_are_told_as_a_gap_and_the_outcome(
    own_etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await EtcdStore.open([own_etcd.endpoint])
    kept = await store.put("/registry/kept", b"x", 0)
    changed = await store.put("/registry/changed", b"x", 0)
    gone = await store.put("/registry/gone", b"x", 0)
    told: list[object] = []
    store.subscribe(ROOT, store.revision, told.extend, told.append)

    held = asyncio.Event()
    watch = EtcdStore._watch

    async def held_back(self: EtcdStore) -> None:
        if self is store:
            await held.wait()
        await watch(self)

    monkeypatch.setattr(EtcdStore, "_watch", held_back)
    own_etcd.kill()  # breaks the watch, and the next one waits
    own_etcd.start()
    other = await EtcdStore.open([own_etcd.endpoint])
    again = await other.put("/registry/changed", b"y", changed)
    await other.delete("/registry/gone", gone)
    await other.delete("/registry/fleeting", await other.put("/registry/fleeting", b"z", 0))
    newest = await other.put("/registry/new", b"z", 0)
    await other.compact(newest)
    held.set()
    await store.catch_up()

    now = told[0]
    assert told == [
        now,
        Change("/registry/changed", b"y", again),
        Change("/registry/new", b"z", newest),
        Change("/registry/gone", None, now),
    ]
    assert store.oldest == now
    await store.put("/registry/kept", b"y", kept)
    assert len(told) == 5
    await other.close()
    await store.close()


async def test_a_member_that_is_down_is_passed_over(own_etcd: EtcdServer) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    store = await EtcdStore.open([dead, own_etcd.endpoint])
    seen: list[Change] = []
    store.subscribe(ROOT, store.revision, seen.extend)
    await store.put(A, b"1", 0)
    assert [change.key for change in seen] == [A]
    await store.close()


async def test_a_member_that_hangs_is_passed_over(
    own_etcd: EtcdServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinnace.store.etcd_client.ATTEMPT_SECONDS", 0.5)
    stuck = EtcdServer(tmp_path / "stuck")
    stuck.start()
    stuck.pause()
    try:
        client = EtcdClient([stuck.endpoint, own_etcd.endpoint], TlsFiles())
        await client.call("Range", messages.RangeRequest(key=b"x"))
        assert client.endpoint == own_etcd.endpoint
        await client.close()
    finally:
        stuck.resume()
        stuck.kill()


async def test_a_write_whose_answer_was_lost_is_not_taken_for_a_conflict(
    two: tuple[EtcdStore, EtcdStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = two
    call = EtcdClient.call

    async def carried_out_twice(self: EtcdClient, method: str, request: object) -> tuple[object, bool]:
        answer, repeated = await call(self, method, request)
        if method == "Txn":
            return (await call(self, method, request))[0], True
        return answer, repeated

    monkeypatch.setattr(EtcdClient, "call", carried_out_twice)
    revision = await store.put(A, b"1", 0)
    found = await store.get(A)
    assert found == (A, b"1", revision, revision)
    await store.delete(A, revision)
    assert await store.get(A) is None


async def test_nobody_there_is_a_store_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinnace.store.etcd_client.CALL_SECONDS", 0.3)
    with pytest.raises(StoreError, match=r"127\.0\.0\.1"):
        await EtcdStore.open([f"http://127.0.0.1:{free_port()}"])


async def test_a_file_that_is_missing_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        await EtcdStore.open(["https://127.0.0.1:1"], tls=TlsFiles(tmp_path / "none"))


async def test_members_ask_for_a_certificate_and_are_asked_for_one(
    pki: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EtcdServer(tmp_path / "etcd", tls=pki)
    server.start()
    try:
        files = TlsFiles(pki / "ca.crt", pki / "admin.crt", pki / "admin.key")
        store = await EtcdStore.open([server.endpoint], tls=files)
        await store.put(A, b"1", 0)
        await store.close()
        monkeypatch.setattr("pinnace.store.etcd_client.CALL_SECONDS", 0.5)
        for wrong in (TlsFiles(pki / "ca.crt"), TlsFiles(None, pki / "admin.crt", pki / "admin.key")):
            with pytest.raises(StoreError):
                await EtcdStore.open([server.endpoint], tls=wrong)
    finally:
        server.kill()


async def test_a_full_etcd_refuses_writes_and_answers_reads(tmp_path: Path) -> None:
    server = EtcdServer(tmp_path / "etcd", "--quota-backend-bytes=1000000")
    server.start()
    try:
        store = await EtcdStore.open([server.endpoint])
        await store.put(A, b"1", 0)

        async def fill() -> None:
            for number in range(100):
                await store.put(f"/registry/{number}", b"x" * 100_000, 0)

        with pytest.raises(StoreError, match="database space exceeded"):
            await fill()
        found = await store.get(A)
        assert found is not None
        assert found.value == b"1"
        await store.catch_up()
        await store.close()
    finally:
        server.kill()
