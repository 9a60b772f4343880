"""Variables from files of a volume."""

from __future__ import annotations

import os
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.kubelet.containers.env import ConfigError
from pinnace.kubelet.containers.env_files import parse, variable
from tests.kubelet.conftest import Start
from tests.kubelet.fake_runtime import FakeRuntime
from tests.kubelet.node_api import NodeApi


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("# a comment\n\n  A='1'\nB='two words' # why\n", {"A": "1", "B": "two words"}),
        ("A='$X \"y\" #z'\nA='2'", {"A": "2"}),
        ("A='one\n\nthree'\nB=''", {"A": "one\n\nthree", "B": ""}),
    ],
)
def test_a_file_of_variables(text: str, found: dict[str, str]) -> None:
    assert parse(text) == found


@pytest.mark.parametrize("text", ["A", "A=1", 'A="1"', "A = '1'", "A= '1'", "='1'", "A='1", "A='1'2", "export A='1'x"])
def test_what_is_no_variable_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="couldn't parse env file"):
        parse(text)


_NAMES = st.text(string.ascii_letters, min_size=1, max_size=8)
_VALUES = st.text(sorted({*string.printable[:95], "\n"} - {"'"}), max_size=30)


@given(st.dictionaries(_NAMES, _VALUES, max_size=5))
def test_every_value_without_a_quote_can_be_written(variables: dict[str, str]) -> None:
    assert parse("\n".join(f"{name}='{value}'" for name, value in variables.items())) == variables


def reference(**more: Any) -> dict[str, Any]:
    return {"volumeName": "v", "path": "a/env", "key": "A", **more}


def test_a_pipe_is_no_file_of_variables(tmp_path: Path) -> None:
    """Whoever opens it would wait for somebody who writes to it."""
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a/env")
    with pytest.raises(ConfigError, match="couldn't parse env file"):
        variable(reference(), {"v": tmp_path})


def test_a_reference_means_a_key_of_a_file_of_a_volume(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/env").write_text("A='1'\n")
    volumes = {"v": tmp_path}
    assert variable(reference(), volumes) == "1"
    assert variable(reference(key="B", optional=True), volumes) is None
    assert variable(reference(path="none", optional=True), volumes) is None
    for wrong, why in (
        (reference(key="B"), 'environment variable key "B" not found in file'),
        (reference(path="none"), "couldn't parse env file"),
        (reference(volumeName="w"), 'cannot find the volume "w" referenced by FileKeyRef'),
    ):
        with pytest.raises(ConfigError, match=why):
            variable(wrong, volumes)


def test_links_out_of_the_volume_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("A='1'\n")
    (tmp_path / "v").mkdir()
    (tmp_path / "v/env").symlink_to("../secret")
    with pytest.raises(ConfigError, match="leads out of the volume"):
        variable(reference(path="env"), {"v": tmp_path / "v"})


async def test_a_container_gets_a_variable_of_a_file(
    api: NodeApi, runtime: FakeRuntime, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "env").write_text("A='from a file'\n")
    volume = {"name": "v", "hostPath": {"path": str(tmp_path)}}
    env = [{"name": "X", "valueFrom": {"fileKeyRef": reference(path="env")}}]
    start()
    await api.add_pod("p", containers=[{"name": "web", "image": "web:1", "env": env}], volumes=[volume])
    await api.phase("p", "Running")
    [status] = runtime.by_name("web")
    assert runtime.configs[status.id].envs["X"] == "from a file"
