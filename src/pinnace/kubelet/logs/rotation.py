"""Rotates the logs of containers that run once they are large; the runtime is asked to write on to a new file.

Specified by https://kubernetes.io/docs/concepts/cluster-administration/logging/#log-rotation.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from pinnace.cri.api import ContainerState, CriError
from pinnace.kubelet.context import Node
from pinnace.kubelet.logs import files
from pinnace.machinery.meta import utc_now

_log = structlog.get_logger()


async def keep_rotated(node: Node) -> None:
    """Look at every log again and again until cancelled."""
    while True:
        await asyncio.sleep(node.options.log_check_period)
        for runtime in list(node.cache.pods.values()):
            for status in runtime.containers:
                if status.state is ContainerState.RUNNING and status.log_path:
                    await _rotate(node, status.id, Path(status.log_path))


async def _rotate(node: Node, container_id: str, path: Path) -> None:
    if not files.needs_rotation(path, node.options.container_log_max_size):
        return
    try:
        moved = await asyncio.to_thread(files.rotate, path, utc_now(), node.options.container_log_max_files)
        try:
            await node.runtime.reopen_container_log(container_id)
        except CriError:
            moved.rename(path)  # the runtime still writes there
            raise
    except (CriError, OSError) as error:
        _log.warning("cannot rotate log", path=str(path), error=str(error))
