"""Whether what a container mounts can reach the machine: only from within a shared mount; pure.

https://docs.kernel.org/filesystems/sharedsubtree.html says how mounts propagate; the errors are containerd's.
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.cri.api import Mount, MountPropagation


def problem(mounts: Iterable[Mount], mountinfo: str) -> str:
    """Why a mount cannot be as shared as it is asked to be; empty where all can."""
    table = [line.split(" ") for line in mountinfo.split("\n") if line]
    for mount in mounts:
        if mount.propagation is not MountPropagation.BIDIRECTIONAL:
            continue
        above = [row for row in table if _is_below(mount.host_path, _decoded(row[4]))]
        if not above:
            continue
        nearest = max(above, key=lambda row: len(_decoded(row[4])))  # of equal ones the last, which covers the others
        if not any(option.startswith("shared:") for option in nearest[6 : nearest.index("-")]):
            point = _decoded(nearest[4])
            return f'path "{mount.host_path}" is mounted on "{point}" but it is not a shared mount'
    return ""


def _is_below(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _decoded(text: str) -> str:
    return text.encode().decode("unicode_escape") if "\\" in text else text
