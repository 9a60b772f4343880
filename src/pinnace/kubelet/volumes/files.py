"""Puts a payload into a volume's directory: on disk, or on a tmpfs for what is secret."""

from __future__ import annotations

from pathlib import Path

from pinnace.kubelet.containers.env import Fetch
from pinnace.kubelet.go_words import os_error
from pinnace.kubelet.volumes.atomic_writer import Payload, write_payload
from pinnace.kubelet.volumes.context import VolumeContext, VolumeError
from pinnace.kubelet.volumes.mounts import is_mounted, mount_tmpfs
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, utc_now


async def fetch_optional(fetch: Fetch, kind: str, namespace: str, source: Obj, name: str) -> Obj | None:
    """The object; None for one that is missing and optional. Raises VolumeError in the API's words."""
    try:
        return await fetch(kind, namespace, name)
    except ApiError as error:
        if error.is_not_found and source.get("optional"):
            return None
        raise VolumeError(error.message) from error


def place(context: VolumeContext, plugin: str, name: str, payload: Payload, *, in_memory: bool) -> Path:
    """The volume's directory, holding exactly the payload."""
    directory = context.directory(plugin, name)
    try:
        if not directory.exists():
            directory.mkdir(parents=True)
            directory.chmod(0o777)
        if in_memory and not is_mounted(directory):
            mount_tmpfs(directory)
            directory.chmod(0o1777)
        write_payload(directory, payload, utc_now(), context.fs_group)
    except OSError as error:
        raise VolumeError(os_error(error)) from error
    return directory
