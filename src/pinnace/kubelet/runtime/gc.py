"""Takes away what nobody needs any more: old instances of containers, old sandboxes, directories of pods long gone.

Which ones is a pure question (`dead_containers`, `dead_sandboxes`, `stale_directories`); the rest asks the runtime to
remove them. Specified by https://kubernetes.io/docs/concepts/architecture/garbage-collection/#containers-images.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterable
from pathlib import Path

import structlog

from pinnace.cri.api import ContainerState, ContainerStatus, CriError, PodSandboxState
from pinnace.kubelet.context import Node
from pinnace.kubelet.runtime.status import PodRuntimeStatus, container_name
from pinnace.kubelet.statistics import volume_measures
from pinnace.kubelet.sync.killing import remove_pod
from pinnace.kubelet.volumes.context import VolumeError
from pinnace.kubelet.volumes.tear_down import remove_volumes

_log = structlog.get_logger()


def dead_containers(pod: PodRuntimeStatus, keep: int, created_before: int | None = None) -> list[ContainerStatus]:
    """Ended instances beyond the newest so many of each container; the newest of all is what the status shows.

    `keep` below zero keeps all; `created_before` is in nanoseconds since 1970.
    """
    if keep < 0:
        return []
    dead: list[ContainerStatus] = []
    for name in {container_name(status) for status in pod.containers}:
        instances = pod.instances(name)
        ended = [one for one in instances if one.state in (ContainerState.EXITED, ContainerState.CREATED)]
        if instances and instances[0] in ended:
            ended = ended[1:]
        dead += [one for one in ended[keep:] if created_before is None or one.created_at < created_before]
    return dead


def beyond_all(pods: Iterable[PodRuntimeStatus], most: int) -> list[ContainerStatus]:
    """The oldest ended instances where the node has more than `most` of them in all; below zero any number may stay.

    As long as that suffices, each container keeps its newest.
    """
    if most < 0:
        return []
    ended = [
        (place, one)
        for pod in pods
        for name in {container_name(status) for status in pod.containers}
        for place, one in enumerate(pod.instances(name))
        if one.state is ContainerState.EXITED
    ]
    surplus = len(ended) - most
    if surplus <= 0:
        return []
    ended.sort(key=lambda placed: (placed[0] == 0, placed[1].created_at))
    return [one for _, one in ended[:surplus]]


def dead_sandboxes(pod: PodRuntimeStatus, removed: Collection[str]) -> list[str]:
    """Ended sandboxes besides the newest that hold no container but those being removed."""
    held = {box for container, box in pod.sandbox_of.items() if container not in removed}
    return [box.id for box in pod.sandboxes[1:] if box.state is PodSandboxState.NOTREADY and box.id not in held]


async def collect_pod(node: Node, uid: str) -> None:
    """Remove a pod's old containers, their logs, and sandboxes."""
    pod = node.cache.get(uid)
    options = node.options
    created_before = time.time_ns() - int(options.minimum_container_ttl * 1e9)
    dead = dead_containers(pod, options.max_dead_containers_per_container, created_before)
    boxes = dead_sandboxes(pod, {status.id for status in dead})
    try:
        for status in dead:
            await _remove(node, status)
        for box in boxes:
            await node.runtime.remove_pod_sandbox(box)
            node.cache.drop(box)
    except (CriError, OSError) as error:
        _log.warning("cannot remove old containers", uid=uid, error=str(error))


async def collect_beyond_all(node: Node) -> None:
    """Remove the oldest containers where the node has more that ended than it may keep."""
    for status in beyond_all(node.cache.pods.values(), node.options.max_dead_containers):
        try:
            await _remove(node, status)
        except (CriError, OSError) as error:
            _log.warning("cannot remove an old container", container=status.id, error=str(error))


async def _remove(node: Node, status: ContainerStatus) -> None:
    """Remove an ended container with its log and its message file."""
    await node.runtime.remove_container(status.id)
    node.cache.drop(status.id)
    node.messages.forget(status.id)
    if status.log_path:
        for path in Path(status.log_path).parent.glob(Path(status.log_path).name + "*"):
            path.unlink(missing_ok=True)
    _remove_message_file(status)


async def collect_ended(node: Node, running: Collection[str]) -> None:
    """Remove every container and sandbox of pods that have ended; `running` are the UIDs of the others."""
    for uid, pod in list(node.cache.pods.items()):
        if uid in running or pod.anything_alive():
            continue
        try:
            await remove_pod(node, uid)
        except (CriError, OSError) as error:
            _log.warning("cannot remove the containers of an ended pod", uid=uid, error=str(error))


def _remove_message_file(status: ContainerStatus) -> None:
    for mount in status.mounts:
        path = Path(mount.host_path)
        if path.parent.name == container_name(status) and path.parent.parent.name == "containers":
            path.unlink(missing_ok=True)


def stale_directories(pods_dir: Path, logs_dir: Path, wanted: Collection[str]) -> tuple[list[str], list[Path]]:
    """UIDs of pod directories, and log directories, of pods that are not wanted."""
    uids = [entry.name for entry in pods_dir.iterdir() if entry.name not in wanted] if pods_dir.is_dir() else []
    logs = []
    if logs_dir.is_dir():
        logs = [entry for entry in logs_dir.iterdir() if entry.name.rpartition("_")[2] not in wanted]
    return uids, logs


async def collect_directories(node: Node, wanted: Collection[str]) -> None:
    """Remove the directories of pods that neither the API nor the runtime has."""
    uids, logs = stale_directories(node.options.pods_dir, node.options.pod_logs_dir, wanted)
    left = 0
    for uid in uids:
        try:
            await remove_volumes(node.csi, node.disks, uid)
        except (OSError, VolumeError) as error:
            left += 1
            _log.warning("cannot remove pod directory", uid=uid, error=str(error))
    volume_measures.orphans_cleaned.set(len(uids) - left)
    volume_measures.orphans_left.set(left)
    for directory in logs:
        shutil.rmtree(directory, ignore_errors=True)
