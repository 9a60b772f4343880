"""`downwardAPI` volumes (https://kubernetes.io/docs/concepts/storage/volumes/#downwardapi)."""

from __future__ import annotations

from pathlib import Path

from pinnace.kubelet.volumes.context import VolumeContext
from pinnace.kubelet.volumes.files import place
from pinnace.kubelet.volumes.payload import downward_files, mode_of
from pinnace.machinery.meta import Obj


async def set_up(context: VolumeContext, volume: Obj) -> Path:
    source = volume["downwardAPI"]
    payload = downward_files(source.get("items") or [], context.facts, mode_of(source))
    return place(context, "downward-api", volume["name"], payload, in_memory=True)
