"""Programs of the machine are found where PATH says, and where system programs are."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.cri import programs
from pinnace.cri.programs import find_program, search_path


@pytest.mark.parametrize(
    ("path", "searched"),
    [
        ("/opt/bin:/usr/bin", "/opt/bin:/usr/bin:/usr/local/sbin:/usr/sbin:/sbin"),
        ("/sbin:/usr/bin:/usr/sbin", "/sbin:/usr/bin:/usr/sbin:/usr/local/sbin"),
        ("/usr/local/sbin:/usr/sbin:/sbin", "/usr/local/sbin:/usr/sbin:/sbin"),
        ("", "/bin:/usr/bin:/usr/local/sbin:/usr/sbin:/sbin"),  # never the working directory
    ],
)
def test_places_of_system_programs_are_added_once(path: str, searched: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", path)
    assert search_path() == searched


def test_a_program_is_found_by_path_then_among_those_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("users", "systems"):
        (tmp_path / place).mkdir()
    for program in ("systems/mkfs", "systems/mount", "users/mount"):
        (tmp_path / program).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "users"))
    monkeypatch.setattr(programs, "SYSTEM_DIRECTORIES", (str(tmp_path / "systems"),))

    assert find_program("mount") == str(tmp_path / "users/mount")
    assert find_program("mkfs") == str(tmp_path / "systems/mkfs")
    assert find_program(str(tmp_path / "systems/mount")) == str(tmp_path / "systems/mount")
    assert find_program("fsck") is None
