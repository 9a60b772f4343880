"""Trees that containers wrote: as deep as they like, with links wherever they like, swapped while they are walked."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pinnace.cri.trees import discard, remove, walk
from pinnace.kubelet.volumes.mounts import bind, unmount
from pinnace.kubelet.volumes.ownership import give_to_group


def dig(top: Path, levels: int) -> None:
    """Directories within directories, deeper than a path is long."""
    current = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=current)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=current)
        os.close(current)
        current = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=current))
    os.close(current)


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory that nothing may touch."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "canary").write_text("alive")
    (directory / "canary").chmod(0o600)
    before = [(path.stat().st_mode, path.stat().st_gid) for path in (directory, directory / "canary")]
    yield directory
    assert (directory / "canary").read_text() == "alive"
    assert [(path.stat().st_mode, path.stat().st_gid) for path in (directory, directory / "canary")] == before


@pytest.mark.parametrize("levels", [1, 99, 100, 101, 1100])
def test_a_tree_is_removed_however_deep_it_is(tmp_path: Path, levels: int) -> None:
    (tmp_path / "top" / "beside").mkdir(parents=True)
    dig(tmp_path / "top", levels)

    remove(tmp_path / "top")

    assert list(tmp_path.iterdir()) == []


def test_links_are_removed_and_not_what_they_lead_to(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "top" / "below").mkdir(parents=True)
    (tmp_path / "top" / "link").symlink_to(outside)
    (tmp_path / "top" / "below" / "file").symlink_to(outside / "canary")
    os.mkfifo(tmp_path / "top" / "pipe")

    remove(tmp_path / "top")

    assert not (tmp_path / "top").exists()


def test_a_tree_that_is_a_link_is_left_alone(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "top").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        remove(tmp_path / "top")
    discard(tmp_path / "top")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_is_mounted_in_a_tree_is_not_deleted(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "top" / "mounted").mkdir(parents=True)
    shared = Path("/dev/shm") / f"pinnace-{os.getpid()}"  # another file system
    shared.mkdir()
    (shared / "file").touch()
    bind(str(shared), tmp_path / "top" / "mounted")
    try:
        with pytest.raises(OSError, match="something is mounted here") as refused:
            remove(tmp_path / "top")
        assert refused.value.errno == errno.EBUSY
        assert (shared / "file").exists()
    finally:
        unmount(tmp_path / "top" / "mounted")
        remove(shared)


@contextmanager
def swapping(directory: Path, target: Path) -> Iterator[None]:
    """Somebody who puts a link to `target` in the place of a directory, and the directory back, as fast as may be."""
    ended = threading.Event()
    aside, link = directory.with_name("aside"), directory.with_name("link")

    def swap() -> None:
        while not ended.is_set():
            with suppress(OSError):
                link.symlink_to(target)
                directory.rename(aside)
                link.rename(directory)
                directory.unlink()
                aside.rename(directory)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_group_is_given_nothing_through_a_link_that_appears_meanwhile(tmp_path: Path, outside: Path) -> None:
    """A container may write to its volume while another one of the pod is started."""
    (tmp_path / "volume" / "d").mkdir(parents=True)
    (tmp_path / "volume" / "d" / "canary").touch()
    with swapping(tmp_path / "volume" / "d", outside):
        for _ in range(500):
            with suppress(OSError):
                give_to_group(tmp_path / "volume", 4242)


def test_a_walk_sees_every_directory_once(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").touch()
    (tmp_path / "link").symlink_to("a")

    found = [sorted(names) for _, names in walk(tmp_path)]

    assert found == [["a", "link"], ["b", "file"], []]


def test_a_walk_ends_where_paths_do(tmp_path: Path) -> None:
    dig(tmp_path, 2100)
    with pytest.raises(OSError, match="File name too long"):
        list(walk(tmp_path))
    for entry in tmp_path.iterdir():
        remove(entry)


def test_two_may_remove_one_tree(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / "top" / str(number) / "below").mkdir(parents=True)
    others = [threading.Thread(target=discard, args=(tmp_path / "top",)) for _ in range(3)]
    for other in others:
        other.start()
    discard(tmp_path / "top")
    for other in others:
        other.join()
    assert not (tmp_path / "top").exists()
