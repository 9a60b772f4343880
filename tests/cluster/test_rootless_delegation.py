"""Cgroups are claimed where systemd has delegated them with the controllers that limits need, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pinnace.cluster.rootless import delegation


class Hierarchy:
    """A directory with the files of a hierarchy in which this process is in `/scope`."""

    def __init__(self, root: Path, *, mark: bytes, offered: str, distributed: str = "") -> None:
        self.root = root
        self.scope = root / "scope"
        self.scope.mkdir()
        self.memberships = root / "memberships"
        self.memberships.write_text("1:name=systemd:/\n0::/scope\n")
        for name, text in (("controllers", offered), ("subtree_control", distributed), ("procs", "7\n")):
            (self.scope / f"cgroup.{name}").write_text(text)
        if mark:
            os.setxattr(self.scope, "user.delegate", mark)

    def claim(self) -> Path | None:
        return delegation.claim("pinnace-1", self.root, self.memberships)


@pytest.mark.parametrize(
    ("memberships", "own"),
    [
        ("0::/user.slice/run-1.scope\n", "user.slice/run-1.scope"),
        ("5:memory:/a\n0::/b\n", "b"),
        ("0::/\n", ""),
        ("5:memory:/a\n", ""),
    ],
)
def test_only_the_unified_hierarchy_counts(memberships: str, own: str) -> None:
    assert delegation.own(memberships) == own


@pytest.mark.parametrize(
    ("mark", "offered"),
    [(b"", "cpu memory pids"), (b"0", "cpu memory pids"), (b"1", "memory pids"), (b"1", "")],
)
def test_what_is_not_delegated_or_lacks_controllers_is_left_alone(tmp_path: Path, mark: bytes, offered: str) -> None:
    hierarchy = Hierarchy(tmp_path, mark=mark, offered=offered)

    assert hierarchy.claim() is None
    assert not [entry for entry in hierarchy.scope.iterdir() if entry.is_dir()]


def test_processes_make_room_before_controllers_are_distributed(tmp_path: Path) -> None:
    hierarchy = Hierarchy(tmp_path, mark=b"1", offered="cpu io memory pids")

    assert hierarchy.claim() == hierarchy.scope / "pinnace-1"
    assert (hierarchy.scope / "pinnace-outside" / "cgroup.procs").read_text() == "7"
    assert (hierarchy.scope / "cgroup.subtree_control").read_text() == "+pids"  # the last of those that were written


def test_a_scope_that_is_divided_already_is_divided_further(tmp_path: Path) -> None:
    hierarchy = Hierarchy(tmp_path, mark=b"1", offered="cpu memory pids", distributed="cpu memory pids")

    assert hierarchy.claim() == hierarchy.scope / "pinnace-1"
    assert not (hierarchy.scope / "pinnace-outside").exists()


def test_cgroups_are_removed_with_those_below(tmp_path: Path) -> None:
    (tmp_path / "claimed" / "servers" / "deep").mkdir(parents=True)

    delegation.remove(tmp_path / "claimed")

    assert not (tmp_path / "claimed").exists()
