"""The programs that flags put in place of parts of the embedded engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pinnace.cli.container_runtime import EngineParts, engine_flags, read_parts


def read(*flags: str) -> EngineParts | str:
    """What the flags say, or what is said of them."""
    found: list[EngineParts] = []

    @click.command()
    @engine_flags
    def command(**given: Any) -> None:
        found.append(read_parts(given))

    result = CliRunner().invoke(command, flags)
    return found[0] if found else result.output


@pytest.fixture
def runsc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "runsc"
    path.write_text("")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return path


def test_handlers_lead_to_programs(runsc: Path) -> None:
    assert read() == EngineParts()
    found = read("--oci-runtime=runsc", "--runtime-handler=gvisor=runsc", f"--runtime-handler=other={runsc}")
    assert found == EngineParts(oci_runtime=str(runsc), handlers={"gvisor": str(runsc), "other": str(runsc)})


@pytest.mark.parametrize(
    ("flag", "problem"), [("gvisor", "is not HANDLER=PROGRAM"), ("gvisor=nothing", 'there is no program "nothing"')]
)
def test_handlers_without_a_program_are_refused(runsc: Path, flag: str, problem: str) -> None:
    assert problem in str(read(f"--runtime-handler={flag}"))
