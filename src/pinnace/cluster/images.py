"""The images of a profile: load, pull, list, remove, tag.

The engine's image store is safe between processes, so these work on it directly, whether the cluster runs or not.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pinnace.cluster.preflight import require_root
from pinnace.cluster.profile import Profile
from pinnace.cluster.reasons import IMAGE_LOAD, IMAGE_NOT_FOUND, IMAGE_PULL, USAGE, ClusterError

if TYPE_CHECKING:
    from pinnace.cri.engine.images.store import ImageRecord, ImageStore


def load(profile: Profile, source: str) -> list[str]:
    """Load a docker-archive or an OCI layout tar, `-` for standard input; the names (or ids) of what was loaded."""
    store = _store(profile)
    from pinnace.cri.engine.images.content import ContentError

    with _archive(source) as path:
        if not path.exists():
            raise ClusterError(IMAGE_NOT_FOUND, f"{source}: no such file", "Load a file that docker save wrote")
        try:
            return store.load_archive(path)
        except (ContentError, OSError, EOFError) as error:
            raise ClusterError(
                IMAGE_LOAD, f"{source} cannot be loaded: {error}", "Load a file that docker save wrote"
            ) from error


def pull(profile: Profile, reference: str) -> str:
    """Pull from a registry; the image's id."""
    store = _store(profile)
    from pinnace.cri.engine.images.pull import PullError
    from pinnace.cri.engine.images.reference import InvalidReferenceError

    try:
        return asyncio.run(store.pull(reference)).id
    except InvalidReferenceError as error:
        raise ClusterError(USAGE, str(error)) from error
    except PullError as error:
        raise ClusterError(IMAGE_NOT_FOUND if error.not_found else IMAGE_PULL, str(error)) from error


def list_images(profile: Profile) -> list[ImageRecord]:
    return sorted(_store(profile).list(), key=lambda image: (image.repo_tags or [image.id])[0])


def remove(profile: Profile, reference: str) -> None:
    if not _store(profile).remove(reference):
        raise ClusterError(IMAGE_NOT_FOUND, f'There is no image "{reference}"', "See: pinnace image ls")


def tag(profile: Profile, source: str, name: str) -> None:
    from pinnace.cri.engine.images.reference import InvalidReferenceError

    try:
        _store(profile).tag(source, name)
    except KeyError:
        raise ClusterError(IMAGE_NOT_FOUND, f'There is no image "{source}"', "See: pinnace image ls") from None
    except InvalidReferenceError as error:
        raise ClusterError(USAGE, str(error)) from error


def _store(profile: Profile) -> ImageStore:
    require_root()
    profile.load()
    from pinnace.cri.engine.images.store import ImageStore

    return ImageStore(profile.image_root)


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
