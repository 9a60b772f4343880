"""Files of variables that init containers write into a volume, for `env[].valueFrom.fileKeyRef`: pure but for reading.

A variable a line, `NAME='value'`, the value taken as it stands and over several lines if need be; blank lines and those
that begin with `#` do not count (KEP-3721).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from pinnace.kubelet.containers.env import ConfigError
from pinnace.kubelet.volumes.subpath import open_below
from pinnace.machinery.meta import Obj

_MALFORMED = "couldn't parse env file"
MAX_FILE = 64 * 1024  # bytes
_MAX_KEY, _MAX_VALUE = 128, 32 * 1024


def variable(reference: Obj, volumes: Mapping[str, Path]) -> str | None:
    """The value that a `fileKeyRef` means; None where it is missing and optional. Raises ConfigError."""
    volume = volumes.get(reference["volumeName"])
    if volume is None:
        raise ConfigError(f'cannot find the volume "{reference["volumeName"]}" referenced by FileKeyRef')
    try:
        text = _read(volume, reference["path"])
    except FileNotFoundError:
        if reference.get("optional"):
            return None
        raise ConfigError(_MALFORMED) from None
    value = parse(text).get(reference["key"])
    if value is None and not reference.get("optional"):
        where = str(volume / reference["path"])
        raise ConfigError(f'environment variable key "{reference["key"]}" not found in file "{where}"')
    return value


def _read(volume: Path, path: str) -> str:
    """The file's text, of a file that is in the volume: links out of it lead nowhere."""
    if not (volume / path).exists():
        raise FileNotFoundError(path)
    opened = open_below(volume, path)
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise ConfigError(_MALFORMED)  # opening a pipe would wait for somebody who writes to it
        # What was opened is only a name for the file: it is opened again for reading, which no link can divert.
        with open(f"/proc/self/fd/{opened}", "rb") as file:  # noqa: PTH123
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(_MALFORMED) from error
    finally:
        os.close(opened)
    if len(data) > MAX_FILE:
        raise ConfigError(_MALFORMED)
    return data.decode(errors="replace")


def parse(text: str) -> dict[str, str]:
    """Every variable; of one that is set twice the last value. Raises ConfigError."""
    found: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, rest = line.lstrip().partition("=")
        if not equals or not rest.startswith("'") or not name or name != name.strip() or len(name) > _MAX_KEY:
            raise ConfigError(_MALFORMED)
        value = rest[1:]
        while "'" not in value:
            following = next(lines, None)
            if following is None:
                raise ConfigError(_MALFORMED)
            value += f"\n{following}"
        value, _, after = value.partition("'")
        if after.strip() and not after.lstrip().startswith("#"):
            raise ConfigError(_MALFORMED)
        if len(value) > _MAX_VALUE:
            raise ConfigError(_MALFORMED)
        found[name] = value
    return found
