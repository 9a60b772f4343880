"""What a container says about its own end: the termination message file, or the tail of its log.

Limits are Kubernetes': 4096 bytes a container, 12288 a pod; from a log at most 80 lines or 2048 bytes
(https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pinnace.cri.api import ContainerState, ContainerStatus
from pinnace.kubelet.containers.runtime_config import DEFAULT_TERMINATION_PATH
from pinnace.kubelet.logs.files import tail_messages
from pinnace.kubelet.pods import ANNOTATION_TERMINATION_PATH, ANNOTATION_TERMINATION_POLICY

CONTAINER_LIMIT = 4096
POD_LIMIT = 12288
LOG_LIMIT = 2048
LOG_LINES = 80


class TerminationMessages:
    """Messages by container id, read once when the container has exited."""

    def __init__(self) -> None:
        self._read: dict[str, str] = {}

    def __call__(self, status: ContainerStatus) -> str:
        """The message of an exited container: the runtime's own, then what the container wrote."""
        if status.state is not ContainerState.EXITED:
            return status.message
        message = self._read.get(status.id)
        if message is None:
            message = self._read[status.id] = read_message(status)
        return message

    def forget(self, container_id: str) -> None:
        self._read.pop(container_id, None)


def read_message(status: ContainerStatus) -> str:
    """Read the message of one exited container from the node's files."""
    path = status.annotations.get(ANNOTATION_TERMINATION_PATH) or DEFAULT_TERMINATION_PATH
    written = ""
    for mount in status.mounts:
        if mount.container_path == path:
            written = _read_end(Path(mount.host_path), CONTAINER_LIMIT)
    policy = status.annotations.get(ANNOTATION_TERMINATION_POLICY)
    if not written and policy == "FallbackToLogsOnError" and status.exit_code != 0 and status.log_path:
        written = tail_messages(Path(status.log_path), LOG_LINES, LOG_LIMIT)
    if status.message and written:
        return f"{status.message}: {written}"
    return written or status.message


def _read_end(path: Path, limit: int) -> str:
    try:
        # A container may have named a pipe: to open that must not wait for somebody who writes to it.
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(opened, "rb") as file:  # noqa: PTH123  # a descriptor
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                return ""
            size = file.seek(0, 2)
            file.seek(max(0, size - limit))
            return file.read(limit).decode(errors="replace")
    except OSError:
        return ""


def share_limit(count: int) -> int:
    """How many bytes each of a pod's containers may say."""
    return min(CONTAINER_LIMIT, POD_LIMIT // max(1, count))
