"""The files of ConfigMap, Secret, downward API and token volumes, worked out from objects: pure.

`items` choose and rename members, `defaultMode` and `mode` give permissions, `optional` forgives what is missing
(https://kubernetes.io/docs/concepts/storage/volumes/, https://kubernetes.io/docs/concepts/storage/projected-volumes/).
"""

from __future__ import annotations

from typing import Any

from pinnace.kubelet.containers.env import ConfigError, PodFacts, data_of
from pinnace.kubelet.volumes.atomic_writer import File
from pinnace.kubelet.volumes.context import VolumeError
from pinnace.machinery.meta import Obj

DEFAULT_MODE = 0o644


def mode_of(source: Obj) -> int:
    mode = source.get("defaultMode")
    return DEFAULT_MODE if mode is None else int(mode)


def safe_path(path: str) -> str:
    """A path of a payload; raises VolumeError for one that would leave the volume."""
    if path.startswith("/") or ".." in path.split("/"):
        raise VolumeError(f"invalid path: must be relative and must not contain '..': {path}")
    return path


def object_files(obj: Obj | None, kind: str, source: Obj, default_mode: int) -> dict[str, File]:
    """The files of a ConfigMap or Secret; `obj` is None for one that is missing and optional."""
    members = data_of(obj, kind) if obj is not None else {}
    items = source.get("items") or []
    if not items:
        return {name: File(data, default_mode) for name, data in members.items()}
    files = {}
    for item in items:
        data = members.get(item["key"])
        if data is None:
            if source.get("optional"):
                continue
            what = (
                "configmap references non-existent config" if kind == "ConfigMap" else "references non-existent secret"
            )
            raise VolumeError(f"{what} key: {item['key']}")
        files[safe_path(item["path"])] = File(data, _item_mode(item, default_mode))
    return files


def _item_mode(item: Obj, default_mode: int) -> int:
    mode: Any = item.get("mode")
    return default_mode if mode is None else int(mode)


def downward_files(items: list[Obj], facts: PodFacts, default_mode: int) -> dict[str, File]:
    """The files of the downward API."""
    files = {}
    for item in items:
        try:
            if item.get("fieldRef"):
                text = facts.field(item["fieldRef"]["fieldPath"])
            else:
                text = facts.resource(item["resourceFieldRef"], item["resourceFieldRef"].get("containerName") or "")
        except ConfigError as error:
            raise VolumeError(str(error)) from error
        files[safe_path(item["path"])] = File(text.encode(), _item_mode(item, default_mode))
    return files


def token_owner(pod: Obj) -> int | None:
    """The user all containers run as, who alone may then read a token; None where they differ."""
    shared = (pod["spec"].get("securityContext") or {}).get("runAsUser")
    users = set()
    for kind in ("initContainers", "containers"):
        for container in pod["spec"].get(kind) or ():
            own = (container.get("securityContext") or {}).get("runAsUser")
            users.add(shared if own is None else own)
    return users.pop() if len(users) == 1 else None


def credential_file(pod: Obj, data: bytes, default_mode: int, owner: int | None = None) -> File:
    """A credential, readable by the pod's user or group alone where there is one; `owner` is whose it shall be."""
    if owner is not None:
        return File(data, 0o600, owner)
    if (pod["spec"].get("securityContext") or {}).get("fsGroup") is not None:
        return File(data, 0o600)
    owner = token_owner(pod)
    if owner is not None:
        return File(data, 0o600, owner)
    return File(data, default_mode)
