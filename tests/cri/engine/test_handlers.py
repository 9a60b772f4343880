"""Which program a RuntimeClass's handler is, and what programs say that they can."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.cri.api import CriError
from pinnace.cri.engine.handlers import Handlers


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_name_leads_to_a_program() -> None:
    handlers = Handlers("/usr/sbin/crun", {"gvisor": "/usr/bin/runsc"})

    found = {name: handlers.program(name) for name in ("", "runc", "pinnace", "gvisor")}

    assert found == {"": "/usr/sbin/crun", "runc": "/usr/sbin/crun", "pinnace": "", "gvisor": "/usr/bin/runsc"}
    with pytest.raises(CriError, match='failed to get sandbox runtime: no runtime for "kata" is configured'):
        handlers.program("kata")


@pytest.mark.parametrize(
    ("script", "recursive"),
    [
        ("""test "$1" = features && echo '{"mountOptions": ["ro", "rro"]}'""", True),
        ("""echo '{"mountOptions": ["ro"]}'""", False),
        ("echo unknown command; exit 1", False),
        ("echo '[]'", False),
    ],
)
def test_programs_tell_what_they_can(tmp_path: Path, script: str, recursive: bool) -> None:
    handlers = Handlers(others={"other": program(tmp_path / "runtime", script)})

    features = {one.name: one.recursive_read_only_mounts for one in handlers.features()}

    assert features == {"": True, "other": recursive, "pinnace": True, "runc": True}


def test_a_program_that_is_not_there_can_nothing(tmp_path: Path) -> None:
    (found, *_) = Handlers(str(tmp_path / "nothing")).features()

    assert (found.recursive_read_only_mounts, found.user_namespaces) == (False, False)
