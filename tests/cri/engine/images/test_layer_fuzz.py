"""Archives that no builder would write: whatever is in them, nothing outside the layer is made, changed or looked at.

The kernel is asked: inotify tells of every file outside that is so much as opened while a layer is unpacked.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinnace.cri.engine.images.layers import LayerError, unpack
from pinnace.cri.engine.images.sources import Source
from tests.cri.engine.images.test_image_layers import in_pieces, whole_file
from tests.support.inotify import was_touched, watch

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="sets owners, devices and trusted xattrs")]

SECRET = b"what nobody may read"
OUTSIDE = "/@outside"  # in a name: the directory outside


class Place:
    """A layer's directory with a layer below it, and a directory outside."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.layer, self.lower, self.outside = base / "layer", base / "lower", base / "outside"

    def clear(self) -> None:
        for directory in (self.layer, self.lower, self.outside):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
        (self.outside / "secret").write_bytes(SECRET)
        (self.outside / "d").mkdir()
        (self.lower / "d").mkdir()
        (self.lower / "d/f").write_bytes(b"below")
        (self.lower / "out").symlink_to(self.outside)

    def state(self) -> list[Any]:
        """All that can be told of what is outside, without opening it."""
        found = [self.outside.lstat(), *(path.lstat() for path in sorted(self.outside.rglob("*")))]
        return [
            (
                one.st_ino,
                one.st_mode,
                one.st_uid,
                one.st_gid,
                one.st_size,
                one.st_nlink,
                one.st_mtime_ns,
                one.st_ctime_ns,
            )
            for one in found
        ] + sorted(self.base.iterdir())


# Archives.

_PARTS = [
    "a",
    "d",
    "f",
    "out",
    "..",
    ".",
    "",
    "link",
    ".wh.a",
    ".wh.d",
    ".wh..wh..opq",
    ".wh..",
    "x" * 120,
    "ü",
    "\udcff",
]
_USUAL = st.lists(st.sampled_from(["a", "d", "f", "link", "out"]), min_size=1, max_size=3).map("/".join)
_ODD = st.lists(st.sampled_from([*_PARTS, OUTSIDE, OUTSIDE]), min_size=1, max_size=5).map("/".join)
_NAMES = st.one_of(_USUAL, _USUAL, _ODD)
_TARGETS = st.one_of(
    _NAMES,
    st.sampled_from(
        [f"{OUTSIDE}/secret", OUTSIDE, "../" * 30 + OUTSIDE[1:], "link/secret", "out/secret", "/proc/self/cwd"]
    ),
)
_KINDS = [
    *[tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE] * 3,
    tarfile.REGTYPE,
    tarfile.AREGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.FIFOTYPE,
    tarfile.CHRTYPE,
    tarfile.CONTTYPE,
    tarfile.GNUTYPE_SPARSE,
    b"Z",
]
_NUMBERS = st.sampled_from([*[0] * 20, 1, 1000, 2**31, 2**32 - 1, 2**33, -1])
_PAX = st.dictionaries(
    st.sampled_from(
        [
            "path",
            "linkpath",
            "size",
            "uid",
            "mtime",
            "GNU.sparse.name",
            "GNU.sparse.map",
            "GNU.sparse.size",
            "SCHILY.xattr.trusted.overlay.redirect",
            "SCHILY.xattr.user.overlay.opaque",
            "SCHILY.xattr.security.capability",
            "hdrcharset",
        ]
    ),
    st.sampled_from(
        [f"{OUTSIDE}/secret", "../../outside/secret", "y", "0,10,20,10", "99999999999999999999", "-1", "1e400", ""]
    ),
    max_size=3,
)
_ENTRIES = st.fixed_dictionaries(
    {
        "name": _NAMES,
        "type": st.sampled_from(_KINDS),
        "linkname": _TARGETS,
        "mode": st.sampled_from([0, 0o644, 0o4777, 0o777777]),
        "uid": _NUMBERS,
        "gid": _NUMBERS,
        "mtime": st.sampled_from([0, 1, 2**40, -5]),
        "devmajor": st.sampled_from([0, 1, 8]),
        "devminor": st.sampled_from([0, 3]),
        "pax_headers": st.one_of(st.just({}), st.just({}), st.just({}), _PAX),
    }
)
_SIZES = st.sampled_from([*[None] * 30, 0, 1, 512, 10**6, 8**11 - 1])  # what a header says where it lies


def header(entry: dict[str, Any], size: int, style: Any) -> bytes:
    """The header of an entry; nothing where tarfile itself refuses to write one."""
    info = tarfile.TarInfo()
    for name, value in entry.items():
        setattr(info, name, value)
    info.size = size
    try:
        return info.tobuf(style, "utf-8", "surrogateescape")
    except (ValueError, OverflowError, UnicodeError):
        return b""


def archive(data: st.DataObject, outside: Path) -> bytes:
    """A sequence of entries, perhaps with wrong sizes, perhaps damaged."""
    found = b""
    for entry in data.draw(st.lists(_ENTRIES, min_size=1, max_size=8)):
        content = data.draw(st.sampled_from([b"", b"content", b"x" * 1500]))
        told = data.draw(_SIZES)
        placed: dict[str, Any] = {
            name: value.replace(OUTSIDE, str(outside)) if isinstance(value, str) else value
            for name, value in entry.items()
        }
        placed["pax_headers"] = {
            name: value.replace(OUTSIDE, str(outside)) for name, value in entry["pax_headers"].items()
        }
        style = data.draw(st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
        start = header(placed, len(content) if told is None else told, style)
        found += start + (content + b"\0" * (-len(content) % 512) if start else b"")
    damaged = bytearray(found + b"\0" * 1024)
    for _ in range(data.draw(st.sampled_from([*[0] * 8, 1, 5]))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    return bytes(damaged[: len(damaged) - data.draw(st.sampled_from([*[0] * 8, 100, 1024, 2000]))])


@pytest.mark.parametrize("source", [whole_file, in_pieces])
@settings(
    max_examples=int(os.environ.get("PINNACE_FUZZ_ROUNDS", "70")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_nothing_outside_is_made_changed_or_looked_at(
    tmp_path: Path, source: Callable[[BinaryIO], Source], data: st.DataObject
) -> None:
    place = Place(tmp_path)
    place.clear()
    packed = tmp_path / "layer.tar"
    packed.write_bytes(archive(data, place.outside))
    before = place.state()

    watcher = watch(place.outside, place.outside / "d")
    try:
        with packed.open("rb") as file, suppress(LayerError):
            unpack(source(file), place.layer, [place.lower])
        assert not was_touched(watcher)
    finally:
        os.close(watcher)

    assert place.state() == before
    for path in place.layer.rglob("*"):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_size < 1 << 20:  # some are 8 GiB, of which nothing is there
            assert SECRET not in path.read_bytes()
            assert not [key for key in os.listxattr(path) if key.startswith(("trusted.", "user.overlay."))]
