"""A disk that is full or read-only: writes fail with a clear Status, reads go on, all is well when there is room."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pinnace.apiserver.server import ApiServer
from pinnace.store.contract import ROOT, StoreError
from pinnace.store.etcd import EtcdStore
from pinnace.store.sqlite import SqliteStore
from tests.apiserver.conftest import Cluster, config_map, options_for
from tests.store.etcd_server import EtcdServer

pytestmark = pytest.mark.root
MAPS = "/api/v1/namespaces/default/configmaps"
BIG = "x" * 200_000


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 24 MB."""
    where = tmp_path / "disk"
    where.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", where)
    yield where
    run("umount", "--lazy", where)


@contextlib.asynccontextmanager
async def serving(file: Path, pki: Path) -> AsyncIterator[Cluster]:
    store = SqliteStore.open(file)
    server = ApiServer(options_for(pki), store)
    await server.start()
    try:
        yield Cluster(server, store, pki)
    finally:
        await server.stop(0.2)
        await store.close()


async def fill(cluster: Cluster) -> list[str]:
    """Write until it is refused; the names that were acknowledged. The refusal must be a clear one."""
    made: list[str] = []
    while True:
        name = f"m-{len(made)}"
        answer = await cluster.call("POST", MAPS, config_map(name, a=BIG))
        if answer.status != 201:
            status = answer.json
            assert (answer.status, status["kind"], status["reason"]) == (500, "Status", "InternalError")
            assert "full" in status["message"] or "space" in status["message"], status["message"]
            return made
        made.append(name)
        assert len(made) < 1000, "the disk does not get full"


async def test_a_full_disk_fails_writes_alone_and_heals(disk: Path, pki: Path) -> None:
    reserve = disk / "reserve"
    reserve.write_bytes(bytes(8 << 20))
    async with serving(disk / "state.db", pki) as cluster:
        await cluster.call("POST", MAPS, config_map("first", a="1"))
        watch = await cluster.watch(f"{MAPS}?watch=1&fieldSelector=metadata.name%3Dfirst")
        assert await watch.take(1) == [("ADDED", "first")]
        made = await fill(cluster)
        assert made

        for _ in range(3):
            changed = await cluster.call(
                "PATCH", f"{MAPS}/first", {"data": {"a": BIG}}, content_type="application/merge-patch+json"
            )
            assert changed.status == 500
        listed = (await cluster.call("GET", MAPS)).json["items"]
        assert {item["metadata"]["name"] for item in listed} >= {"first", *made}
        assert (await cluster.call("GET", f"{MAPS}/first")).json["data"] == {"a": "1"}

        reserve.unlink()
        changed = await cluster.call(
            "PATCH", f"{MAPS}/first", {"data": {"a": "2"}}, content_type="application/merge-patch+json"
        )
        assert changed.status == 200
        assert await watch.take(1) == [("MODIFIED", "first")]
        watch.close()
    async with serving(disk / "state.db", pki) as cluster:
        assert (await cluster.call("GET", f"{MAPS}/first")).json["data"] == {"a": "2"}
        for name in made:
            assert (await cluster.call("GET", f"{MAPS}/{name}")).json["data"] == {"a": BIG}


async def test_a_server_starts_and_reads_on_a_disk_that_is_full(disk: Path, pki: Path) -> None:
    async with serving(disk / "state.db", pki) as cluster:
        await cluster.call("POST", MAPS, config_map("first", a="1"))
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    async with serving(disk / "state.db", pki) as cluster:
        assert (await cluster.call("GET", f"{MAPS}/first")).json["data"] == {"a": "1"}
        assert (await cluster.call("POST", MAPS, config_map("second", a=BIG))).status == 500
        ready = await cluster.call("GET", "/readyz")
        assert ready.status == 500
        assert b"[-]poststarthook/start-kube-apiserver-identity-lease-controller failed" in ready.body
        assert b"[+]poststarthook/bootstrap-controller ok" in ready.body
        (disk / "filler").unlink()
        assert (await cluster.call("POST", MAPS, config_map("second", a=BIG))).status == 201
        async with asyncio.timeout(60):
            while (await cluster.call("GET", "/readyz")).status != 200:
                pass


async def test_a_server_over_an_empty_store_that_is_full_makes_its_objects_when_there_is_room(
    pki: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore.open(tmp_path / "state.db")
    put = store.put

    async def refuse(*_: object, **__: object) -> int:
        raise StoreError("database or disk is full")

    monkeypatch.setattr(store, "put", refuse)
    server = ApiServer(options_for(pki), store)
    await server.start()
    try:
        cluster = Cluster(server, store, pki)
        assert (await cluster.call("GET", "/api/v1/namespaces")).json["items"] == []
        ready = await cluster.call("GET", "/readyz")
        assert b"[-]poststarthook/start-system-namespaces-controller failed" in ready.body
        monkeypatch.setattr(store, "put", put)
        async with asyncio.timeout(60):
            while (await cluster.call("GET", "/readyz")).status != 200:
                pass
        assert (await cluster.call("GET", "/api/v1/namespaces/default")).status == 200
    finally:
        await server.stop(0.2)
        await store.close()


@contextlib.contextmanager
def mounted(image: Path, where: Path) -> Iterator[Path]:
    where.mkdir(exist_ok=True)
    run("mount", "-o", "loop", image, where)
    try:
        yield where / "state.db"
    finally:
        run("umount", "--lazy", where)


async def test_a_disk_that_turns_read_only_fails_writes_alone(tmp_path: Path, pki: Path) -> None:
    image, where = tmp_path / "image", tmp_path / "ext4"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    run("/sbin/mkfs.ext4", "-q", image)
    with mounted(image, where) as file_on_it:
        async with serving(file_on_it, pki) as cluster:
            await cluster.call("POST", MAPS, config_map("first", a="1"))
            # What the kernel does of itself after an error of the medium: files stay open, writing them fails.
            run("mount", "-o", "remount,abort", where)
            for _ in range(3):
                refused = await cluster.call("POST", MAPS, config_map("second"))
                status = refused.json
                assert (refused.status, status["kind"], status["reason"]) == (500, "Status", "InternalError")
                assert str(file_on_it) in status["message"]
            assert (await cluster.call("GET", f"{MAPS}/first")).json["data"] == {"a": "1"}
            assert (await cluster.call("GET", f"{MAPS}/second")).status == 404
    # A copy, for a container that started meanwhile beside this test may hold on to what was mounted.
    with mounted(shutil.copy(image, tmp_path / "copy"), where) as file_on_it:
        async with serving(file_on_it, pki) as cluster:
            assert (await cluster.call("GET", f"{MAPS}/first")).json["data"] == {"a": "1"}
            assert (await cluster.call("GET", f"{MAPS}/second")).status == 404
            assert (await cluster.call("POST", MAPS, config_map("second"))).status == 201


async def test_a_full_etcd_fails_writes_alone_and_heals(tmp_path: Path, pki: Path) -> None:
    etcd = EtcdServer(tmp_path / "etcd", "--quota-backend-bytes=2000000")
    etcd.start()
    store = await EtcdStore.open([etcd.endpoint])
    server = ApiServer(options_for(pki), store)
    await server.start()
    try:
        cluster = Cluster(server, store, pki)
        await cluster.call("POST", MAPS, config_map("first", a="1"))
        made = await fill(cluster)
        assert (await cluster.call("GET", f"{MAPS}/first")).json["data"] == {"a": "1"}
        listed = (await cluster.call("GET", MAPS)).json["items"]
        assert {item["metadata"]["name"] for item in listed} >= {"first", *made}
        assert len((await store.range(ROOT))[0]) > len(made)

        etcd.kill()
        etcd.make_room()
        assert (await cluster.call("POST", MAPS, config_map("more", a=BIG))).status == 201
    finally:
        await server.stop(0.2)
        await store.close()
        etcd.kill()


async def test_a_disk_that_turns_read_only_under_etcd_fails_writes_and_loses_nothing(
    tmp_path: Path, pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An etcd that cannot write its log ends: who takes any state is served on, who must have the newest is not."""
    image, where = tmp_path / "image", tmp_path / "ext4"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    run("/sbin/mkfs.ext4", "-q", image)
    etcd = EtcdServer(where / "etcd")
    with contextlib.ExitStack() as stack:
        stack.callback(etcd.kill)
        with mounted(image, where):
            etcd.start()
            store = await EtcdStore.open([etcd.endpoint])
            server = ApiServer(options_for(pki), store)
            await server.start()
            cluster = Cluster(server, store, pki)
            await cluster.call("POST", MAPS, config_map("first", a="1"))
            watch = await cluster.watch(f"{MAPS}?watch=1&fieldSelector=metadata.name%3Dfirst")
            assert await watch.take(1) == [("ADDED", "first")]

            monkeypatch.setattr("pinnace.store.etcd_client.CALL_SECONDS", 0.5)
            run("mount", "-o", "remount,abort", where)
            for _ in range(3):
                refused = await cluster.call("POST", MAPS, config_map("second"))
                status = refused.json
                assert (refused.status, status["kind"], status["reason"]) == (500, "Status", "InternalError")
                assert etcd.endpoint in status["message"]
            any_state = await cluster.call("GET", f"{MAPS}/first?resourceVersion=0")
            assert (any_state.status, any_state.json["data"]) == (200, {"a": "1"})
            listed = await cluster.call("GET", f"{MAPS}?resourceVersion=0")
            assert "first" in {item["metadata"]["name"] for item in listed.json["items"]}
            etcd.kill()

        with mounted(shutil.copy(image, tmp_path / "copy"), where):  # for what was mounted may be held on to, as above
            monkeypatch.setattr("pinnace.store.etcd_client.CALL_SECONDS", 15)
            etcd.start()
            assert (await cluster.call("GET", f"{MAPS}/first")).json["data"] == {"a": "1"}
            changed = await cluster.call(
                "PATCH", f"{MAPS}/first", {"data": {"a": "2"}}, content_type="application/merge-patch+json"
            )
            assert changed.status == 200
            assert await watch.take(1) == [("MODIFIED", "first")], "the watch of before goes on"
            watch.close()
            assert (await cluster.call("POST", MAPS, config_map("third"))).status == 201
            await server.stop(0.2)
            await store.close()
            etcd.kill()
