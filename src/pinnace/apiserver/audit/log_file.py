"""The file that audit events are written to, and its older parts: `audit.log`, `audit-2026-01-31T12-00-00.000.log`.

A file that has grown to its limit is renamed after the moment and a new one begun; older parts are compressed and, by
age and number, removed, in a thread. A line is written whole or not at all, so that a disk that was full leaves no
broken one. The original's files are named and kept so by https://pkg.go.dev/gopkg.in/natefinch/lumberjack.v2.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pinnace.apiserver.audit.options import LogOptions

_MEGABYTE = 1024 * 1024
_DEFAULT_MEGABYTES = 100
_MOMENT = "%Y-%m-%dT%H-%M-%S"


class LogFile:
    """Appends lines to `options.path`; made on the first."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._path = Path(options.path)
        self._limit = (options.max_size or _DEFAULT_MEGABYTES) * _MEGABYTE
        self._file = -1
        self._size = 0
        self._lock = threading.Lock()  # of the two that follow
        self._untidy: datetime | None = None  # when a part ended that nobody has looked after yet
        self._tidying: threading.Thread | None = None  # while there is something to look after

    def write(self, data: bytes, now: datetime) -> None:
        """Append whole lines. Raises OSError, and then nothing of `data` is in the file."""
        if self._options.path == "-":
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        if self._file < 0:
            self._open()
        if self._size and self._size + len(data) > self._limit:
            self._rotate(now)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)

    def close(self) -> None:
        """Write nothing more; returns when older parts are tidied."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        with self._lock:
            tidying = self._tidying
        if tidying is not None:
            tidying.join()

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def _rotate(self, now: datetime) -> None:
        os.close(self._file)
        self._file = -1
        self._path.rename(_free_name(self._path, now))
        self._open()
        with self._lock:
            self._untidy = now
            if self._tidying is None:
                self._tidying = threading.Thread(target=self._tidy, name="audit-log")
                self._tidying.start()

    def _tidy(self) -> None:
        while True:
            with self._lock:
                now, self._untidy = self._untidy, None
                if now is None:
                    self._tidying = None
                    return
            tidy(self._options, now)


def _free_name(path: Path, now: datetime) -> Path:
    """What the part that ends now is called: parts that end in one millisecond follow each other."""
    while True:
        moment = f"{now.strftime(_MOMENT)}.{now.microsecond // 1000:03d}"
        found = path.with_name(f"{path.stem}-{moment}{path.suffix}")
        if not found.exists() and not found.with_name(found.name + ".gz").exists():
            return found
        now += timedelta(milliseconds=1)


def older_parts(path: Path) -> list[tuple[datetime, Path]]:
    """The older parts of a log and when each ended, the newest first."""
    pattern = re.compile(
        rf"{re.escape(path.stem)}-(\d{{4}}-\d\d-\d\dT\d\d-\d\d-\d\d)\.(\d{{3}}){re.escape(path.suffix)}(\.gz)?"
    )
    found = []
    for file in path.parent.iterdir():
        match = pattern.fullmatch(file.name)
        if match:
            moment = datetime.strptime(match[1], _MOMENT).replace(tzinfo=UTC) + timedelta(milliseconds=int(match[2]))
            found.append((moment, file))
    return sorted(found, reverse=True)


def tidy(options: LogOptions, now: datetime) -> None:
    """Remove older parts that are too many or too old, compress the others if that is wanted."""
    for position, (moment, file) in enumerate(older_parts(Path(options.path))):
        too_many = options.max_backups and position >= options.max_backups
        too_old = options.max_age and moment < now - timedelta(days=options.max_age)
        try:
            if too_many or too_old:
                file.unlink()
            elif options.compress and file.suffix != ".gz":
                _compress(file)
        except OSError:
            continue  # tried again when the next part ends


def _compress(file: Path) -> None:
    packed = file.with_name(file.name + ".gz")
    try:
        descriptor = os.open(packed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with file.open("rb") as source, os.fdopen(descriptor, "wb") as raw, gzip.open(raw, "wb") as target:
            shutil.copyfileobj(source, target)
    except OSError:
        packed.unlink(missing_ok=True)
        raise
    file.unlink()
