"""Logs of services of the machine: what may be asked, and where the answer comes from."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlencode

import pytest

from pinnace.kubelet.logs import node_query
from pinnace.kubelet.logs.node_query import Choice, Query, command, parse, problems
from pinnace.wire.http import Peer, Request, Response, StreamingResponse
from tests.kubelet.server.test_server import Body

NOON = datetime(2026, 3, 4, 12, 0, 5, tzinfo=UTC)


def asked(query: str) -> tuple[Query | None, list[str]]:
    values = parse_qs(query, keep_blank_values=True)
    found, causes = parse({name: each[0] for name, each in values.items()}, values.get("query", []))
    return found, [f"{cause.field}: {cause.message}" for cause in causes]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", None),
        ("query=kubelet", Query(("kubelet",))),
        ("query=kubelet&query=crio", Query(("kubelet", "crio"))),
        ("query=/foo.log", Query((), ("/foo.log",))),
        ("query=a&tailLines=5&boot=-1", Query(("a",), (), Choice(tail_lines=5, boot=-1))),
        ("query=a&sinceTime=2026-03-04T12:00:05Z&pattern=x", Query(("a",), (), Choice(since=NOON, pattern="x"))),
        ("tailLines=1", Query((), (), Choice(tail_lines=1))),
    ],
)
def test_what_is_asked(query, found):
    assert asked(query) == (found, [])


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("query=%20", 'query: Invalid value: [" "]: query cannot be empty'),
        ("query=a&sinceTime=noon", 'sinceTime: Invalid value: "noon": invalid time format'),
        ("query=a&boot=x", 'boot: Invalid value: "x": strconv.Atoi: parsing "x": invalid syntax'),
    ],
)
def test_what_cannot_be_read(query, why):
    assert asked(query) == (None, [why])


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("query=a", []),
        ("query=/there.log", []),
        ("tailLines=1", ["query: Required value: cannot be empty with options"]),
        ("query=a;b", ['query: Invalid value: "a;b": input contains unsupported characters']),
        ("query=a&query=b&query=c&query=d&query=e", ["query: Too many: 5: must have at most 4 items"]),
        ("query=a&query=/b", ['query: Invalid value: "[/b], [a]": cannot specify a file and service']),
        ("query=/a&query=/b", ['query: Invalid value: ["/a","/b"]: cannot specify more than one file']),
        ("query=/a&tailLines=1", ['query: Invalid value: ["/a"]: cannot specify file with options']),
        ("query=a&boot=1", ["boot: Invalid value: 1: must be less than 1"]),
        ("query=a&tailLines=100001", ["tailLines: Invalid value: 100001: must be between 0 and 100000, inclusive"]),
        ("query=a&pattern=(", ['pattern: Invalid value: "(": error parsing regexp: missing closing ): `(`']),
    ],
)
def test_what_is_refused(query, why, tmp_path):
    (tmp_path / "there.log").touch()
    found, _ = asked(query)
    assert found is not None
    assert [f"{cause.field}: {cause.message}" for cause in problems(found, tmp_path)] == why


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (cause,) = problems(Query((), ("../../etc/passwd",)), tmp_path)
    assert cause.message.endswith(f"stat {tmp_path}/etc/passwd: no such file or directory")


def test_the_journals_command():
    choice = Choice(since=NOON, tail_lines=9, boot=0, pattern="panic")
    assert command(choice, ["kubelet", "crio"]) == [
        "journalctl", "--utc", "--no-pager", "--output=short-precise", "--since=2026-3-4 12:0:5", "--pager-end",
        "--lines=9", "--unit=kubelet", "--unit=crio", "--grep=panic", "--case-sensitive=false", "--boot", "0",
    ]  # fmt: skip


async def answered(directory: Path, path: str = "/logs/", **query: str) -> tuple[int, bytes]:
    request = Request("GET", path, urlencode(query), {}, b"", Peer("192.0.2.9", b""))
    response = node_query.answer(request, directory)
    if isinstance(response, StreamingResponse):
        body = Body()
        await response.run(body)
        return response.status, body.data
    assert isinstance(response, Response)
    return response.status, response.body


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journalctl that knows one unit, and otherwise says how it was called."""
    program = tmp_path / "bin/journalctl"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1" = --field ] && echo kubelet.service || echo "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


async def test_services_of_the_journal(tmp_path: Path, journal: None) -> None:
    status, text = await answered(tmp_path, query="kubelet", tailLines="3")
    assert (status, text) == (
        200,
        b"--utc --no-pager --output=short-precise --pager-end --lines=3 --unit=kubelet\n",
    )


@pytest.mark.parametrize("name", ["proxy", "proxy.log", "proxy/proxy.log"])
async def test_services_that_write_files(tmp_path, journal, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("a line\n")
    assert await answered(tmp_path, query="proxy") == (200, b"a line\n")
    _, text = await answered(tmp_path, query="proxy", tailLines="1")
    assert text == b"\noptions present and query resolved to log files for [proxy]\ntry without specifying options\n"


async def test_files_and_what_is_no_query(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("a line\n")
    assert await answered(tmp_path, query="/a.log") == (200, b"a line\n")
    assert await answered(tmp_path, "/logs/a.log") == (200, b"a line\n")
    assert await answered(tmp_path, "/logs/a.log", query="kubelet") == (406, b"path not allowed in query mode\n")
    assert (await answered(tmp_path, query=" "))[0] == 400


async def test_a_machine_without_a_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await answered(tmp_path, query="kubelet") == (200, b"\nlog not found for kubelet\n")
