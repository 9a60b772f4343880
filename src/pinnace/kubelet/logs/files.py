"""Container log files in the CRI's format: reading them as `kubectl logs` asks, and rotating them.

A line is `<RFC 3339 with nanoseconds> <stdout|stderr> <P|F> <bytes>`; P lines continue. Specified by
https://kubernetes.io/docs/concepts/cluster-administration/logging/ and the PodLogOptions of the API.
"""

from __future__ import annotations

import gzip
import mmap
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import RawIOBase
from itertools import chain
from pathlib import Path

from pinnace.machinery.errors import ApiError, Cause, invalid
from pinnace.machinery.meta import parse_time

BLOCK_BYTES = 256 * 1024  # of a log, read and rendered at once

_PART_OF_LINE = re.compile(rb"(?:[^ \n]* [^ \n]* (P)(?=[: \n])|).*\n")
_WHOLE_LINE = re.compile(rb"^\S+ std(?:out|err) F (.*\n)", re.MULTILINE)
_STAMPED_LINE = re.compile(rb"^(\S+ )std(?:out|err) F (.*\n)", re.MULTILINE)


@dataclass(slots=True, kw_only=True)
class LogOptions:
    """`PodLogOptions`; times as text that compares like log timestamps do."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since: str = ""  # RFC 3339 in UTC, without the Z
    stream: str = "All"  # All, Stdout, Stderr


def parse_options(params: dict[str, str], now: datetime) -> LogOptions:
    """Options of a request's query. Raises ApiError 422 for values that make no sense."""
    errors: list[Cause] = []
    options = LogOptions(
        follow=_truth(params.get("follow")),
        previous=_truth(params.get("previous")),
        timestamps=_truth(params.get("timestamps")),
        tail_lines=_number(params, "tailLines", 0, errors),
        limit_bytes=_number(params, "limitBytes", 1, errors),
        stream=params.get("stream") or "All",
    )
    seconds = _number(params, "sinceSeconds", 1, errors)
    if seconds is not None:
        options.since = _comparable(datetime.fromtimestamp(now.timestamp() - seconds, UTC))
    elif params.get("sinceTime"):
        try:
            options.since = _comparable(parse_time(params["sinceTime"]))
        except ValueError:
            errors.append(Cause("FieldValueInvalid", f'Invalid value: "{params["sinceTime"]}"', "sinceTime"))
    if errors:
        raise invalid("PodLogOptions", "", errors)
    return options


def _truth(text: str | None) -> bool:
    return text is not None and text.lower() not in ("", "false", "0", "f")


def _number(params: dict[str, str], name: str, least: int, errors: list[Cause]) -> int | None:
    text = params.get(name)
    if not text:
        return None
    try:
        number = int(text)
    except ValueError:
        raise ApiError(400, "BadRequest", f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
    if number < least:
        what = "must be greater than 0" if least else "must be greater than or equal to 0"
        errors.append(Cause("FieldValueInvalid", f"Invalid value: {number}: {what}", name))
    return number


def _comparable(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def tail_offset(path: Path, lines: int) -> int:
    """Where in the file the last so many lines of the container begin; a line may be written in several parts."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0 or lines <= 0:
            return size
        with mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as text:
            found = 0
            end = text.rfind(b"\n") + 1
            while end:
                start = text.rfind(b"\n", 0, max(0, end - BLOCK_BYTES)) + 1
                block = text[start:end]
                whole = _PART_OF_LINE.findall(block).count(b"")
                if found + whole > lines:
                    return start + _last_lines(block, lines - found)
                found += whole
                end = start
    return 0


def _last_lines(block: bytes, lines: int) -> int:
    """Where the last so many of a block's lines begin; it has more."""
    end = len(block)
    while True:
        start = block.rfind(b"\n", 0, end - 1) + 1
        if _PART_OF_LINE.findall(block, start, end) == [b""]:
            if not lines:
                return end
            lines -= 1
        end = start


class LogLines:
    """The complete lines of an open log, many at a time; what is written later is found by asking again."""

    def __init__(self, file: RawIOBase) -> None:
        self._file = file
        self._begun = b""  # a line whose end is not written yet, or not read

    def more(self) -> bytes:
        """The lines that follow, each with its newline; empty where no more are complete."""
        while data := self._file.read(BLOCK_BYTES):
            end = data.rfind(b"\n") + 1
            if end:
                found = self._begun + data[:end]
                self._begun = data[end:]
                return found
            self._begun += data
        return b""


class LineFilter:
    """Turns raw lines into what the reader asked for; `limit` is used up as bytes are given."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._since = options.since.encode()
        self._left = options.limit_bytes
        self._continued = {b"stdout": False, b"stderr": False}
        self._takes_all = not self._since and options.stream == "All"

    @property
    def exhausted(self) -> bool:
        """Whether `limitBytes` were given."""
        return self._left is not None and self._left <= 0

    def render(self, lines: bytes) -> bytes:
        """The bytes of complete raw lines that the reader gets."""
        text = self._render_whole(lines) if self._takes_all else None
        if text is None:
            text = b"".join([self._render_line(line) for line in lines.split(b"\n")[:-1]])
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
        return text

    def _render_whole(self, lines: bytes) -> bytes | None:
        """All of the lines, at a tenth of the cost of one after the other; None where some are parts of longer ones."""
        if not self._options.timestamps:
            texts = _WHOLE_LINE.findall(lines)
            return b"".join(texts) if len(texts) == lines.count(b"\n") else None
        if any(self._continued.values()):
            return None
        pairs = _STAMPED_LINE.findall(lines)
        return b"".join(chain.from_iterable(pairs)) if len(pairs) == lines.count(b"\n") else None

    def _render_line(self, line: bytes) -> bytes:
        """The bytes of one raw line without its newline; empty for a line left out."""
        fields = line.split(b" ", 3)
        if len(fields) < 3:
            return b""
        stamp, stream, tags = fields[0], fields[1], fields[2]
        text = fields[3] if len(fields) > 3 else b""
        if self._since and stamp.rstrip(b"Z") < self._since:
            return b""
        if self._options.stream != "All" and stream != self._options.stream.lower().encode():
            return b""
        partial = tags.split(b":", 1)[0] == b"P"
        continued = self._continued.get(stream, False)
        self._continued[stream] = partial
        if not partial:
            text += b"\n"
        if self._options.timestamps and not continued:
            text = stamp + b" " + text
        return text


def read_all(path: Path, options: LogOptions) -> Iterator[bytes]:
    """What a reader that does not follow gets."""
    offset = 0 if options.tail_lines is None else tail_offset(path, options.tail_lines)
    chosen = LineFilter(options)
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        lines = LogLines(file)
        while not chosen.exhausted and (found := lines.more()):
            yield chosen.render(found)


def tail_messages(path: Path, lines: int, limit: int) -> str:
    """The last lines of a log as text, at most `limit` bytes."""
    try:
        text = b"".join(read_all(path, LogOptions(tail_lines=lines)))
    except OSError:
        return ""
    return text[-limit:].decode(errors="replace")


# Rotation.


def needs_rotation(path: Path, max_size: int) -> bool:
    try:
        return path.stat().st_size >= max_size
    except OSError:
        return False


def rotate(path: Path, now: datetime, max_files: int) -> Path:
    """Move the log aside and compress what was moved before; the new name, still being written to.

    The caller has the runtime reopen its log next. `max_files` counts the file being written.
    """
    for old in rotated_files(path):
        if old.suffix == ".tmp":
            old.unlink(missing_ok=True)
        elif old.suffix != ".gz":
            _compress(old)
    keep = max(0, max_files - 2)
    compressed = rotated_files(path)
    for old in compressed[: max(0, len(compressed) - keep)]:
        old.unlink(missing_ok=True)
    moved = path.with_name(f"{path.name}.{now.strftime('%Y%m%d-%H%M%S')}")
    path.rename(moved)
    return moved


def rotated_files(path: Path) -> list[Path]:
    """Earlier parts of a log, oldest first."""
    return sorted(path.parent.glob(path.name + ".*"))


def _compress(path: Path) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with path.open("rb") as source, gzip.open(temporary, "wb", compresslevel=6) as target:
        shutil.copyfileobj(source, target)
    temporary.rename(path.with_name(path.name + ".gz"))
    path.unlink()
