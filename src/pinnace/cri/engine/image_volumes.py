"""Images that are mounted as volumes: which they are, their layers, and whether they have the directory asked for.

https://kubernetes.io/docs/tasks/configure-pod-container/image-volumes/ (KEP-4639). An image is looked into as its
layers are, without mounting it: what is asked for must be there before the container is made.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from pinnace.cri.api import CriError, Mount
from pinnace.cri.engine import overlay
from pinnace.cri.engine.images.store import ImageRecord, ImageStore

FAILED = "ImageVolumeMountFailed"
"""What an error of the CRI begins with that the kubelet shows as this reason."""


def images(mounts: Iterable[Mount], store: ImageStore) -> dict[str, ImageRecord]:
    """The images among the mounts, by the name they are asked for with. Raises CriError."""
    found: dict[str, ImageRecord] = {}
    for mount in mounts:
        if mount.image is None:
            continue
        name = mount.image.image
        record = store.resolve(name)
        if record is None:
            raise CriError("NOT_FOUND", f'{FAILED}: image "{name}": not found')
        if mount.image_sub_path and not has_directory(record.layer_dirs, mount.image_sub_path):
            raise CriError("UNKNOWN", f'{FAILED}: image "{name}" has no directory "{mount.image_sub_path}"')
        found[name] = record
    return found


def layers(mounts: Iterable[Mount], store: ImageStore, empty: Path) -> dict[str, list[str]]:
    """The layers of every image among the mounts, the topmost first; two at least, as overlayfs wants them."""
    return {
        name: [*(str(path) for path in reversed(record.layer_dirs)), str(empty)]
        for name, record in images(mounts, store).items()
    }


def has_directory(layer_dirs: Sequence[Path], path: str) -> bool:
    """Whether layers, base first, show a directory there; one behind a symbolic link does not count."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        return False
    for layer in reversed(layer_dirs):
        current = layer
        for part in parts:
            current = current / part
            try:
                mode = current.lstat().st_mode
            except OSError:
                break
            if not stat.S_ISDIR(mode):
                return False  # a whiteout, a file or a link hides what lower layers have
            if _is_opaque(current) and current != layer.joinpath(*parts):
                return layer.joinpath(*parts).is_dir()
        else:
            return True
    return False


def _is_opaque(directory: Path) -> bool:
    try:
        return os.getxattr(directory, overlay.opaque()) == b"y"
    except OSError:
        return False
