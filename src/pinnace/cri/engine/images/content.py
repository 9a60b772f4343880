"""A content-addressed store: blobs under the SHA-256 of what they hold, verified as they are written.

A blob appears under its name only when it is complete and its digest is right (write aside, then rename), so readers
need no lock and two writers of one blob do no harm. The layout is that of the OCI image layout's `blobs/` directory.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ContentError(Exception):
    """Content is not what its digest or its description says."""


def sha256_digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def check_digest(digest: str) -> str:
    """The hex digits of a `sha256:` digest; `ContentError` for anything else, such as a path in disguise."""
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ContentError(f"invalid digest {digest!r}")
    return digest[7:]


class BlobWriter:
    """A blob being written; `commit` puts it in its place."""

    def __init__(self, blobs: Path) -> None:
        descriptor, name = tempfile.mkstemp(prefix=".ingest-", dir=blobs)
        self._file = os.fdopen(descriptor, "wb")
        self._temporary = Path(name)
        self._blobs = blobs
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)
        self.size += len(data)

    def restart(self) -> None:
        """Begin anew."""
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    def commit(self, expected_digest: str = "", expected_size: int = -1) -> str:
        """Verify and publish; the digest. `ContentError`, and nothing kept, where digest or size differ."""
        digest = "sha256:" + self._hash.hexdigest()
        if expected_digest and digest != expected_digest:
            raise ContentError(f"unexpected commit digest {digest}, expected {expected_digest}: failed precondition")
        if expected_size >= 0 and self.size != expected_size:
            raise ContentError(f"unexpected commit size {self.size}, expected {expected_size}: failed precondition")
        self._file.close()
        os.chmod(self._temporary, 0o644)  # noqa: PTH101
        self._temporary.replace(self._blobs / digest[7:])
        return digest

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)


class ContentStore:
    """Blobs below `root/sha256/`."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "sha256"
        self._blobs.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the blob is or would be."""
        return self._blobs / check_digest(digest)

    def __contains__(self, digest: str) -> bool:
        return self.path(digest).exists()

    def read(self, digest: str) -> bytes:
        """A small blob whole; KeyError where it is not here."""
        try:
            return self.path(digest).read_bytes()
        except FileNotFoundError:
            raise KeyError(digest) from None

    def writer(self) -> BlobWriter:
        return BlobWriter(self._blobs)

    def put(self, data: bytes) -> str:
        """Store bytes; their digest. What a power cut has left empty or short is written anew."""
        digest = sha256_digest(data)
        if digest not in self or self.path(digest).stat().st_size != len(data):
            with self.writer() as writer:
                writer.write(data)
                writer.commit()
        return digest

    def remove(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)

    def digests(self) -> Iterator[str]:
        for entry in self._blobs.iterdir():
            if not entry.name.startswith("."):
                yield f"sha256:{entry.name}"

    def remove_unfinished(self) -> None:
        """Drop what writers that died have left; only while nobody writes."""
        for entry in self._blobs.glob(".ingest-*"):
            entry.unlink(missing_ok=True)

    @contextmanager
    def scratch(self) -> Iterator[int]:
        """A descriptor of a nameless file on the same file system; gone when closed."""
        descriptor = os.open(self._blobs, os.O_TMPFILE | os.O_RDWR, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
