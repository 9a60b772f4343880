"""What containers said about their end, also where the file for it is not what it should be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pinnace.cri.api import ContainerMetadata, ContainerState, ContainerStatus, ImageSpec, Mount
from pinnace.kubelet.containers.runtime_config import DEFAULT_TERMINATION_PATH
from pinnace.kubelet.sync.termination import CONTAINER_LIMIT, read_message


def ended(file: Path) -> ContainerStatus:
    return ContainerStatus(
        id="c",
        metadata=ContainerMetadata(name="c"),
        state=ContainerState.EXITED,
        created_at=1,
        image=ImageSpec(image="i"),
        image_ref="i",
        exit_code=1,
        mounts=[Mount(container_path=DEFAULT_TERMINATION_PATH, host_path=str(file))],
    )


def test_the_end_of_a_long_message_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x" * CONTAINER_LIMIT + "last words")
    message = read_message(ended(tmp_path / "file"))
    assert (len(message), message[-10:]) == (CONTAINER_LIMIT, "last words")


@pytest.mark.parametrize("kind", ["pipe", "directory", "missing", "device"])
def test_what_is_no_file_says_nothing(tmp_path: Path, kind: str) -> None:
    """Whoever opens a pipe that nobody writes to would wait for ever, and all other pods with him."""
    path = tmp_path / "file"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    assert read_message(ended(path)) == ""
