"""Directories of this machine that are volumes: which may be deleted, and their deletion."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pinnace.cri.trees import remove


def is_below(path: str, root: Path) -> bool:
    """Whether a path that somebody wrote is inside of a directory."""
    whole = Path(path)
    return ".." not in whole.parts and root in whole.parents


def may_be_deleted(path: str) -> bool:
    """Whether the controller manager deletes it for a volume that was made by hand."""
    return is_below(path, Path("/tmp"))


def delete_directory(path: Path) -> None:
    """Delete a directory and all in it; one that is not there is deleted already. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        remove(path)
