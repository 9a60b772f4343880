"""Every backend against the contract: compare-and-swap, order, history, compaction, restarts."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pinnace.store.contract import ROOT, Change, Compacted, RevisionConflict, Store, StoreError, Write
from tests.store.conftest import Backend
from tests.store.etcd_server import EtcdServer

A, B = "/registry/a", "/registry/b"
KEYS = st.sampled_from([ROOT + key for key in ("r/a", "r/b", "r/c", "q/a", "q/b")])


async def test_a_write_is_seen_by_readers_once_it_returned(store: Store) -> None:
    first = await store.put(A, b"1", 0)
    second = await store.put(A, b"2", first)

    assert second > first
    assert store.revision >= second
    assert await store.get(A) == (A, b"2", first, second)
    assert await store.get(B) is None
    assert (await store.range(ROOT))[0] == [(A, b"2", first, second)]


async def test_several_writes_are_made_together(store: Store) -> None:
    first = await store.put(A, b"1", 0)
    handed: list[list[Change]] = []

    def take(changes: Sequence[Change]) -> None:
        handed.append(list(changes))

    store.subscribe(ROOT, store.revision, take)
    revisions = await store.write([Write(A, None, first), Write(B, b"2", 0)])

    assert [(change.key, change.value) for change in handed[0]] == [(A, None), (B, b"2")]
    assert [change.revision for change in handed[0]] == revisions
    assert len(handed) == 1
    assert await store.get(A) is None
    found = await store.get(B)
    assert found is not None
    assert found.mod_revision == revisions[1]


async def test_of_several_writes_none_is_made_when_one_conflicts(store: Store) -> None:
    first = await store.put(A, b"1", 0)
    for writes in (
        [Write(B, b"2", 0), Write(A, b"2", 0)],
        [Write(B, b"2", 0), Write(A, None, first + 100)],
        [Write(B, None, 0), Write(A, b"2", first)],
    ):
        with pytest.raises(RevisionConflict) as caught:
            await store.write(writes)
        assert caught.value.key == (A if writes[0].value else B)
    assert await store.get(B) is None
    assert await store.get(A) == (A, b"1", first, first)


async def test_of_rivals_for_one_key_a_single_one_gets_all_that_it_wants(store: Store) -> None:
    async def rival(number: int) -> bool:
        try:
            await store.write([Write(f"{A}/own-{number}", b"x", 0), Write(B, b"%d" % number, 0)])
        except RevisionConflict:
            return False
        return True

    won = await asyncio.gather(*(rival(number) for number in range(20)))
    winner = won.index(True)
    assert sum(won) == 1
    found, _ = await store.range(ROOT)
    assert [(item.key, item.value) for item in found] == [(f"{A}/own-{winner}", b"x"), (B, b"%d" % winner)]


@pytest.mark.parametrize("expected", [1, 7])
async def test_writing_over_nothing_with_a_revision_conflicts(store: Store, expected: int) -> None:
    with pytest.raises(RevisionConflict) as caught:
        await store.put(A, b"1", expected)
    assert caught.value.found == 0
    with pytest.raises(RevisionConflict):
        await store.delete(A, expected)
    with pytest.raises(RevisionConflict):
        await store.delete(A, 0)


async def test_a_key_that_is_there_is_not_deleted_as_one_that_is_not(store: Store) -> None:
    revision = await store.put(A, b"1", 0)
    with pytest.raises(RevisionConflict) as caught:
        await store.delete(A, 0)
    assert caught.value.found == revision


async def test_of_concurrent_writes_one_wins_and_losers_have_been_handed_it(store: Store) -> None:
    seen: list[Change] = []
    store.subscribe(ROOT, store.revision, seen.extend)
    known_to_losers = []

    async def write(number: int) -> int:
        try:
            return await store.put(A, b"%d" % number, 0)
        except RevisionConflict as conflict:
            known_to_losers.append((conflict.found, list(seen)))
            raise

    results = await asyncio.gather(*(write(n) for n in range(20)), return_exceptions=True)
    won = [n for n, result in enumerate(results) if isinstance(result, int)]
    assert len(won) == 1
    assert [type(result) for n, result in enumerate(results) if n not in won] == [RevisionConflict] * 19
    value, revision = b"%d" % won[0], results[won[0]]
    assert known_to_losers == [(revision, [(A, value, revision)])] * 19


async def test_subscribers_are_handed_a_change_before_the_write_returns(store: Store) -> None:
    seen: list[Change] = []
    leave = store.subscribe("/registry/r/", store.revision, seen.extend)
    value = b"1"
    revision = await store.put("/registry/r/a", value, 0)
    await store.put("/registry/q/a", b"1", 0)
    assert seen == [Change("/registry/r/a", b"1", revision)]
    assert seen[0].value is value, "the very bytes that were written"
    leave()
    await store.put("/registry/r/b", b"1", 0)
    assert len(seen) == 1


async def test_changes_come_in_the_order_of_their_revisions(store: Store) -> None:
    seen: list[Change] = []
    store.subscribe(ROOT, store.revision, seen.extend)
    written = await asyncio.gather(*(store.put(f"/registry/{n}", b"x", 0) for n in range(200)))
    assert [change.revision for change in seen] == sorted(written)
    assert len(set(written)) == 200


async def test_a_range_is_of_its_revision_and_in_key_order(store: Store) -> None:
    names = [f"/registry/r/{n:04}" for n in range(2100)]
    await asyncio.gather(*(store.put(name, name.encode(), 0) for name in reversed(names)))
    await store.put("/registry/r0", b"not below", 0)

    found, revision = await store.range("/registry/r/")
    assert [item.key for item in found] == names
    assert [item.value for item in found] == [name.encode() for name in names]
    assert store.revision >= revision >= max(item.mod_revision for item in found)


async def test_revision_grows_over_restart_after_delete_and_compaction(backend: Backend) -> None:
    store = await backend.open()
    first = await store.put(A, b"1", 0)
    gone = await store.delete(A, first)
    await store.compact(gone)
    await store.close()

    store = await backend.open()
    assert store.revision >= gone
    with pytest.raises(Compacted) as caught:
        store.subscribe(ROOT, first, [].extend)
    assert caught.value.oldest >= gone
    assert await store.put(A, b"2", 0) > gone
    await store.close()


async def test_the_future_cannot_be_compacted(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.compact(store.revision + 100)


async def test_who_waits_for_a_revision_goes_on_when_it_has_come(store: Store) -> None:
    await store.catch_up()
    await store.reach(store.revision)
    waiting = asyncio.ensure_future(store.reach(store.revision + 1000))
    await asyncio.wait([waiting], timeout=0.05)
    assert not waiting.done()
    waiting.cancel()


async def test_writes_after_close_fail(backend: Backend) -> None:
    store = await backend.open()
    await store.check()
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.put(B, b"1", 0)


class StoreMachine(RuleBasedStateMachine):
    """Any sequence of writes, restarts, compactions and subscriptions agrees with a dict and a list."""

    etcd: EtcdServer | None = None

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.backend = Backend("", Path(self.directory.name), self.etcd)
        self.loop = asyncio.new_event_loop()
        self.model: dict[str, tuple[bytes, int, int]] = {}
        self.log: list[Change] = []
        self.watching: list[tuple[str, int, list[Change]]] = []
        self.store = self.loop.run_until_complete(self.backend.open())

    def newest(self, back: int) -> int:
        """The revision of the write `back` writes ago."""
        return self.log[-back - 1].revision if back < len(self.log) else 0

    @rule(key=KEYS, value=st.binary(max_size=20))
    def put(self, key: str, value: bytes) -> None:
        before = self.model.get(key)
        revision = self.loop.run_until_complete(self.store.put(key, value, before[2] if before else 0))
        assert revision > self.newest(0)
        self.log.append(Change(key, value, revision))
        self.model[key] = (value, before[1] if before else revision, revision)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        before = self.model.pop(key, None)
        if before is None:
            with pytest.raises(RevisionConflict):
                self.loop.run_until_complete(self.store.delete(key, 1))
            return
        revision = self.loop.run_until_complete(self.store.delete(key, before[2]))
        assert revision > self.newest(0)
        self.log.append(Change(key, None, revision))

    @rule(key=KEYS, back=st.integers(0, 10))
    def conflict(self, key: str, back: int) -> None:
        before, wrong = self.model.get(key), self.newest(back)
        if wrong == (before[2] if before else 0):
            return
        with pytest.raises(RevisionConflict) as caught:
            self.loop.run_until_complete(self.store.put(key, b"x", wrong))
        assert caught.value.found == (before[2] if before else 0)

    @rule(back=st.integers(0, 10))
    def compact(self, back: int) -> None:
        revision = self.newest(back)
        self.loop.run_until_complete(self.store.compact(revision))
        assert self.store.oldest >= revision

    @rule(prefix=st.sampled_from([ROOT, "/registry/r/", "/registry/q/a"]), back=st.integers(0, 12))
    def subscribe(self, prefix: str, back: int) -> None:
        after = self.newest(back)
        seen: list[Change] = []
        if after < self.store.oldest:
            with pytest.raises(Compacted):
                self.store.subscribe(prefix, after, seen.extend)
            return
        self.store.subscribe(prefix, after, seen.extend)
        self.watching.append((prefix, after, seen))

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.watching.clear()
        self.store = self.loop.run_until_complete(self.backend.open())

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "store"):
            return
        for prefix in (ROOT, "/registry/r/", "/registry/q/"):
            found, revision = self.loop.run_until_complete(self.store.range(prefix))
            assert self.store.revision >= revision >= self.newest(0)
            assert [tuple(kv) for kv in found] == [
                (k, *self.model[k]) for k in sorted(self.model) if k.startswith(prefix)
            ]
        for prefix, after, seen in self.watching:
            assert seen == [c for c in self.log if c.revision > after and c.key.startswith(prefix)]

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.loop.run_until_complete(self.store.close())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            self.directory.cleanup()


_SETTINGS = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))


def test_any_sequence_of_operations_agrees_with_a_model_in_sqlite() -> None:
    run_state_machine_as_test(StoreMachine, settings=_SETTINGS)  # type: ignore[no-untyped-call]


def test_any_sequence_of_operations_agrees_with_a_model_in_etcd(etcd: EtcdServer) -> None:
    machine = type("EtcdMachine", (StoreMachine,), {"etcd": etcd})
    run_state_machine_as_test(machine, settings=_SETTINGS)  # type: ignore[no-untyped-call]
