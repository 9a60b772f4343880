"""What of a container's log is asked for, and how its files are rotated."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.kubelet.logs import files
from pinnace.machinery.errors import ApiError

LINES = [
    b"2026-01-01T00:00:01.000000001Z stdout F one\n",
    b"2026-01-01T00:00:02.000000001Z stderr F two\n",
    b"2026-01-01T00:00:03.000000001Z stdout P thr\n",
    b"2026-01-01T00:00:03.000000002Z stdout F ee\n",
    b"2026-01-01T00:00:04.000000001Z stdout F \n",
]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, b"one\ntwo\nthree\n\n"),
        ({"tailLines": "2"}, b"three\n\n"),
        ({"tailLines": "0"}, b""),
        ({"tailLines": "99"}, b"one\ntwo\nthree\n\n"),
        ({"limitBytes": "6"}, b"one\ntw"),
        ({"sinceTime": "2026-01-01T00:00:03Z"}, b"three\n\n"),
        ({"timestamps": "true", "tailLines": "2"}, LINES[2][:30] + b" three\n" + LINES[4][:30] + b" \n"),
        ({"stream": "Stderr"}, b"two\n"),
    ],
)
def test_log_options(tmp_path, params, expected):
    path = Path(tmp_path, "0.log")
    path.write_bytes(b"".join(LINES) + b"2026-01-01T00:00:05.000000001Z stdout F unfinished")
    options = files.parse_options(params, datetime(2026, 1, 1, tzinfo=UTC))
    assert b"".join(files.read_all(path, options)) == expected


@pytest.mark.parametrize("params", [{"tailLines": "-1"}, {"limitBytes": "0"}, {"sinceSeconds": "0"}])
def test_log_options_that_are_refused(params):
    with pytest.raises(ApiError) as error:
        files.parse_options(params, datetime(2026, 1, 1, tzinfo=UTC))
    assert error.value.code == 422


@given(st.lists(st.binary(max_size=300).map(lambda text: text.replace(b"\n", b"")), max_size=30), st.integers(0, 40))
def test_tail_gives_the_last_lines(tmp_path_factory, texts, count):
    path = tmp_path_factory.mktemp("log") / "0.log"
    path.write_bytes(b"".join(b"2026-01-01T00:00:01.000000001Z stdout F " + text + b"\n" for text in texts))
    found = b"".join(files.read_all(path, files.LogOptions(tail_lines=count)))
    assert found == b"".join(text + b"\n" for text in texts[max(0, len(texts) - count) :])


def test_rotation_keeps_so_many_files(tmp_path):
    path = tmp_path / "0.log"
    for second in range(5):
        path.write_text(str(second))
        files.rotate(path, datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC), 4)
    names = [one.name for one in files.rotated_files(path)]
    assert names == ["0.log.20260101-000002.gz", "0.log.20260101-000003.gz", "0.log.20260101-000004"]
