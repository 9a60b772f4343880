"""`/logs/?query=…`: what services of the machine wrote, from systemd's journal or from files below /var/log.

`parse` and `problems` are pure; `answer` runs journalctl or reads the files. Specified by
https://kubernetes.io/docs/concepts/cluster-administration/system-logs/#log-query and KEP-2258.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pinnace.machinery.errors import Cause, invalid_value, required, too_many
from pinnace.machinery.meta import parse_time
from pinnace.machinery.regexp import RegexpError, check_regexp
from pinnace.wire import log_files
from pinnace.wire.http import AnyResponse, Request, Response, StreamingResponse, Writer

GATE = "NodeLogQuery"
PATIENCE = 30.0  # seconds that all of an answer may take
_MOST_LINES, _LONGEST_NAME, _MOST_SERVICES = 100_000, 256, 4
_UNSAFE = re.compile(r"[^a-zA-Z\-_0-9@]")
_CHUNK = 1 << 16
_HEAD = (("Content-Type", "text/plain;charset=UTF-8"),)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which part of what services wrote; None and empty where that is not said."""

    since: datetime | None = None
    until: datetime | None = None
    tail_lines: int | None = None
    boot: int | None = None
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """Whose logs, or which file."""

    services: Sequence[str] = ()
    files: Sequence[str] = ()
    choice: Choice = Choice()


def parse(params: Mapping[str, str], queries: Sequence[str]) -> tuple[Query | None, list[Cause]]:
    """What a request asks for, None where it is no query, and what of it cannot be read."""
    files = tuple(one for one in queries if "/" in one or "\\" in one)
    services = tuple(one for one in queries if one not in files and one.strip())
    causes: list[Cause] = []
    if queries and not files and not services:
        causes.append(invalid_value("query", list(queries), "query cannot be empty"))
    choice = Choice(
        since=_moment(params, "sinceTime", causes),
        until=_moment(params, "untilTime", causes),
        boot=_number(params, "boot", causes),
        tail_lines=_number(params, "tailLines", causes),
        pattern=params.get("pattern") or "",
    )
    query = Query(services, files, choice)
    return (None if causes or query == Query() else query), causes


def _moment(params: Mapping[str, str], name: str, causes: list[Cause]) -> datetime | None:
    text = params.get(name)
    try:
        return parse_time(text) if text else None
    except ValueError:
        causes.append(invalid_value(name, text, "invalid time format"))
        return None


def _number(params: Mapping[str, str], name: str, causes: list[Cause]) -> int | None:
    text = params.get(name)
    try:
        return int(text) if text else None
    except ValueError:
        causes.append(invalid_value(name, text, f'strconv.Atoi: parsing "{text}": invalid syntax'))
        return None


def problems(query: Query, directory: Path) -> list[Cause]:
    """What is wrong with a query."""
    causes = [cause for service in query.services for cause in _of_service(service)]
    if len(query.services) > _MOST_SERVICES:
        causes.append(too_many("query", len(query.services), _MOST_SERVICES))
    causes += _of_files(query, directory)
    choice = query.choice
    if choice.since is not None and choice.until is not None and choice.since > choice.until:
        causes.append(invalid_value("untilTime", choice.until.isoformat(), "must be after `sinceTime`"))
    if choice.boot is not None and choice.boot > 0:
        causes.append(invalid_value("boot", choice.boot, "must be less than 1"))
    if choice.tail_lines is not None and not 0 <= choice.tail_lines <= _MOST_LINES:
        why = f"must be between 0 and {_MOST_LINES}, inclusive"
        causes.append(invalid_value("tailLines", choice.tail_lines, why))
    try:
        if choice.pattern:
            check_regexp(choice.pattern)
    except RegexpError as error:
        causes.append(invalid_value("pattern", choice.pattern, str(error)))
    return causes


def _of_service(name: str) -> list[Cause]:
    if len(name) > _LONGEST_NAME:
        return [invalid_value("query", name, "length must be less than 100")]  # Kubernetes' word, though 256 is meant
    return [invalid_value("query", name, "input contains unsupported characters")] if _UNSAFE.search(name) else []


def _of_files(query: Query, directory: Path) -> list[Cause]:
    files = list(query.files)
    if not files:
        return [] if query.services else [required("query", "cannot be empty with options")]
    if query.services:
        both = f"[{' '.join(files)}], [{' '.join(query.services)}]"
        return [invalid_value("query", both, "cannot specify a file and service")]
    if len(files) > 1:
        return [invalid_value("query", files, "cannot specify more than one file")]
    if query.choice != Choice():
        return [invalid_value("query", files, "cannot specify file with options")]
    path = _below(directory, files[0])
    if not path.exists():
        return [invalid_value("query", files, f"stat {path}: no such file or directory")]
    return []


def _below(directory: Path, name: str) -> Path:
    """A path that does not lead out of the directory by dots."""
    kept: list[str] = []
    for part in name.replace("\\", "/").split("/"):
        if part == "..":
            kept = kept[:-1]
        elif part not in ("", "."):
            kept.append(part)
    return directory.joinpath(*kept)


def command(choice: Choice, services: Sequence[str]) -> list[str]:
    """The journalctl that tells it."""
    words = ["journalctl", "--utc", "--no-pager", "--output=short-precise"]
    for flag, moment in (("since", choice.since), ("until", choice.until)):
        if moment is not None:
            words.append(
                f"--{flag}={moment.year}-{moment.month}-{moment.day} {moment.hour}:{moment.minute}:{moment.second}"
            )
    if choice.tail_lines is not None:
        words += ["--pager-end", f"--lines={choice.tail_lines}"]
    words += [f"--unit={service}" for service in services]
    if choice.pattern:
        words += [f"--grep={choice.pattern}", "--case-sensitive=false"]
    if choice.boot is not None:
        words += ["--boot", str(choice.boot)]
    return words


def answer(request: Request, directory: Path = log_files.DIRECTORY) -> AnyResponse:
    """The answer to a request below /logs."""
    query, causes = parse(request.params(), request.param_list("query"))
    if causes:
        return _refusal(400, _told(causes))
    if query is None:
        return log_files.answer(request, directory)
    if request.path.strip("/") != "logs":
        return _refusal(406, "path not allowed in query mode")
    if causes := problems(query, directory):
        return _refusal(406, _told(causes))
    if query.files:
        path = _below(directory, query.files[0]).relative_to(directory)
        return log_files.answer(replace(request, path=f"/logs/{path}"), directory)

    async def send(out: Writer) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await _send(query, directory, out)

    return StreamingResponse(send, 200, _HEAD)


def _refusal(code: int, text: str) -> Response:
    return Response(code, (("Content-Type", "text/plain; charset=utf-8"),), f"{text}\n".encode())


def _told(causes: Sequence[Cause]) -> str:
    texts = [f"{cause.field}: {cause.message}" for cause in causes]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


async def _send(query: Query, directory: Path, out: Writer) -> None:
    units = await _units()
    native = [one for one in query.services if f"{one}.service" in units]
    others = [one for one in query.services if one not in native]
    if native:
        await _send_journal(command(query.choice, native), out)
    if others and query.choice != Choice():
        named = " ".join(others)
        hint = "try without specifying options"
        out.write(f"\noptions present and query resolved to log files for [{named}]\n{hint}\n".encode())
        return
    for service in others:
        await _send_file(service, directory, out)


async def _units() -> str:
    """The units that systemd's journal knows; none where there is no journal."""
    try:
        process = await asyncio.create_subprocess_exec(
            "journalctl", "--field", "_SYSTEMD_UNIT", stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
        )
    except OSError:
        return ""
    output, _ = await process.communicate()
    return output.decode(errors="replace") if process.returncode == 0 else ""


async def _send_journal(words: Sequence[str], out: Writer) -> None:
    try:
        process = await asyncio.create_subprocess_exec(*words, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
    except OSError:
        out.write(b"\nerror: journal output not available\n")
        return
    assert process.stdout is not None
    try:
        while chunk := await process.stdout.read(_CHUNK):
            out.write(chunk)
            await out.drain()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()


async def _send_file(service: str, directory: Path, out: Writer) -> None:
    for name in (service, f"{service}.log", f"{service}/{service}.log"):
        path = directory / name
        try:
            if not path.is_file():
                continue
            with path.open("rb") as file:
                while chunk := await asyncio.to_thread(file.read, _CHUNK):
                    out.write(chunk)
                    await out.drain()
            return
        except OSError as error:
            out.write(f"\nerror getting log for {service}: open {path}: {(error.strerror or '').lower()}\n".encode())
            return
    out.write(f"\nlog not found for {service}\n".encode())
