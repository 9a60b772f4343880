"""Container logs read in blocks: what comes out is what reading line after line gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.kubelet.logs import files
from pinnace.kubelet.logs.files import LineFilter, LogOptions

STAMPS = [f"2026-01-01T00:00:0{second}.{fraction}Z".encode() for second in range(5) for fraction in ("12", "123456789")]
TEXT = st.binary(max_size=60).map(lambda text: text.replace(b"\n", b" "))
LINE = st.one_of(
    st.tuples(
        st.sampled_from(STAMPS),
        st.sampled_from([b"stdout", b"stderr"]),
        st.sampled_from([b"F", b"F", b"P", b"P:x"]),
        TEXT,
    ).map(b" ".join),
    st.tuples(st.sampled_from(STAMPS), st.just(b"stdout"), st.just(b"F"), TEXT).map(b" ".join),
    TEXT,  # no log line at all
    st.sampled_from([b"2026-01-01T00:00:01Z stdout F", b" stdout F x", b"t other F x", b"t stdout", b"t stdout F:y z"]),
)
OPTIONS = st.builds(
    LogOptions,
    timestamps=st.booleans(),
    limit_bytes=st.none() | st.integers(1, 400),
    since=st.sampled_from(["", "2026-01-01T00:00:02.000000"]),
    stream=st.sampled_from(["All", "All", "Stdout", "Stderr"]),
)


class OneByOne(LineFilter):
    """Takes no short cut."""

    def _render_whole(self, lines: bytes) -> bytes | None:
        return None


@given(st.lists(st.lists(LINE, max_size=8), max_size=5), OPTIONS)
def test_lines_rendered_together_are_as_lines_rendered_one_by_one(
    blocks: list[list[bytes]], options: LogOptions
) -> None:
    together, single = LineFilter(options), OneByOne(options)

    for block in blocks:
        expected = b"".join(single.render(line + b"\n") for line in block)

        assert together.render(b"".join(line + b"\n" for line in block)) == expected
        assert together.exhausted == single.exhausted


@pytest.mark.parametrize("timestamps", [False, True])
def test_whole_lines_are_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch, timestamps: bool) -> None:
    monkeypatch.delattr(LineFilter, "_render_line")
    chosen = LineFilter(LogOptions(timestamps=timestamps))
    stamp = b"2026-01-01T00:00:01.5Z "
    prefix = stamp if timestamps else b""

    text = chosen.render(stamp + b"stdout F one two\n" + stamp + b"stderr F \n")

    assert text == prefix + b"one two\n" + prefix + b"\n"


@given(st.lists(st.tuples(st.booleans(), TEXT), max_size=30), st.integers(1, 90))
def test_lines_are_found_whole_however_a_file_is_cut_and_grows(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[bool, bytes]], size: int
) -> None:
    path: Path = tmp_path_factory.mktemp("log") / "0.log"
    with (
        path.open("wb", buffering=0) as log,
        path.open("rb", buffering=0) as file,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(files, "BLOCK_BYTES", size)
        lines = files.LogLines(file)
        found: list[bytes] = []
        for ends, text in written:
            log.write(text + b"\n" if ends else text)
            while block := lines.more():
                found.append(block)
                assert block.endswith(b"\n")

    assert b"".join(found) == path.read_bytes()[: path.read_bytes().rfind(b"\n") + 1]


@given(st.lists(LINE, max_size=40), st.integers(0, 45), st.integers(1, 300))
def test_tails_begin_behind_a_whole_line_however_a_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], count: int, size: int
) -> None:
    path: Path = tmp_path_factory.mktemp("log") / "0.log"
    path.write_bytes(b"".join(line + b"\n" for line in lines) + b"unfinished")
    whole = [number for number, line in enumerate(lines) if line.split(b" ")[2:3] not in ([b"P"], [b"P:x"])]
    first = whole[-count - 1] + 1 if count < len(whole) else 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK_BYTES", size)
        offset = files.tail_offset(path, count)

    if count and lines:
        assert path.read_bytes()[offset:] == b"".join(line + b"\n" for line in lines[first:]) + b"unfinished"
    else:
        assert offset in (0, path.stat().st_size)
