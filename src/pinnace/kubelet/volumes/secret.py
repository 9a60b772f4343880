"""`secret` volumes, kept in memory (https://kubernetes.io/docs/concepts/storage/volumes/#secret)."""

from __future__ import annotations

from pathlib import Path

from pinnace.kubelet.volumes.context import VolumeContext
from pinnace.kubelet.volumes.files import fetch_optional, place
from pinnace.kubelet.volumes.payload import mode_of, object_files
from pinnace.machinery.meta import Obj, namespace_of


async def set_up(context: VolumeContext, volume: Obj) -> Path:
    source = volume["secret"]
    found = await fetch_optional(context.fetch, "Secret", namespace_of(context.pod), source, source["secretName"])
    payload = object_files(found, "Secret", source, mode_of(source))
    return place(context, "secret", volume["name"], payload, in_memory=True)
