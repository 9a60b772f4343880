"""Small files in which parts of the kubelet remember what a successor must know: written whole or not at all.

They are not forced to the disk: after a power failure nothing runs any more that they tell of. Some are empty then, and
count as not there.
"""

from __future__ import annotations

import errno
from pathlib import Path

import structlog

_log = structlog.get_logger()


def write(path: Path, content: bytes) -> None:
    """Replace the file by one with this content; its directory is made if need be. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def note(path: Path, content: bytes) -> None:
    """The same where the node must go on though it cannot be written; the next time tells it as well."""
    try:
        write(path, content)
    except OSError as error:
        _log.warning("cannot keep what the next kubelet should know", file=str(path), error=str(error))


def read(path: Path) -> bytes:
    """The content. Raises OSError, FileNotFoundError also for what a power failure has left empty."""
    content = path.read_bytes()
    if not content.strip(b"\0"):
        raise FileNotFoundError(errno.ENOENT, "nothing is left of the file", str(path))
    return content
