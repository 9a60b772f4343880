"""Which images there are and what they are called: one small JSON file, replaced as a whole.

Readers take whatever complete version is there and read it again when it has changed; writers take turns by a lock.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from pinnace.cri.engine.images.locks import locked


@dataclass(slots=True)
class IndexedImage:
    """What the index holds of one image; its config is a blob under the image's id."""

    chains: list[str]  # chain ids of its layers, base first
    size: int  # bytes, as it was transported
    manifest: str = ""  # digest of its manifest blob, if it came with one


@dataclass(slots=True)
class Index:
    images: dict[str, IndexedImage] = field(default_factory=dict)  # by image id
    references: dict[str, str] = field(default_factory=dict)  # full reference, by tag or by digest -> image id


_UNFINISHED = ".index-"
_Stamp = tuple[int, int, int]


class IndexFile:
    """`path` is the index, `path` + ".lock" the writers' lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = path.with_name(path.name + ".lock")
        self._stamp: _Stamp | None = None
        self._index = Index()

    def read(self) -> Index:
        """The present index; the same object until the file changes. Read-only."""
        try:
            found = os.stat(self._path)  # noqa: PTH116
        except FileNotFoundError:
            self._stamp, self._index = None, Index()
            return self._index
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp != self._stamp:
            self._index = _decode(self._path.read_bytes())
            self._stamp = stamp
        return self._index

    @contextmanager
    def change(self) -> Iterator[Index]:
        """A copy to change; it becomes the index when the block ends without an exception."""
        with locked(self._lock):
            try:
                index = _decode(self._path.read_bytes())
            except FileNotFoundError:
                index = Index()
            yield index
            self._write(index)

    def remove_unfinished(self) -> None:
        """Drop what writers that died have left."""
        with locked(self._lock):
            for path in self._path.parent.glob(f"{_UNFINISHED}*"):
                path.unlink(missing_ok=True)

    def _write(self, index: Index) -> None:
        descriptor, name = tempfile.mkstemp(prefix=_UNFINISHED, dir=self._path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_encode(index))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(self._path)


def _encode(index: Index) -> bytes:
    images = {
        image_id: {"chains": image.chains, "size": image.size, "manifest": image.manifest}
        for image_id, image in index.images.items()
    }
    return orjson.dumps({"version": 1, "images": images, "references": index.references}, option=orjson.OPT_INDENT_2)


def _decode(data: bytes) -> Index:
    document = orjson.loads(data)
    images = {image_id: IndexedImage(**image) for image_id, image in document["images"].items()}
    return Index(images, dict(document["references"]))
