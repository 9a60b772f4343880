"""Sub-paths of volumes that containers write to, while one puts links in the way as fast as it can."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pinnace.kubelet.containers.env import ConfigError
from pinnace.kubelet.volumes.mounts import unmount_below
from pinnace.kubelet.volumes.subpath import open_below, prepare
from tests.cri.test_trees import swapping

ROUNDS = 1000


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A volume with a directory, beside a directory of the machine's with a file of the same name."""
    for directory, text in (("volume/d", "the volume's"), ("machine", "the machine's")):
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / "file").write_text(text)
    yield tmp_path / "volume"
    unmount_below(tmp_path)
    assert sorted(path.name for path in (tmp_path / "machine").iterdir()) == ["file"]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("path", ["d", "d/file"])
def test_what_is_bound_is_always_the_volumes_own(volume: Path, path: str) -> None:
    target = volume.parent / "target"
    bound = tried = 0
    with swapping(volume / "d", volume.parent / "machine"):
        while not bound or tried < ROUNDS:  # who swaps may be kept from going on for as long as all rounds take
            tried += 1
            with suppress(ConfigError):
                prepare(volume, path, target, create=path == "d")
                bound += 1
                found = target / "file" if path == "d" else target
                assert not found.exists() or found.read_text() == "the volume's"
                unmount_below(target)


def test_directories_are_never_made_outside(volume: Path) -> None:
    with swapping(volume / "d", volume.parent / "machine"):
        for number in range(ROUNDS):
            with suppress(ConfigError):
                os.close(open_below(volume, f"d/new-{number}/deep", create=True))


@pytest.mark.parametrize("target", ["../machine", "/etc", "loop", "d/../../machine/file"])
def test_links_that_lead_out_or_nowhere_are_refused(volume: Path, target: str) -> None:
    (volume / "loop").symlink_to(target)
    with pytest.raises(ConfigError):
        open_below(volume, "loop")
    with pytest.raises(ConfigError):
        open_below(volume, "loop/made", create=True)
