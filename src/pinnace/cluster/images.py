"""The images of a profile: load, pull, list, remove, tag.

The engine's image store is safe between processes, so these work on it directly, whether the cluster runs or not. Other
runtimes are asked; where the cluster does not run, its containerd is started for that.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pinnace.cluster.preflight import require_root
from pinnace.cluster.profile import CONTAINERD, ENGINE, Profile
from pinnace.cluster.reasons import IMAGE_LOAD, IMAGE_NOT_FOUND, IMAGE_PULL, USAGE, ClusterError

if TYPE_CHECKING:
    from pinnace.cri.api import Image
    from pinnace.cri.engine.images.store import ImageRecord, ImageStore


class Images(Protocol):
    """What a container runtime has. Calls raise ClusterError."""

    def load(self, archive: Path) -> list[str]: ...

    def pull(self, reference: str) -> str: ...

    def list(self) -> Sequence[ImageRecord | Image]: ...

    def remove(self, reference: str) -> bool: ...

    def tag(self, source: str, name: str) -> bool: ...


def load(profile: Profile, source: str) -> list[str]:
    """Load a docker-archive or an OCI layout tar, `-` for standard input; the names (or ids) of what was loaded."""
    with _images(profile) as images, _archive(source) as path:
        if not path.exists():
            raise ClusterError(IMAGE_NOT_FOUND, f"{source}: no such file", "Load a file that docker save wrote")
        return images.load(path)


def pull(profile: Profile, reference: str) -> str:
    """Pull from a registry; the image's id."""
    with _images(profile) as images:
        return images.pull(reference)


def list_images(profile: Profile) -> list[ImageRecord | Image]:
    with _images(profile) as images:
        return sorted(images.list(), key=lambda image: (image.repo_tags or [image.id])[0])


def remove(profile: Profile, reference: str) -> None:
    with _images(profile) as images:
        if not images.remove(reference):
            raise ClusterError(IMAGE_NOT_FOUND, f'There is no image "{reference}"', "See: pinnace image ls")


def tag(profile: Profile, source: str, name: str) -> None:
    with _images(profile) as images:
        if not images.tag(source, name):
            raise ClusterError(IMAGE_NOT_FOUND, f'There is no image "{source}"', "See: pinnace image ls")


@contextmanager
def _images(profile: Profile) -> Iterator[Images]:
    require_root()
    config = profile.load()
    if config.container_runtime == ENGINE:
        from pinnace.cri.engine.images.store import ImageStore

        yield EngineImages(ImageStore(profile.image_root))
        return
    from pinnace.cluster import containerd
    from pinnace.cluster.runtime import endpoint
    from pinnace.cluster.socket_images import SocketImages

    with containerd.running(profile) if config.container_runtime == CONTAINERD else nullcontext():
        yield SocketImages(endpoint(profile, config))


class EngineImages:
    """What the engine's store has."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store

    def load(self, archive: Path) -> list[str]:
        from pinnace.cri.engine.images.content import ContentError

        try:
            return self._store.load_archive(archive)
        except (ContentError, OSError, EOFError) as error:
            raise ClusterError(
                IMAGE_LOAD, f"{archive} cannot be loaded: {error}", "Load a file that docker save wrote"
            ) from error

    def pull(self, reference: str) -> str:
        from pinnace.cri.engine.images.pull import PullError
        from pinnace.cri.engine.images.reference import InvalidReferenceError

        try:
            return asyncio.run(self._store.pull(reference)).id
        except InvalidReferenceError as error:
            raise ClusterError(USAGE, str(error)) from error
        except PullError as error:
            raise ClusterError(IMAGE_NOT_FOUND if error.not_found else IMAGE_PULL, str(error)) from error

    def list(self) -> Sequence[ImageRecord]:
        return self._store.list()

    def remove(self, reference: str) -> bool:
        return self._store.remove(reference)

    def tag(self, source: str, name: str) -> bool:
        from pinnace.cri.engine.images.reference import InvalidReferenceError

        try:
            self._store.tag(source, name)
        except KeyError:
            return False
        except InvalidReferenceError as error:
            raise ClusterError(USAGE, str(error)) from error
        return True


@contextmanager
def _archive(source: str) -> Iterator[Path]:
    """The file to load; standard input is kept in a temporary one, as archives are read back and forth."""
    if source != "-":
        yield Path(source)
        return
    with tempfile.NamedTemporaryFile(prefix="pinnace-image-") as file:
        while chunk := sys.stdin.buffer.read(1 << 20):
            file.write(chunk)
        file.flush()
        yield Path(file.name)
