"""Serves `kubectl logs`: finds the right container instance and streams its log, following it while it is written.

Messages for containers that have no log yet are Kubernetes' own, because people read them in their terminals.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from pinnace.cri.api import ContainerState, ContainerStatus
from pinnace.kubelet.logs.files import LineFilter, LogLines, LogOptions, tail_offset
from pinnace.kubelet.pods import find_container
from pinnace.kubelet.runtime.status import PodRuntimeStatus
from pinnace.machinery.errors import ApiError, bad_request
from pinnace.machinery.meta import Obj, name_of
from pinnace.wire.http import Writer
from pinnace.wire.inotify import IN_CREATE, IN_MODIFY, IN_MOVED_FROM, IN_MOVED_TO, Watcher
from pinnace.wire.tasks import end_tasks

Unlisten = Callable[[], None]

_SLOW_LOOK = 10.0  # seconds until a log is looked at although nothing was reported


def choose_instance(pod: Obj, name: str, runtime: PodRuntimeStatus, *, previous: bool) -> ContainerStatus:
    """The instance whose log is asked for. Raises ApiError 400 in Kubernetes' words."""
    if find_container(pod, name) is None:
        raise ApiError(404, "NotFound", f'container "{name}" not found in pod "{name_of(pod)}"')
    instances = [one for one in runtime.instances(name) if one.state is not ContainerState.CREATED]
    where = f'container "{name}" in pod "{name_of(pod)}"'
    if previous:
        if len(instances) > 1:
            return instances[1]
        if instances and instances[0].state is ContainerState.EXITED and _waiting(pod, name):
            return instances[0]
        raise bad_request(f"previous terminated {where} not found")
    if instances:
        return instances[0]
    waiting = _waiting(pod, name)
    if waiting is None:
        raise bad_request(f"{where} is not available")
    texts = {
        "ErrImagePull": "image can't be pulled",
        "ImagePullBackOff": "trying and failing to pull image",
    }
    if not waiting:
        raise bad_request(f"{where} is waiting to start - no logs yet")
    raise bad_request(f"{where} is waiting to start: {texts.get(waiting, waiting)}")


def _waiting(pod: Obj, name: str) -> str | None:
    """The waiting reason that the pod's status shows; None where it does not wait."""
    status = pod.get("status") or {}
    for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for one in status.get(kind) or ():
            if one["name"] == name:
                waiting = (one.get("state") or {}).get("waiting")
                return None if waiting is None else str(waiting.get("reason", ""))
    return ""


class LogStream:
    """Writes one log to one reader.

    `running` answers whether the container still runs; `listen` calls back when that may have changed.
    """

    def __init__(
        self,
        path: Path,
        options: LogOptions,
        running: Callable[[], bool],
        listen: Callable[[Callable[[], None]], Unlisten],
    ) -> None:
        self._path = path
        self._options = options
        self._running = running
        self._listen = listen
        self._chosen = LineFilter(options)
        self._gone = asyncio.Event()

    async def run(self, writer: Writer) -> None:
        """Write what is there and, when following, what comes, until the container has ended or the reader left."""
        writer.on_close(self._gone.set)
        watcher = Watcher() if self._options.follow else None
        unlisten = self._listen(watcher.changed.set) if watcher is not None else None
        try:
            if watcher is not None:
                watcher.add(self._path.parent, IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_MODIFY)
            await self._follow(writer, watcher)
        finally:
            if watcher is not None:
                watcher.close()
            if unlisten is not None:
                unlisten()

    async def _follow(self, writer: Writer, watcher: Watcher | None) -> None:
        tail = self._options.tail_lines
        file = self._path.open("rb", buffering=0)
        try:
            file.seek(0 if tail is None else tail_offset(self._path, tail))
            lines = LogLines(file)
            while True:
                ended = not self._running()
                if not await self._copy(lines, writer) or watcher is None:
                    return
                if self._replaced(file.fileno()):
                    file.close()
                    file = self._path.open("rb", buffering=0)
                    lines = LogLines(file)
                    continue
                if ended or writer.closed:
                    return
                if self._running():
                    await self._wait(watcher)
        finally:
            file.close()

    async def _copy(self, lines: LogLines, writer: Writer) -> bool:
        """Write the complete lines that are there; False when the reader has had enough."""
        while not (self._chosen.exhausted or writer.closed):
            found = lines.more()
            if not found:
                return True
            writer.write(self._chosen.render(found))
            await asyncio.sleep(0)  # others have their turn, however fast the reader is
            await writer.drain()
        return False

    def _replaced(self, descriptor: int) -> bool:
        """Whether the log was rotated: another file has its name."""
        try:
            return self._path.stat().st_ino != os.fstat(descriptor).st_ino
        except OSError:
            return False

    async def _wait(self, watcher: Watcher) -> None:
        """Until something was written, or the reader left."""
        gone = asyncio.ensure_future(self._gone.wait())
        changed = asyncio.ensure_future(watcher.wait(_SLOW_LOOK))
        try:
            await asyncio.wait((gone, changed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks((gone, changed))
