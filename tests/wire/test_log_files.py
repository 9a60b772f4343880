"""/logs: files below a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.wire.http import Peer, Request, Response, StreamingResponse
from pinnace.wire.log_files import answer


class Out:
    """What was written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        pass


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "pods").mkdir()
    (tmp_path / "pods" / "0.log").write_text("hello\n" * 20_000)
    (tmp_path / "a&b").write_text("x")
    return tmp_path


def ask(logs: Path, path: str) -> Response | StreamingResponse:
    found = answer(Request("GET", path, "", {}, b"", Peer("")), logs)
    assert isinstance(found, Response | StreamingResponse)
    return found


def test_a_directory_is_a_page_of_links(logs: Path) -> None:
    found = ask(logs, "/logs/")
    assert isinstance(found, Response)
    assert found.body == b'<pre>\n<a href="a%26b">a&amp;b</a>\n<a href="pods/">pods/</a>\n</pre>\n'


async def test_a_file_is_sent_whole(logs: Path) -> None:
    found, out = ask(logs, "/logs/pods/0.log"), Out()
    assert isinstance(found, StreamingResponse)
    await found.run(out)  # type: ignore[arg-type] # as much of a writer as is needed
    assert out.data == b"hello\n" * 20_000


@pytest.mark.parametrize(
    ("path", "status"),
    [("/logs", 301), ("/logs/pods", 301), ("/logs/none", 404), ("/logs/../x", 400), ("/logs/%2e%2e/x", 400)],
)
def test_other_paths(logs: Path, path: str, status: int) -> None:
    assert ask(logs, path).status == status
