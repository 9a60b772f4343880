"""Small files in which parts of the kubelet remember what a successor must know: written whole or not at all.

They are not forced to the disk: after a power failure nothing runs any more that they tell of.
"""

from __future__ import annotations

from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Replace the file by one with this content; its directory is made if need be. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_bytes(content)
    unfinished.replace(path)
