"""The writable layer of each container above its image's layers, and the overlay mount of both.

`containers/<id>/` holds `fs` (overlay's upper directory), `work`, and `layers.json`, by which the garbage collection
knows that the layers are in use. https://docs.kernel.org/filesystems/overlayfs.html specifies the mount.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from pinnace.cri.engine import overlay
from pinnace.cri.engine.images.locks import locked
from pinnace.cri.engine.images.shifted import Shift, copy
from pinnace.cri.engine.images.usage import Usage
from pinnace.cri.trees import discard, remove

if TYPE_CHECKING:
    from pinnace.cri.engine.images.store import ImageRecord

_VOLUMES = "volumes.json"  # the layers of images that are mounted as volumes
_COPIES = "layers"  # of the layers, for other users
_PAGE = 4096  # mount(2) takes no more bytes of options

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The parts of one container's root file system."""

    lower: list[Path]  # the topmost layer first, as overlayfs wants them; never empty
    upper: Path
    work: Path
    shifted: bool = False  # whether the files belong to the pod's users already

    def options(self) -> str:
        """The data of the overlay mount, whatever its length."""
        return _options([str(path) for path in self.lower], self.upper, self.work)

    def mount(self, target: Path, *, readonly: bool = False) -> None:
        """Mount the whole at `target` in the caller's mount namespace; OSError as mount(2)."""
        mount_overlay(self, target, readonly=readonly)


def _options(lower: list[str], upper: Path, work: Path) -> str:
    escaped = ":".join(path.replace("\\", "\\\\").replace(":", "\\:") for path in lower)
    return f"{overlay.option()}lowerdir={escaped},upperdir={upper},workdir={work}"


def mount_overlay(snapshot: Snapshot, target: Path, *, readonly: bool = False) -> None:
    options = snapshot.options()
    with ExitStack() as stack:
        if len(options) >= _PAGE:  # many layers: name them by descriptors, which is shorter
            names: list[str] = []
            for path in snapshot.lower:
                descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, descriptor)
                names.append(f"/proc/self/fd/{descriptor}")
            options = _options(names, snapshot.upper, snapshot.work)
        flags = 1 if readonly else 0  # MS_RDONLY
        if _libc.mount(b"overlay", os.fsencode(target), b"overlay", flags, options.encode()):
            number = ctypes.get_errno()
            raise OSError(number, f"mount overlay: {os.strerror(number)}", str(target))


class Snapshots:
    """Writable layers below `root/containers/`; `root` is the image store's directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._containers = root / "containers"
        self._usage = Usage()
        self._containers.mkdir(parents=True, exist_ok=True)
        self._empty = root / "empty"  # the lower layer of an image without layers
        self._empty.mkdir(exist_ok=True)

    @property
    def empty(self) -> Path:
        """A directory without anything, which is a layer too."""
        return self._empty

    def prepare(
        self, container_id: str, image: ImageRecord, volumes: Sequence[ImageRecord] = (), shift: Shift | None = None
    ) -> Snapshot:
        """Make the writable layer, empty; FileExistsError where the container has one.

        `volumes` are other images that the container mounts: their layers are kept as long as it is there. With `shift`
        the layers are copied for other users.
        """
        home = self._containers / container_id
        lower = list(reversed(image.layer_dirs)) or [self._empty]
        with locked(self._root / "lease.lock", shared=True):
            home.mkdir(mode=0o700)
            try:
                (home / "layers.json").write_bytes(orjson.dumps([path.name for path in lower]))
                mounted = [path for volume in volumes for path in volume.layer_dirs]
                if mounted:
                    (home / _VOLUMES).write_bytes(orjson.dumps([path.name for path in mounted]))
                for path in (*lower, *mounted):
                    if not path.is_dir():
                        raise FileNotFoundError(f"layer {path.name} of image {image.id} is gone")
                if shift is not None:
                    lower = self._copies(home, lower, shift)
                upper, work = home / "fs", home / "work"
                upper.mkdir()
                work.mkdir(mode=0o700)
                top = lower[0].stat()  # the merged root shows the attributes of the upper directory
                os.chown(upper, top.st_uid, top.st_gid)
                upper.chmod(stat.S_IMODE(top.st_mode))
            except BaseException:
                discard(home)
                raise
        return Snapshot(lower, upper, work, shift is not None)

    @staticmethod
    def _copies(home: Path, lower: Sequence[Path], shift: Shift) -> list[Path]:
        (home / _COPIES).mkdir()
        copies = [home / _COPIES / str(number) for number in range(len(lower))]
        for layer, copied in zip(lower, copies, strict=True):
            copy(layer, copied, shift)
        return copies

    def get(self, container_id: str) -> Snapshot | None:
        """What `prepare` returned, also after a restart."""
        home = self._containers / container_id
        names = _layer_names(home)
        if names is None:
            return None
        if (home / _COPIES).is_dir():
            lower = [home / _COPIES / str(number) for number in range(len(names))]
            return Snapshot(lower, home / "fs", home / "work", True)
        lower = [self._empty if name == self._empty.name else self._root / "layers" / name for name in names]
        return Snapshot(lower, home / "fs", home / "work")

    def remove(self, container_id: str) -> None:
        """Drop the writable layer, which must not be mounted any more; idempotent."""
        home = self._containers / container_id
        self._usage.forget(home / "fs")
        try:
            remove(home)
        except FileNotFoundError:
            return

    def usage(self, container_id: str) -> tuple[int, int]:
        """Bytes and inodes that the container has written."""
        return self._usage.of(self._containers / container_id / "fs")

    def list(self) -> list[str]:
        """Ids of the containers that have a writable layer."""
        return [entry.name for entry in self._containers.iterdir()]


def layers_in_use(root: Path) -> set[str]:
    """Names of the layer directories that some container's mount needs."""
    used: set[str] = set()
    containers = root / "containers"
    if containers.is_dir():
        for home in containers.iterdir():
            used.update(_layer_names(home) or ())
            used.update(_layer_names(home, _VOLUMES) or ())
    return used


def _layer_names(home: Path, file: str = "layers.json") -> list[str] | None:
    try:
        names: list[str] = orjson.loads((home / file).read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return names
