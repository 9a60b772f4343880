"""The CRI log format: cutting bytes into lines, and the files of real containers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.cri.api import CriError
from pinnace.cri.engine.logs import PARTIAL_LIMIT, LineCutter, LogFile, timestamp
from tests.cri.engine.conftest import Node

NOW = 1_700_000_000_123_456_789
HEAD = b"2023-11-14T22:13:20.123456789Z stdout "


def test_times_have_nine_digits() -> None:
    assert timestamp(1_700_000_000_000_000_001) == b"2023-11-14T22:13:20.000000001Z"


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b"one\n"], HEAD + b"F one\n"),
        ([b"one\ntwo\n"], HEAD + b"F one\n" + HEAD + b"F two\n"),
        ([b"on", b"e\n"], HEAD + b"F one\n"),
        ([b"\n"], HEAD + b"F \n"),
        ([b"one\r\n"], HEAD + b"F one\r\n"),
        ([b"unfinished"], HEAD + b"P unfinished\n"),
        ([], b""),
        (
            [b"x" * (PARTIAL_LIMIT + 1) + b"\n"],
            HEAD + b"P " + b"x" * PARTIAL_LIMIT + b"\n" + HEAD + b"F x\n",
        ),
        ([b"x" * PARTIAL_LIMIT + b"\n"], HEAD + b"F " + b"x" * PARTIAL_LIMIT + b"\n"),
    ],
)
def test_lines(pieces: list[bytes], expected: bytes) -> None:
    cutter = LineCutter("stdout")

    assert b"".join(cutter.feed(piece, NOW) for piece in pieces) + cutter.end(NOW) == expected


@given(st.lists(st.binary(max_size=40) | st.integers(1, 40_000).map(lambda n: b"y" * n) | st.just(b"\n")))
def test_what_was_written_can_be_read_back_however_it_was_cut(pieces: list[bytes]) -> None:
    cutter = LineCutter("stdout")
    log = b"".join(cutter.feed(piece, NOW) for piece in pieces) + cutter.end(NOW)

    back = b""
    for line in log.split(b"\n")[:-1]:
        tag, content = line[len(HEAD) : len(HEAD) + 1], line[len(HEAD) + 2 :]
        assert len(content) <= PARTIAL_LIMIT
        back += content + (b"\n" if tag == b"F" else b"")
    assert back == b"".join(pieces)


@pytest.mark.root
async def test_a_rotated_log_goes_on_in_a_new_file(node: Node) -> None:
    script = "echo first; read go; echo second"
    container = await node.start(await node.sandbox(), "/bin/sh", "-c", script, stdin=True)
    path = Path(node.engine.containers.records[container].log_path)
    await node.exec(container, "/bin/sh", "-c", "while grep -q read /proc/1/stat; do :; done")
    rotated = path.with_suffix(".old")
    while not path.read_bytes().endswith(b" first\n"):
        await node.exec(container, "/bin/true")
    path.rename(rotated)

    await node.engine.reopen_container_log(container)
    (node.base / "state" / "containers" / container / "stdin").write_bytes(b"\n")
    await node.ended(container)

    assert rotated.read_text().endswith("stdout F first\n")
    assert path.read_text().endswith("stdout F second\n")
    with pytest.raises(CriError, match="container is not running"):
        await node.engine.reopen_container_log(container)


@pytest.mark.root
async def test_a_container_without_a_log_path_runs_all_the_same(node: Node) -> None:
    container = await node.start(await node.sandbox(), "/bin/sh", "-c", "seq 1 100000; exit 2", log_path="")

    assert (await node.ended(container)).exit_code == 2


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_disk_that_was_full_tears_one_line_at_most(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], check=True)
    try:
        (tmp_path / "filler").write_bytes(b"x" * 60_000)
        log = LogFile(str(tmp_path / "log"))
        for _ in range(3):
            log.write((b"y" * 2998 + b"\n") * 2)
        (tmp_path / "filler").unlink()
        log.write(b"whole\n")
        log.close()
        *before, last = (tmp_path / "log").read_bytes().splitlines()
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert last == b"whole"
    assert all(line == b"y" * 2998 for line in before[:-1])


def test_a_log_that_is_a_link_is_not_written_to(tmp_path: Path) -> None:
    """Who may write to the directory of logs could else have the monitor write to any file of the machine."""
    (tmp_path / "canary").write_text("alive")
    (tmp_path / "log").symlink_to(tmp_path / "canary")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        LogFile(str(tmp_path / "log"))
    assert (tmp_path / "canary").read_text() == "alive"
