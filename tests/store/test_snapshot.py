"""Snapshots: what is saved comes back, in either backend, whole or not at all, under revisions that only grow."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from pinnace.cli.main import pinnace
from pinnace.cluster.profile import Profile, ProfileConfig
from pinnace.store import snapshot as files
from pinnace.store.contract import ROOT, Compacted, KeyValue, StoreError
from pinnace.store.location import Location, parse_location
from pinnace.store.snapshot import GAP, SnapshotError
from tests.store.etcd_server import EtcdServer

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ITEMS = [KeyValue("/registry/b", b"2", 3, 3), KeyValue("/registry/a", b"\0\xff\n", 1, 7)]


@pytest.fixture
def empty_etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path / "etcd")
    server.start()
    yield server
    server.kill()


def sqlite_at(path: Path) -> Location:
    return Location(file=path)


async def filled(location: Location, *values: str) -> int:
    store = await location.open()
    for value in values:
        await store.put(ROOT + value, value.encode(), 0)
    revision = store.revision
    await store.close()
    return revision


async def contents(location: Location) -> dict[str, bytes]:
    store = await location.open()
    found, _ = await store.range(ROOT)
    await store.close()
    return {item.key: item.value for item in found}


def test_a_file_holds_every_byte_in_the_order_of_writing() -> None:
    found = files.decode(files.encode(ITEMS[::-1], 9, NOW))
    assert found == (9, "2026-01-02T03:04:05+00:00", [("/registry/b", b"2"), ("/registry/a", b"\0\xff\n")])


@pytest.mark.parametrize("place", [20, -1, -40, 90])
def test_a_changed_byte_is_noticed(place: int) -> None:
    data = bytearray(files.encode(ITEMS, 9, NOW))
    data[place] ^= 1
    with pytest.raises(SnapshotError, match="damaged"):
        files.decode(bytes(data))


def test_a_file_that_ends_early_is_noticed() -> None:
    data = files.encode(ITEMS, 9, NOW)
    for length in range(len(data)):
        with pytest.raises(SnapshotError):
            files.decode(data[:length])


def test_another_version_is_refused_by_name() -> None:
    content = files.encode(ITEMS, 9, NOW)[:-32].replace(b'"version": 1', b'"version": 2')
    with pytest.raises(SnapshotError, match="of version 2"):
        files.decode(content + hashlib.sha256(content).digest())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    files.write_file(target, b"one")
    assert target.stat().st_mode & 0o777 == 0o600

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(SnapshotError, match="No space left"):
        files.write_file(target, b"two")
    assert target.read_bytes() == b"one"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


async def test_what_is_restored_is_what_was_saved_and_revisions_only_grow(tmp_path: Path) -> None:
    old = sqlite_at(tmp_path / "old.db")
    before = await filled(old, "a", "c", "b")
    found = files.decode(await files.save(old, NOW))
    assert found.revision == before

    new = sqlite_at(tmp_path / "new.db")
    revision = await files.restore(new, found)
    assert await contents(new) == {"/registry/a": b"a", "/registry/b": b"b", "/registry/c": b"c"}
    store = await new.open()
    assert store.revision == revision > before + GAP
    listed, _ = await store.range(ROOT)
    assert [item.key for item in sorted(listed, key=lambda item: item.mod_revision)] == [
        "/registry/a",
        "/registry/c",
        "/registry/b",
    ]
    assert min(item.mod_revision for item in listed) > before + GAP
    with pytest.raises(Compacted):
        store.subscribe(ROOT, before, [].extend)
    assert await store.put("/registry/d", b"d", 0) == revision + 1
    await store.close()


async def test_a_store_that_holds_something_is_refused_unless_it_shall_be_replaced(tmp_path: Path) -> None:
    old, target = sqlite_at(tmp_path / "old.db"), sqlite_at(tmp_path / "target.db")
    await filled(old, "a")
    there = await filled(target, *map(str, range(20)))
    found = files.decode(await files.save(old, NOW))
    with pytest.raises(SnapshotError, match="is not empty"):
        await files.restore(target, found)
    assert len(await contents(target)) == 20
    assert await files.restore(target, found, replace=True) > there + GAP
    assert await contents(target) == {"/registry/a": b"a"}


async def test_a_store_in_use_is_neither_saved_nor_restored(tmp_path: Path) -> None:
    location = sqlite_at(tmp_path / "db")
    await filled(location, "a")
    found = files.decode(await files.save(location, NOW))
    store = await location.open()
    with pytest.raises(StoreError, match="in use"):
        await files.save(location, NOW)
    with pytest.raises(StoreError, match="in use"):
        await files.restore(location, found, replace=True)
    await store.close()
    with pytest.raises(SnapshotError, match="no such file"):
        await files.save(sqlite_at(tmp_path / "none"), NOW)


async def test_a_restore_that_is_cut_off_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = sqlite_at(tmp_path / "db")
    await filled(location, "a")
    found = files.decode(await files.save(location, NOW))
    await filled(location, "b")

    def cut_off(*_: object) -> int:
        (tmp_path / "db.restore").write_bytes(b"half a file")
        raise StoreError("disk full")

    monkeypatch.setattr("pinnace.store.sqlite.write_new_file", cut_off)
    with pytest.raises(StoreError):
        await files.restore(location, found, replace=True)
    assert await contents(location) == {"/registry/a": b"a", "/registry/b": b"b"}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["db", "db.lock"]


async def test_a_snapshot_of_one_backend_is_restored_to_the_other(tmp_path: Path, empty_etcd: EtcdServer) -> None:
    old = sqlite_at(tmp_path / "old.db")
    await filled(old, *map(str, range(300)))
    found = files.decode(await files.save(old, NOW))

    etcd = parse_location(empty_etcd.endpoint)
    await files.restore(etcd, found)
    assert await contents(etcd) == await contents(old)
    store = await etcd.open()
    assert min(item.mod_revision for item in (await store.range(ROOT))[0]) > found.revision
    await store.close()
    with pytest.raises(SnapshotError, match="is not empty"):
        await files.restore(etcd, found)

    back = sqlite_at(tmp_path / "back.db")
    await files.restore(back, files.decode(await files.save(etcd, NOW)))
    assert await contents(back) == await contents(old)


def test_the_command_saves_checks_and_restores_a_store(tmp_path: Path) -> None:
    asyncio.run(filled(sqlite_at(tmp_path / "old.db"), "a", "b"))
    file, old, new = tmp_path / "file", f"sqlite://{tmp_path}/old.db", f"sqlite://{tmp_path}/new.db"
    run = CliRunner().invoke
    saved = run(pinnace, ["snapshot", "save", str(file), f"--etcd-servers={old}"])
    assert (saved.exit_code, saved.output.split(", taken")[0]) == (0, "Saved 2 keys of revision 2")
    assert run(pinnace, ["snapshot", "status", str(file)]).output.startswith("Whole: 2 keys of revision 2")
    restored = run(pinnace, ["snapshot", "restore", str(file), f"--etcd-servers={new}"])
    assert (restored.exit_code, restored.output.split(" of")[0]) == (0, "Restored 2 keys")
    again = run(pinnace, ["snapshot", "restore", str(file), f"--etcd-servers={new}"])
    assert (again.exit_code, again.output) == (1, f"Error: {tmp_path}/new.db is not empty\n")
    file.write_bytes(b"something else")
    damaged = run(pinnace, ["snapshot", "status", str(file)])
    assert (damaged.exit_code, damaged.output) == (1, f"Error: {file}: this is not a snapshot\n")


def test_the_command_saves_and_restores_a_stopped_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINNACE_HOME", str(tmp_path / "home"))
    profile = Profile("saved")
    cidr = "10.0.0.0/16"
    profile.save(ProfileConfig("saved", "v1.37.0", "saved", "10.0.0.1", cidr, cidr, cidr, "cluster.local", 1))
    asyncio.run(filled(sqlite_at(profile.store_file), "a"))
    file = tmp_path / "file"
    run = CliRunner().invoke
    saved = run(pinnace, ["snapshot", "save", "-p", "saved", str(file)])
    assert saved.exit_code == 0, saved.output
    refused = run(pinnace, ["snapshot", "restore", "-p", "saved", str(file)])
    assert refused.exit_code == 80
    assert "is not empty" in refused.output
    assert "--replace" in refused.output
    done = run(pinnace, ["snapshot", "restore", "-p", "saved", "--replace", str(file)])
    assert done.exit_code == 0, done.output
    monkeypatch.setattr("pinnace.cluster.control.snapshot", lambda _: {"control-plane": object()})
    running = run(pinnace, ["snapshot", "restore", "-p", "saved", "--replace", str(file)])
    assert running.exit_code == 81
    assert 'The cluster "saved" is running' in running.output
