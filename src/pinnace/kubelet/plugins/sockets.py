"""Plugins that leave a socket in `plugins_registry`: they are asked what they are, and told whether that will do.

Drivers of dynamic resources register so, and storage drivers do. A socket that goes takes its plugin along. gRPC is
imported when there is a socket (https://github.com/kubernetes/kubelet, pluginregistration v1).
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import structlog

from pinnace.cri.api import CriError
from pinnace.machinery.errors import ApiError
from pinnace.wire.inotify import DIRECTORY_CHANGES, Watcher

_log = structlog.get_logger()

_RESCAN = 60.0  # seconds; changes are told at once
_AGAIN = 2.0  # seconds until a plugin that did not answer is asked again
_ANSWER = 10.0  # seconds that a plugin has to answer


class Handler(Protocol):
    """What becomes of the plugins of one type."""

    def problem(self, versions: list[str]) -> str:
        """Why the plugin cannot be used; empty where it can."""

    async def registered(self, name: str, endpoint: str, versions: list[str]) -> None:
        """Take the plugin whose service is at the socket `endpoint`. Raises CriError, ApiError, ValueError: why not."""

    async def gone(self, name: str) -> None:
        """Let it go. Raises CriError, ApiError: to be tried again."""


class PluginSockets:
    """The sockets of one directory; `handlers` by plugin type (`DRAPlugin`, `CSIPlugin`)."""

    def __init__(self, directory: Path, handlers: Mapping[str, Handler]) -> None:
        self._directory = directory
        self._handlers = handlers
        self._known: dict[tuple[Path, int], tuple[str, str]] = {}  # socket and inode -> type and name

    async def run(self) -> None:
        """Follow the directory until cancelled."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        watcher = Watcher()
        try:
            watcher.add(self._directory, DIRECTORY_CHANGES)
            while True:
                complete = await self._scan()
                await watcher.wait(_RESCAN if complete else _AGAIN)
        finally:
            watcher.close()

    async def _scan(self) -> bool:
        """Take in what came and went; False where some plugin is to be asked again soon."""
        present = _sockets(self._directory)
        complete = True
        for key in [key for key in self._known if key not in present]:
            complete &= await self._let_go(key)
        for key in sorted(present - set(self._known)):
            try:
                kind, name, refused = await self._ask(key[0])
                if refused:
                    complete = False
                else:
                    self._known[key] = kind, name
            except ImportError:
                _log.warning('gRPC is not installed: pip install "pinnace[cri]"', socket=str(key[0]))
                self._known[key] = ("", "")
            except CriError as error:
                _log.info("a plugin does not answer", socket=str(key[0]), error=str(error))
                complete = False
        return complete

    async def _let_go(self, key: tuple[Path, int]) -> bool:
        kind, name = self._known[key]
        try:
            if kind in self._handlers:
                await self._handlers[kind].gone(name)
        except (CriError, ApiError) as error:
            _log.warning("cannot let a plugin go", type=kind, name=name, error=str(error))
            return False
        del self._known[key]
        return True

    async def _ask(self, socket: Path) -> tuple[str, str, bool]:
        """The plugin's type, empty for one that is of no use, its name, and whether it is to be asked again."""
        from pinnace.kubelet.plugins.messages import REGISTRATION
        from pinnace.kubelet.plugins.messages import REGISTRATION_MESSAGES as MESSAGES
        from pinnace.kubelet.plugins.service import PluginService

        async with PluginService(socket, REGISTRATION) as plugin:
            found = await plugin.call("GetInfo", MESSAGES["InfoRequest"](), MESSAGES["PluginInfo"], _ANSWER)
            handler = self._handlers.get(found.type)
            versions = list(found.supported_versions)
            error, refused = f"no handler registered for plugin type: {found.type} at socket {socket}", False
            if handler is not None:
                error = handler.problem(versions)
                if not error:
                    error = await _offer(handler, found.name, found.endpoint or str(socket), versions)
                    refused = bool(error)
            status = MESSAGES["RegistrationStatus"](plugin_registered=not error, error=error)
            answer = MESSAGES["RegistrationStatusResponse"]
            await plugin.call("NotifyRegistrationStatus", status, answer, _ANSWER)
        if error:
            _log.warning("a plugin was not taken", type=found.type, name=found.name, error=error)
            return "", found.name, refused
        _log.info("a plugin registered", type=found.type, name=found.name)
        return found.type, found.name, False


def _sockets(directory: Path) -> set[tuple[Path, int]]:
    """Those that are there, with their inodes: a plugin that starts anew makes another."""
    found = set()
    for path in directory.glob("*.sock"):
        with contextlib.suppress(OSError):  # it has just gone
            about = path.stat()
            if stat.S_ISSOCK(about.st_mode):
                found.add((path, about.st_ino))
    return found


async def _offer(handler: Handler, name: str, endpoint: str, versions: list[str]) -> str:
    """Why the handler did not take the plugin, empty when it did."""
    try:
        await handler.registered(name, endpoint, versions)
    except (CriError, ApiError, ValueError) as error:
        return f"RegisterPlugin error -- plugin registration failed with err: {error}"
    return ""
