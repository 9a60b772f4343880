"""SIGKILL before everything that a change of the store does to files: never half an image, and nothing that stays.

A fork does the change with an audit hook that kills it before its n-th operation; then the store is opened anew, as by
the next engine. What a change leaves alone is compared by name, size and content.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pinnace.cri.engine.images.snapshots import Snapshots
from pinnace.cri.engine.images.store import ImageStore

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="unpacks layers with their owners")]

OPERATIONS = ("open", "os.", "shutil.", "tempfile.", "fcntl.")  # of Python's audit events
MOST = 1_000


def ends_early(change: Callable[[], object], operation: int) -> bool:
    """Do a change in a fork that is killed before its n-th operation on files; whether it got that far."""
    pid = os.fork()
    if pid == 0:
        seen = 0

        def count(event: str, _: object) -> None:
            nonlocal seen
            if event.startswith(OPERATIONS):
                seen += 1
                if seen == operation:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(count)
            change()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def files_of(root: Path) -> dict[str, Any]:
    """Everything in a store, but for its locks."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        kept = path.relative_to(root).parts[0]
        if not path.name.endswith(".lock") and kept != "index.json":
            found[str(path.relative_to(root))] = path.read_bytes() if path.is_file() else path.is_dir()
    return found


def shown(opened: ImageStore) -> dict[str, list[str]]:
    """Names by image; each must be whole: its config, its layers, and what is in them."""
    found = {}
    for record in opened.list():
        assert opened.content.read(record.id)
        for directory in record.layer_dirs:
            assert (directory / "f").read_bytes() == (directory / "g").read_bytes() != b""
        found[record.id] = sorted([*record.repo_tags, *record.repo_digests])
    return found


class Change:
    """Something that is done to a copy of a store, over and over."""

    def __init__(self, directory: Path, prepare: Callable[[ImageStore], object]) -> None:
        self._template, self._root = directory / "template", directory / "images"
        prepare(ImageStore(self._template))
        self._directory = directory

    def fresh(self) -> ImageStore:
        shutil.rmtree(self._root, ignore_errors=True)
        shutil.copytree(self._template, self._root, symlinks=True)
        return ImageStore(self._root)

    def before_every_operation(self, change: Callable[[ImageStore], object]) -> None:
        before = self.fresh()
        states = [(shown(before), files_of(self._root))]
        change(before)
        before.collect_garbage()
        states.append((shown(before), files_of(self._root)))
        for operation in range(1, MOST):
            opened = self.fresh()
            if not ends_early(lambda: change(opened), operation):  # noqa: B023  (called at once)
                assert operation > 5
                return
            after = ImageStore(self._root)
            assert shown(after) in [images for images, _ in states]
            after.collect_garbage()
            assert (shown(after), files_of(self._root)) in states
            change(after)
            after.collect_garbage()
            assert (shown(after), files_of(self._root)) == states[1]
        raise AssertionError("the change does not end")


@pytest.fixture
def archives(tmp_path: Path, make: Any) -> list[Path]:
    """Two images that share a layer."""

    def layer(name: bytes) -> bytes:
        data: bytes = make.tar(make.member("f", name * 100), make.member("g", name * 100))
        return data

    return [
        make.archive(tmp_path / "a.tar", ["a:1"], layer(b"shared"), layer(b"of a")),
        make.archive(tmp_path / "b.tar", ["b:1"], layer(b"shared"), layer(b"of b"), Cmd=["b"]),
    ]


def test_killed_while_an_image_is_loaded(tmp_path: Path, archives: list[Path]) -> None:
    change = Change(tmp_path, lambda opened: opened.load_archive(archives[0]))
    change.before_every_operation(lambda opened: opened.load_archive(archives[1]))


def test_killed_while_an_image_is_removed(tmp_path: Path, archives: list[Path]) -> None:
    change = Change(tmp_path, lambda opened: [opened.load_archive(path) for path in archives])
    change.before_every_operation(lambda opened: opened.remove("b:1"))


def test_killed_while_an_image_gets_another_name(tmp_path: Path, archives: list[Path]) -> None:
    change = Change(tmp_path, lambda opened: opened.load_archive(archives[0]))
    change.before_every_operation(lambda opened: opened.tag("a:1", "c:1") if opened.resolve("c:1") is None else None)


def test_killed_while_a_container_gets_its_layer(tmp_path: Path, archives: list[Path]) -> None:
    """What is left belongs to no container that an engine knows, and is removed by the next one's start."""
    opened = ImageStore(tmp_path / "images")
    opened.load_archive(archives[0])
    record = opened.resolve("a:1")
    assert record is not None

    for operation in range(1, MOST):
        early = ends_early(lambda: Snapshots(opened.root).prepare("c", record), operation)
        made = Snapshots(opened.root)
        for name in made.list():
            made.remove(name)
        opened.collect_garbage()
        assert shown(ImageStore(opened.root)) == {record.id: record.repo_tags}
        if not early:
            return
    raise AssertionError("the change does not end")
