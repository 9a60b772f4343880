"""The room of the volumes that claims stand for, as `/metrics` and `/stats/summary` tell it.

Asked of the file system that each is on, in a thread, for a volume that hangs must not stop the kubelet.
https://kubernetes.io/docs/reference/instrumentation/metrics/ names the families.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pinnace.kubelet.eviction.observations import FileSystem, file_system
from pinnace.machinery.meta import Obj, name_of, namespace_of
from pinnace.machinery.metrics import Collected, Family

Claim = tuple[str, str]
"""Namespace and name."""

_FAMILIES = (
    ("capacity_bytes", "Capacity in bytes of the volume"),
    ("available_bytes", "Number of available bytes in the volume"),
    ("used_bytes", "Number of used bytes in the volume"),
    ("inodes", "Maximum number of inodes in the volume"),
    ("inodes_free", "Number of free inodes in the volume"),
    ("inodes_used", "Number of used inodes in the volume"),
)


def claims_of(pod: Obj) -> dict[str, Claim]:
    """The claims behind a pod's volumes, by the volumes' names."""
    found = {}
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            found[volume["name"]] = (namespace_of(pod), str(volume["persistentVolumeClaim"]["claimName"]))
        elif "ephemeral" in volume:
            found[volume["name"]] = (namespace_of(pod), f"{name_of(pod)}-{volume['name']}")
    return found


def measure(mounted: Iterable[tuple[Obj, Mapping[str, Path]]]) -> dict[Claim, FileSystem]:
    """The room of every claim's volume, of pods and where their volumes are; blocks where a volume hangs."""
    found: dict[Claim, FileSystem] = {}
    for pod, volumes in mounted:
        for name, claim in claims_of(pod).items():
            if claim in found or name not in volumes or not volumes[name].is_dir():
                continue
            try:
                found[claim] = file_system(volumes[name])
            except OSError:
                continue
    return found


def families(measured: Mapping[Claim, FileSystem]) -> list[Family]:
    """`kubelet_volume_stats_…`."""
    tables: list[list[tuple[Claim, float]]] = [[] for _ in _FAMILIES]
    for claim, on in measured.items():
        values = (
            on.capacity,
            on.available,
            on.used,
            on.inodes,
            on.inodes_free,
            on.inodes - on.inodes_free,
        )
        for table, value in zip(tables, values, strict=True):
            table.append((claim, value))
    return [
        _family(f"kubelet_volume_stats_{name}", about, table)
        for (name, about), table in zip(_FAMILIES, tables, strict=True)
    ]


def _family(name: str, about: str, table: list[tuple[Claim, float]]) -> Family:
    return Collected("gauge", name, about, ("namespace", "persistentvolumeclaim"), lambda: table)
