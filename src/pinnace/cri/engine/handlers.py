"""Runtime handlers: which program runs the containers of a pod, by the name that its RuntimeClass gives.

The default one, also known as `runc` because every runtime has one of that name, is the built-in launcher or the OCI
runtime in its place; `pinnace` is always the launcher. What a program can do, it says itself (`runc features`).
https://kubernetes.io/docs/concepts/containers/runtime-class/ and the runtime-spec's features.md specify them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Any

import orjson

from pinnace.cri.api import CriError, RuntimeHandler
from pinnace.cri.engine.users import has_idmapped_mounts

_ANSWER_SECONDS = 10.0


class Handlers:
    """The handlers of one engine; a program is the path of an OCI runtime, or empty for the built-in launcher."""

    def __init__(self, default: str = "", others: Mapping[str, str] | None = None) -> None:
        self._default = default
        self._programs = {"runc": default, "pinnace": "", **(others or {})}
        self._told: dict[str, dict[str, Any]] = {}

    def program(self, handler: str) -> str:
        """Which program a handler is. CriError in containerd's words."""
        if not handler:
            return self._default
        if handler not in self._programs:
            raise CriError("UNKNOWN", f'failed to get sandbox runtime: no runtime for "{handler}" is configured')
        return self._programs[handler]

    def features(self) -> list[RuntimeHandler]:
        """What every handler can do, the default first; asks the programs, once each."""
        return [self._features(name) for name in ("", *sorted(self._programs))]

    def _features(self, name: str) -> RuntimeHandler:
        program = self.program(name)
        if not program:
            return RuntimeHandler(name=name, recursive_read_only_mounts=True, user_namespaces=has_idmapped_mounts())
        told = self._told.setdefault(program, _ask(program))
        return RuntimeHandler(name=name, recursive_read_only_mounts="rro" in (told.get("mountOptions") or ()))


def _ask(program: str) -> dict[str, Any]:
    """What `PROGRAM features` prints; nothing for a program that has no such command."""
    try:
        answer = subprocess.run([program, "features"], capture_output=True, timeout=_ANSWER_SECONDS, check=True).stdout
        document = orjson.loads(answer)
    except (OSError, subprocess.SubprocessError, orjson.JSONDecodeError):
        return {}
    return document if isinstance(document, dict) else {}
