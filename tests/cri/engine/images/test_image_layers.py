"""Unpacking layers: what overlayfs must find, and what a hostile archive must not reach."""

import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinnace.cri.engine.images.layers import LayerError, unpack
from pinnace.cri.engine.images.sources import FileSource, Region, Source, StreamSource

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="sets owners, devices and trusted xattrs")]


def whole_file(file: BinaryIO) -> Source:
    return FileSource(Region(file.fileno(), 0, os.fstat(file.fileno()).st_size))


def in_pieces(file: BinaryIO) -> Source:
    return StreamSource(lambda: file.read(700))


@pytest.fixture(params=[whole_file, in_pieces])
def source(request: pytest.FixtureRequest) -> Callable[[BinaryIO], Source]:
    """How a layer is read: where it lies, or as it is decompressed."""
    given: Callable[[BinaryIO], Source] = request.param
    return given


@pytest.fixture
def layer(tmp_path: Path, make, source: Callable[[BinaryIO], Source]):
    """Unpack members into a new directory below tmp_path/layers."""
    made: list[Path] = []

    def unpacked(*members: tuple, lowers: tuple[Path, ...] = ()) -> Path:
        target = tmp_path / "layers" / str(len(made))
        target.mkdir(parents=True)
        made.append(target)
        archive = tmp_path / f"layer-{len(made)}.tar"
        archive.write_bytes(make.tar(*members))
        with archive.open("rb") as file:
            unpack(source(file), target, lowers)
        return target

    return unpacked


def names_in(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def is_whiteout(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def is_opaque(path: Path) -> bool:
    return "trusted.overlay.opaque" in os.listxattr(path)


def test_files_keep_content_owner_mode_and_time(layer, make) -> None:
    root = layer(
        make.member("d", kind=tarfile.DIRTYPE, mode=0o1777, mtime=1000, uid=5, gid=6),
        make.member("d/f", b"content", mode=0o4755, uid=1000, gid=1001, mtime=1234567890),
        make.member("big", b"x" * (3 << 20)),
    )
    found = (root / "d/f").stat()
    assert (root / "d/f").read_bytes() == b"content"
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1000, 1001, 0o4755)
    assert found.st_mtime == 1234567890
    directory = (root / "d").stat()
    assert (directory.st_uid, stat.S_IMODE(directory.st_mode), directory.st_mtime) == (5, 0o1777, 1000)
    assert (root / "big").read_bytes() == b"x" * (3 << 20)


def test_links_devices_and_fifos_are_made(layer, make) -> None:
    root = layer(
        make.member("f", b"1"),
        make.member("hard", kind=tarfile.LNKTYPE, linkname="f"),
        make.member("soft", kind=tarfile.SYMTYPE, linkname="/etc/passwd", uid=7, gid=8),
        make.member("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        make.member("pipe", kind=tarfile.FIFOTYPE),
    )
    assert (root / "f").stat().st_ino == (root / "hard").stat().st_ino
    assert (root / "soft").readlink() == Path("/etc/passwd")
    assert (root / "soft").lstat().st_uid == 7
    assert (root / "null").lstat().st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE((root / "null").lstat().st_mode) == 0o666
    assert stat.S_ISFIFO((root / "pipe").lstat().st_mode)


def test_file_capabilities_are_kept_and_overlay_attributes_are_not(layer, make) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    headers = {
        "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.user.note": "hello",
    }
    root = layer(make.member("ping", b"x", mode=0o755, uid=1, pax_headers=headers))
    assert os.getxattr(root / "ping", "security.capability") == capability
    assert sorted(os.listxattr(root / "ping")) == ["security.capability", "user.note"]


def test_whiteouts_take_overlays_form(layer, make) -> None:
    root = layer(
        make.member("etc", kind=tarfile.DIRTYPE),
        make.member("etc/.wh.passwd"),
        make.member("opt/.wh..wh..opq"),
        make.member("opt/new", b"1"),
        make.member(".wh..wh.plnk"),
    )
    assert is_whiteout(root / "etc/passwd")
    assert is_opaque(root / "opt")
    assert names_in(root) == ["etc", "opt"]


@pytest.mark.parametrize("whiteout_first", [True, False])
def test_a_directory_that_replaces_one_below_is_opaque(layer, make, whiteout_first: bool) -> None:
    members = [make.member(".wh.d"), make.member("d", kind=tarfile.DIRTYPE)]
    root = layer(*(members if whiteout_first else reversed(members)), make.member("d/f", b"1"))
    assert is_opaque(root / "d")
    assert (root / "d/f").read_bytes() == b"1"


def test_an_unmentioned_directory_under_a_whiteout_is_opaque(layer, make) -> None:
    root = layer(make.member(".wh.d"), make.member("d/f", b"1"))
    assert is_opaque(root / "d")


def test_directories_that_are_not_described_look_like_those_below(layer, make) -> None:
    lower = layer(make.member("tmp", kind=tarfile.DIRTYPE, mode=0o1777, uid=3, gid=4))
    root = layer(make.member("tmp/f", b"1"), lowers=(lower,))
    found = (root / "tmp").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o1777, 3, 4)


def test_a_hard_link_to_a_file_below_becomes_a_copy(layer, make) -> None:
    lower = layer(make.member("a/f", b"below", mode=0o600, uid=9))
    root = layer(make.member("g", kind=tarfile.LNKTYPE, linkname="a/f"), lowers=(lower,))
    assert (root / "g").read_bytes() == b"below"
    assert (root / "g").stat().st_uid == 9


def test_later_entries_replace_earlier_ones(layer, make) -> None:
    root = layer(
        make.member("a", kind=tarfile.DIRTYPE),
        make.member("a/x", b"1"),
        make.member("a", b"file now"),
        make.member("b", b"old"),
        make.member("b", b"new"),
        make.member("c", b"file"),
        make.member("c", kind=tarfile.DIRTYPE),
        make.member("c/y", b"2"),
    )
    assert (root / "a").read_bytes() == b"file now"
    assert (root / "b").read_bytes() == b"new"
    assert (root / "c/y").read_bytes() == b"2"


def test_a_sparse_file_keeps_its_holes(tmp_path: Path, source) -> None:
    original = tmp_path / "sparse"
    with original.open("wb") as file:
        file.seek(8 << 20)
        file.write(b"end")
    archive = tmp_path / "sparse.tar"
    subprocess.run(["tar", "-S", "-cf", str(archive), "-C", str(tmp_path), "sparse"], check=True)
    target = tmp_path / "out"
    target.mkdir()
    with archive.open("rb") as file:
        unpack(source(file), target)
    assert (target / "sparse").read_bytes() == original.read_bytes()
    assert (target / "sparse").stat().st_blocks * 512 < 1 << 20


def test_absolute_links_lead_inside_the_layer(layer, make) -> None:
    root = layer(
        make.member("run", kind=tarfile.DIRTYPE),
        make.member("var", kind=tarfile.DIRTYPE),
        make.member("var/run", kind=tarfile.SYMTYPE, linkname="/run"),
        make.member("var/run/pid", b"1"),
        make.member("var/lock", kind=tarfile.SYMTYPE, linkname="/not/there/yet"),
        make.member("var/lock/l", b"2"),
    )
    assert (root / "run/pid").read_bytes() == b"1"
    assert (root / "not/there/yet/l").read_bytes() == b"2"


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/../../evil"])
def test_climbing_out_is_refused(layer, make, name: str) -> None:
    with pytest.raises(LayerError, match="escapes its root"):
        layer(make.member(name, b"1"))


def test_links_out_of_the_layer_reach_nothing(layer, make, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    up = "../" * 20 + str(outside).lstrip("/")
    root = layer(
        make.member("abs", kind=tarfile.SYMTYPE, linkname=str(outside)),
        make.member("rel", kind=tarfile.SYMTYPE, linkname=up),
        make.member("abs/one", b"1"),
        make.member("rel/two", b"2"),
        make.member("abs/.wh.secret"),
        make.member("file", kind=tarfile.SYMTYPE, linkname=str(outside / "secret")),
        make.member("file", b"overwritten"),
    )
    assert names_in(outside) == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert (root / "file").read_bytes() == b"overwritten"


def test_a_hard_link_cannot_reach_outside(layer, make, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with pytest.raises(LayerError, match="not found in layer"):
        layer(make.member("stolen", kind=tarfile.LNKTYPE, linkname=str(secret)))
    with pytest.raises(LayerError):
        layer(
            make.member("up", kind=tarfile.SYMTYPE, linkname="../" * 20 + str(tmp_path).lstrip("/")),
            make.member("stolen", kind=tarfile.LNKTYPE, linkname="up/secret"),
        )
    assert secret.stat().st_nlink == 1


@pytest.mark.parametrize(
    "broken",
    [
        {"name": "f", "uid": 1 << 33},
        {"name": "x/.wh.."},
        {"name": "x/.wh..."},
        {"name": "x/.wh."},
        {"name": "g", "kind": tarfile.LNKTYPE, "linkname": "nowhere"},
        {"name": "g", "kind": tarfile.LNKTYPE, "linkname": "/"},
        {"name": "g", "kind": b"Z"},
    ],
    ids=str,
)
def test_malformed_entries_are_refused(layer, make, broken: dict) -> None:
    with pytest.raises(LayerError):
        layer(make.member(**broken))


def test_a_truncated_layer_is_refused(tmp_path: Path, make, source) -> None:
    archive = tmp_path / "short.tar"
    archive.write_bytes(make.tar(make.member("f", b"x" * 5000))[:2000])
    (tmp_path / "out").mkdir()
    with archive.open("rb") as file, pytest.raises(LayerError):
        unpack(source(file), tmp_path / "out")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_archive_fails_cleanly(tmp_path: Path, make, source, data: st.DataObject) -> None:
    whole = bytearray(
        make.tar(
            make.member("d", kind=tarfile.DIRTYPE),
            make.member("d/f", b"x" * 600, pax_headers={"SCHILY.xattr.user.a": "b"}),
            make.member("l", kind=tarfile.SYMTYPE, linkname="d" * 120),
        )
    )
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    target = tmp_path / "damaged"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    archive = tmp_path / "damaged.tar"
    archive.write_bytes(whole)
    with archive.open("rb") as file:
        try:
            unpack(source(file), target)
        except LayerError:
            pass
