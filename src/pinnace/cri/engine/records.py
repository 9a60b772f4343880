"""What the engine remembers of sandboxes and containers, as JSON files that outlive it.

`sandboxes/<id>.json` and `containers/<id>.json` below the engine's root hold the CRI configs as they were given, and
what has been decided since (addresses, states). Files are replaced by rename, so one is whole or was never there.
"""

# ruff: noqa: PTH104, PTH123
# Descriptors, mounts and /proc files: `os` is the interface here, and pathlib would cost memory in every container.
from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import orjson

from pinnace.cri.api import ContainerConfig, ContainerState, ContainerUser, CriError, PodSandboxConfig

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class SandboxRecord:
    """One sandbox."""

    id: str
    config: PodSandboxConfig
    created_at: int
    boot_id: str  # of the kernel it was made under: namespaces do not survive a reboot
    ips: list[str] = field(default_factory=list)
    namespaces: list[str] = field(default_factory=list)  # pinned: network, ipc, uts
    ready: bool = False  # until it is stopped
    runtime_handler: str = ""

    @property
    def name(self) -> str:
        """No other sandbox may have it as long as this one is there."""
        given = self.config.metadata
        return f"{given.name}_{given.namespace}_{given.uid}_{given.attempt}"


@dataclass(slots=True, kw_only=True)
class ContainerRecord:
    """One container; its state follows from its times, as in containerd."""

    id: str
    sandbox_id: str
    config: ContainerConfig
    image_id: str
    image_ref: str
    log_path: str
    stop_signal: int
    created_at: int
    image_name: str = ""  # a tag that its image had, whatever it was asked for by
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    pid: int = 0
    removing: bool = False
    user: ContainerUser | None = None  # once it was started

    @property
    def state(self) -> ContainerState:
        if self.finished_at:
            return ContainerState.EXITED
        return ContainerState.RUNNING if self.started_at else ContainerState.CREATED


def container_name(config: ContainerConfig, sandbox: SandboxRecord) -> str:
    """No other container may have it as long as this one is there."""
    pod = sandbox.config.metadata
    return f"{config.metadata.name}_{pod.name}_{pod.namespace}_{pod.uid}_{config.metadata.attempt}"


def find(records: Mapping[str, T], id_: str, words: str) -> T:
    """By id, or an unambiguous beginning of one. CriError in containerd's words, `words` before them."""
    record = records.get(id_)
    if record is not None:
        return record
    if not id_:
        raise CriError("UNKNOWN", f"{words}: Prefix can't be empty")
    matches = [one for name, one in records.items() if name.startswith(id_)]
    if len(matches) > 1:
        raise CriError("UNKNOWN", f"{words}: Multiple IDs found with provided prefix: {id_}")
    if not matches:
        raise CriError("NOT_FOUND", f"{words}: not found")
    return matches[0]


class Names:
    """Who has which name: what is being made holds its own already, so that there are never two of one."""

    def __init__(self, kind: str) -> None:
        self._kind = kind  # sandbox, container
        self._holders: dict[str, str] = {}

    def reserve(self, name: str, id_: str) -> None:
        """Take a name that is free, or one's own. CriError in containerd's words."""
        holder = self._holders.setdefault(name, id_)
        if holder != id_:
            taken = f'name "{name}" is reserved for "{holder}"'
            raise CriError("UNKNOWN", f'failed to reserve {self._kind} name "{name}": {taken}')

    def release(self, id_: str) -> None:
        """Free what was held for an id."""
        self._holders = {name: holder for name, holder in self._holders.items() if holder != id_}


_hints: dict[type, dict[str, Any]] = {}


def from_plain(kind: Any, value: Any) -> Any:
    """Parsed JSON to dataclasses, enums, lists and dicts as a type says; unknown fields are dropped."""
    origin = get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return from_plain(next(a for a in get_args(kind) if a is not type(None)), value)
    if origin is list:
        return [from_plain(get_args(kind)[0], item) for item in value]
    if origin is dict:
        return {key: from_plain(get_args(kind)[1], item) for key, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _hints.get(kind) or _hints.setdefault(kind, get_type_hints(kind))
        return kind(**{name: from_plain(hints[name], item) for name, item in value.items() if name in hints})
    return value


class RecordFiles:
    """The records of one kind in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, id_: str, record: Any) -> None:
        temporary = f"{self._directory}/.{id_}"
        try:
            with open(temporary, "wb") as file:
                file.write(orjson.dumps(record))
            os.rename(temporary, f"{self._directory}/{id_}.json")
        except OSError:
            with suppress(OSError):
                Path(temporary).unlink()
            raise

    def note(self, id_: str, record: Any) -> None:
        """Write what would be found out again if it were not written: a full disk must not stop anything's end."""
        with suppress(OSError):
            self.write(id_, record)

    def remove(self, id_: str) -> None:
        (self._directory / f"{id_}.json").unlink(missing_ok=True)

    def read(self, kind: type[T]) -> list[T]:
        """Every record; a file that cannot be read as one is left out."""
        found: list[T] = []
        for path in sorted(self._directory.glob("*.json")):
            try:
                found.append(from_plain(kind, orjson.loads(path.read_bytes())))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return found


def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
