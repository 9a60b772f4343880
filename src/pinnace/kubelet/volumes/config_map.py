"""`configMap` volumes (https://kubernetes.io/docs/concepts/storage/volumes/#configmap)."""

from __future__ import annotations

from pathlib import Path

from pinnace.kubelet.volumes.context import VolumeContext
from pinnace.kubelet.volumes.files import fetch_optional, place
from pinnace.kubelet.volumes.payload import mode_of, object_files
from pinnace.machinery.meta import Obj, namespace_of


async def set_up(context: VolumeContext, volume: Obj) -> Path:
    source = volume["configMap"]
    found = await fetch_optional(context.fetch, "ConfigMap", namespace_of(context.pod), source, source["name"])
    payload = object_files(found, "ConfigMap", source, mode_of(source))
    return place(context, "configmap", volume["name"], payload, in_memory=False)
