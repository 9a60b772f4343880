"""The image store: loading archives, names, removal, sharing between processes, and the mounts above it."""

import gzip
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import orjson
import pytest

from pinnace.cri.api import ImageSpec
from pinnace.cri.engine.images.content import ContentError, ContentStore
from pinnace.cri.engine.images.service import Images
from pinnace.cri.engine.images.snapshots import Snapshots
from pinnace.cri.engine.images.store import ImageStore

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="sets owners and mounts overlays")
pytestmark = [pytest.mark.root, root_only]


def names_in(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def layer_names(store: ImageStore) -> list[str]:
    return names_in(store.root / "layers")


def test_a_docker_archive_is_loaded_and_found_under_every_name(store: ImageStore, busybox: Path) -> None:
    assert store.load_archive(busybox) == ["docker.io/library/busybox:1"]
    record = store.resolve("busybox:1")
    assert record is not None
    assert record.repo_tags == ["docker.io/library/busybox:1"]
    assert record.config.cmd == ["sh"]
    assert record.config.user == "1000:1000"
    assert (record.layer_dirs[0] / "bin/sh").readlink() == Path("busybox")
    assert (record.layer_dirs[1] / "etc/motd").read_text() == "ahoy\n"
    for name in ("docker.io/library/busybox:1", record.id, record.id[7:], record.id[7:19]):
        assert store.resolve(name) is record
    assert store.resolve("busybox") is None
    assert store.resolve("No Such") is None


@pytest.mark.parametrize("whole", [True, False], ids=["archive", "layers"])
def test_compressed_archives_and_layers_are_loaded(store: ImageStore, tmp_path: Path, make, whole: bool) -> None:
    layer = make.tar(make.member("f", b"1" * 100_000))
    if whole:
        path = make.archive(tmp_path / "a.tar", ["a:1"], layer)
        path.write_bytes(gzip.compress(path.read_bytes()))
    else:
        halves = gzip.compress(layer[:700]) + gzip.compress(layer[700:])  # two streams count as one
        path = make.archive(tmp_path / "a.tar", ["a:1"], layer, travelling=[halves])
    store.load_archive(path)
    record = store.resolve("a:1")
    assert record is not None
    assert (record.layer_dirs[0] / "f").read_bytes() == b"1" * 100_000


def test_skopeos_archives_are_loaded(store: ImageStore, busybox: Path, tmp_path: Path) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    for kind, name in (("oci-archive", "docker.io/library/box:oci"), ("docker-archive", "box:docker")):
        target = tmp_path / f"{kind}.tar"
        command = ["skopeo", "--insecure-policy", "copy", f"docker-archive:{busybox}", f"{kind}:{target}:{name}"]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "TMPDIR": str(tmp_path)})
        assert store.load_archive(target) == [f"docker.io/library/{name.rpartition('/')[2]}"]
    oci, docker = store.resolve("box:oci"), store.resolve("box:docker")
    assert oci is not None
    assert docker is not None
    assert oci.layer_dirs == docker.layer_dirs
    assert store.manifest_of(oci.id)


def test_an_archive_without_names_is_known_by_its_id(store: ImageStore, tmp_path: Path, make) -> None:
    path = make.archive(tmp_path / "a.tar", [], make.tar())
    (image_id,) = store.load_archive(path)
    assert image_id.startswith("sha256:")
    assert store.load_archive(path, names=["given:2"]) == ["docker.io/library/given:2"]
    record = store.resolve("given:2")
    assert record is not None
    assert record.id == image_id


def test_a_layer_that_is_not_what_its_diff_id_says_is_refused(store: ImageStore, tmp_path: Path, make) -> None:
    path = make.archive(tmp_path / "a.tar", ["a:1"], make.tar(make.member("f", b"1")), travelling=[make.tar()])
    with pytest.raises(ContentError, match="wrong diff id"):
        store.load_archive(path)
    assert store.list() == []
    assert layer_names(store) == []


@pytest.mark.parametrize("data", [b"", b"not a tar", b"\x1f\x8bbroken"])
def test_what_is_no_archive_is_refused(store: ImageStore, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    with pytest.raises(ContentError):
        store.load_archive(path)


def test_a_malformed_manifest_is_refused(store: ImageStore, tmp_path: Path, make) -> None:
    for text in (b"[1]", b"{}", b"null", b'[{"Config": "nowhere", "Layers": []}]', b"["):
        path = tmp_path / "a.tar"
        path.write_bytes(make.tar(make.member("manifest.json", text)))
        if text == b"{}":
            assert store.load_archive(path) == []
            continue
        with pytest.raises(ContentError):
            store.load_archive(path)


def test_a_name_moves_to_the_image_loaded_last(store: ImageStore, tmp_path: Path, make) -> None:
    store.load_archive(make.archive(tmp_path / "a.tar", ["app:dev"], make.tar(make.member("v", b"1"))))
    first = store.resolve("app:dev")
    store.load_archive(make.archive(tmp_path / "b.tar", ["app:dev"], make.tar(make.member("v", b"2"))))
    second = store.resolve("app:dev")
    assert first is not None
    assert second is not None
    assert first.id != second.id
    old = store.resolve(first.id)
    assert old is not None
    assert old.repo_tags == []


def test_removing_takes_the_last_name_and_what_only_it_needed(store: ImageStore, tmp_path: Path, make) -> None:
    base = make.tar(make.member("base", b"1"))
    store.load_archive(make.archive(tmp_path / "a.tar", ["a:1", "also:1"], base))
    store.load_archive(make.archive(tmp_path / "b.tar", ["b:1"], base, make.tar(make.member("top", b"2"))))
    assert len(layer_names(store)) == 2
    assert store.remove("also:1")
    assert store.resolve("a:1") is not None
    assert store.remove("b:1")
    assert len(layer_names(store)) == 1
    record = store.resolve("a:1")
    assert record is not None
    assert store.remove(record.id)
    assert layer_names(store) == []
    assert names_in(store.root / "blobs/sha256") == []
    assert not store.remove("a:1")


def test_layers_under_a_container_outlive_their_image(store: ImageStore, busybox: Path) -> None:
    store.load_archive(busybox)
    record = store.resolve("busybox:1")
    assert record is not None
    snapshots = Snapshots(store.root)
    snapshot = snapshots.prepare("c1", record)
    store.remove("busybox:1")
    assert all(path.is_dir() for path in snapshot.lower)
    assert snapshots.get("c1") == snapshot
    snapshots.remove("c1")
    snapshots.remove("c1")
    store.collect_garbage()
    assert layer_names(store) == []
    assert snapshots.list() == []


def test_another_process_sees_and_changes_the_same_images(store: ImageStore, tmp_path: Path, make) -> None:
    program = (
        "import sys, pathlib\n"
        "from pinnace.cri.engine.images.store import ImageStore\n"
        "ImageStore(pathlib.Path(sys.argv[1])).load_archive(pathlib.Path(sys.argv[2]))\n"
    )
    assert store.list() == []
    shared = make.tar(make.member("f", b"1" * 3_000_000))
    archives = [
        make.archive(tmp_path / f"{n}.tar", [f"a:{n}"], shared, make.tar(make.member(str(n)))) for n in range(4)
    ]
    loaders = [subprocess.Popen([sys.executable, "-c", program, str(store.root), str(path)]) for path in archives]
    assert [loader.wait(60) for loader in loaders] == [0] * 4
    assert len(store.list()) == 4
    assert len(layer_names(store)) == 5


def test_leftovers_of_a_killed_load_are_collected(store: ImageStore) -> None:
    (store.root / "layers/.unpack-x").mkdir()
    (store.root / "blobs/sha256/.ingest-x").write_bytes(b"half")
    store.collect_garbage()
    assert layer_names(store) == []
    assert names_in(store.root / "blobs/sha256") == []


def test_blobs_are_verified_as_they_are_written(tmp_path: Path, make) -> None:
    content = ContentStore(tmp_path)
    digest = content.put(b"hello")
    assert digest == make.digest(b"hello")
    assert content.read(digest) == b"hello"
    with content.writer() as writer:
        writer.write(b"other")
        with pytest.raises(ContentError, match="unexpected commit digest"):
            writer.commit(digest)
    with content.writer() as writer:
        writer.write(b"hello")
        with pytest.raises(ContentError, match="unexpected commit size"):
            writer.commit(digest, 4)
    assert list(content.digests()) == [digest]
    with pytest.raises(ContentError, match="invalid digest"):
        content.read("sha256:../../etc/passwd")
    with pytest.raises(KeyError):
        content.read(make.digest(b"nothing"))


def test_a_container_writes_above_its_image(store: ImageStore, busybox: Path, tmp_path: Path) -> None:
    store.load_archive(busybox)
    record = store.resolve("busybox:1")
    assert record is not None
    snapshots = Snapshots(store.root)
    target = tmp_path / "merged"
    target.mkdir()
    snapshots.prepare("c1", record).mount(target)
    try:
        command = ["chroot", str(target), "/bin/sh", "-c", "/bin/busybox cat /etc/motd; echo x > /tmp/new"]
        assert subprocess.run(command, check=True, capture_output=True).stdout == b"ahoy\n"
        assert target.stat().st_mode & 0o777 == 0o755
    finally:
        subprocess.run(["umount", str(target)], check=True)
    used, inodes = snapshots.usage("c1")
    assert inodes >= 2
    assert used > 0
    snapshots.remove("c1")
    assert not (record.layer_dirs[0] / "tmp/new").exists()


def test_whiteouts_hide_what_lies_below(store: ImageStore, tmp_path: Path, make) -> None:
    base = make.tar(make.member("d/old", b"1"), make.member("gone", b"1"), make.member("kept", b"1"))
    top = make.tar(make.member("d/.wh..wh..opq"), make.member("d/new", b"2"), make.member(".wh.gone"))
    store.load_archive(make.archive(tmp_path / "a.tar", ["a:1"], base, top))
    record = store.resolve("a:1")
    assert record is not None
    target = tmp_path / "merged"
    target.mkdir()
    Snapshots(store.root).prepare("c1", record).mount(target)
    try:
        assert names_in(target) == ["d", "kept"]
        assert names_in(target / "d") == ["new"]
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_a_hundred_layers_fit_into_one_mount(store: ImageStore, tmp_path: Path, make) -> None:
    layers = [make.tar(make.member(f"f{number}", b"x")) for number in range(100)]
    store.load_archive(make.archive(tmp_path / "a.tar", ["a:1"], *layers))
    record = store.resolve("a:1")
    assert record is not None
    snapshot = Snapshots(store.root).prepare("c1", record)
    assert len(snapshot.options()) > 4096
    target = tmp_path / "merged"
    target.mkdir()
    snapshot.mount(target)
    try:
        assert len(names_in(target)) == 100
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_an_image_without_layers_can_be_mounted(store: ImageStore, tmp_path: Path, make) -> None:
    store.load_archive(make.archive(tmp_path / "a.tar", ["scratch-ish:1"]))
    record = store.resolve("scratch-ish:1")
    assert record is not None
    target = tmp_path / "merged"
    target.mkdir()
    Snapshots(store.root).prepare("c1", record).mount(target)
    subprocess.run(["umount", str(target)], check=True)


def test_an_index_is_written_whole(store: ImageStore, tmp_path: Path, make) -> None:
    store.load_archive(make.archive(tmp_path / "a.tar", ["a:1"], make.tar(make.member("d", kind=tarfile.DIRTYPE))))
    document = orjson.loads((store.root / "index.json").read_bytes())
    assert document["references"].keys() == {"docker.io/library/a:1"}
    assert [entry for entry in names_in(store.root) if entry.startswith(".index")] == []


async def test_the_image_service_speaks_cri(store: ImageStore, busybox: Path) -> None:
    store.load_archive(busybox)
    service = Images(store)
    (image,) = await service.list_images()
    assert (image.uid, image.username, image.size > 1_000_000) == (1000, "", True)
    assert await service.image_status(ImageSpec(image="busybox:1")) == image
    assert await service.image_status(ImageSpec(image="nosuch")) is None
    (usage,) = await service.image_fs_info()
    assert usage.used_bytes > 1_000_000
    assert usage.mountpoint == str(store.root)
    await service.remove_image(ImageSpec(image="busybox:1"))
    await service.remove_image(ImageSpec(image="busybox:1"))
    assert await service.list_images() == []


@pytest.mark.parametrize("compress", [gzip.compress, bytes], ids=["gzip", "plain"])
def test_what_follows_the_end_of_a_tar_counts_for_its_digest(store: ImageStore, tmp_path: Path, make, compress) -> None:
    layer = make.tar(make.member("f", b"1" * 3_000_000)) + b"\0" * 5_000_000 + b"more"
    path = make.archive(tmp_path / "a.tar", ["a:1"], layer, travelling=[compress(layer)])

    (name,) = store.load_archive(path)

    record = store.resolve(name)
    assert record is not None
    assert (record.layer_dirs[0] / "f").read_bytes() == b"1" * 3_000_000


def test_a_compressed_layer_that_breaks_off_is_refused(store: ImageStore, tmp_path: Path, make) -> None:
    layer = make.tar(make.member("f", os.urandom(3_000_000)))
    path = make.archive(tmp_path / "a.tar", ["a:1"], layer, travelling=[gzip.compress(layer)[:-2_000_000]])

    with pytest.raises(ContentError, match="corrupt compressed data: unexpected end of file"):
        store.load_archive(path)

    assert layer_names(store) == []
