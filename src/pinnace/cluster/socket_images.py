"""The images of a container runtime behind a socket, as `pinnace image` works on them.

CRI knows no archives and no tags: a containerd is also told by its own client, `ctr`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from pinnace.cluster import containerd
from pinnace.cluster.reasons import IMAGE_LOAD, IMAGE_NOT_FOUND, IMAGE_PULL, RUNTIME_ENABLE, USAGE, ClusterError
from pinnace.cri.api import CriError, Image, ImageSpec
from pinnace.cri.engine.images.reference import InvalidReferenceError, is_image_id, parse
from pinnace.cri.runtime import OpenRuntime, open_remote

T = TypeVar("T")

_LOADED = re.compile(r"^(?:unpacking )?(\S+)\s+(?:\(sha256:|saved)", re.MULTILINE)  # what `ctr images import` says
_SEEN_TIMEOUT = 10.0  # seconds until the CRI knows what was loaded


class SocketImages:
    """What is at an endpoint. Calls raise ClusterError."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def load(self, archive: Path) -> list[str]:
        """A docker-archive or an OCI layout tar; the names of what was loaded."""
        try:
            names = _LOADED.findall(self._ctr("images", "import", str(archive)))
        except containerd.CtrError as error:
            why = f"{archive} cannot be loaded: {error}"
            raise ClusterError(IMAGE_LOAD, why, "Load a file that docker save wrote") from error
        self._wait(lambda: all(map(self._find, names)))
        return names

    def pull(self, reference: str) -> str:
        """From a registry; the image's id."""
        try:
            return self._ask(lambda opened: opened.images.pull_image(ImageSpec(image=reference)))
        except CriError as error:
            raise ClusterError(IMAGE_NOT_FOUND if error.code == "NOT_FOUND" else IMAGE_PULL, error.message) from error

    def list(self) -> list[Image]:
        return self._answer(lambda opened: opened.images.list_images())

    def remove(self, reference: str) -> bool:
        """Forget one name, the image with its last tag; by id, the image with all its names. False where unknown."""
        found = self._find(reference)
        if found is None:
            return False
        names = references_of(found, reference)
        if names and self._kind() == "containerd":  # CRI would remove all the others, too
            self._ctr("images", "rm", *names)
            self._wait(lambda: self._find(names[0]) is None)
        else:
            self._answer(lambda opened: opened.images.remove_image(ImageSpec(image=reference)))
        return True

    def tag(self, source: str, name: str) -> bool:
        """Another name for an image; False where there is none."""
        found = self._find(source)
        if found is None:
            return False
        try:
            self._ctr("images", "tag", "--force", (found.repo_tags or [found.id])[0], _in_full(name))
        except containerd.CtrError as error:
            raise ClusterError(USAGE, str(error)) from error
        return True

    def _find(self, reference: str) -> Image | None:
        return self._answer(lambda opened: opened.images.image_status(ImageSpec(image=reference)))

    def _wait(self, seen: Callable[[], bool]) -> None:
        """The CRI hears by an event of what was done to a containerd, and tells nobody."""
        deadline = time.monotonic() + _SEEN_TIMEOUT
        while not seen() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _kind(self) -> str:
        return self._answer(lambda opened: opened.runtime.version()).runtime_name

    def _ctr(self, *words: str) -> str:
        kind = self._kind()
        if kind != "containerd":
            raise ClusterError(
                USAGE, f"{kind} cannot be given images that way", "Use its own tools, or pull from a registry"
            )
        return containerd.ctr(Path(self._endpoint.removeprefix("unix://")), *words)

    def _answer(self, question: Callable[[OpenRuntime], Awaitable[T]]) -> T:
        try:
            return self._ask(question)
        except CriError as error:
            raise ClusterError(RUNTIME_ENABLE, error.message, "See: pinnace status") from error

    def _ask(self, question: Callable[[OpenRuntime], Awaitable[T]]) -> T:
        async def ask() -> T:
            opened = open_remote(self._endpoint)
            try:
                return await question(opened)
            finally:
                await opened.close()

        return asyncio.run(ask())


def references_of(image: Image, name: str) -> list[str]:
    """What goes with one of several names of an image: it, and the digests that only it is from; empty for another."""
    full = name if is_image_id(name) else _in_full(name)
    others = [tag for tag in image.repo_tags if tag != full]
    if full not in image.repo_tags or not others:
        return []
    repository = full.rpartition(":")[0]
    if any(tag.rpartition(":")[0] == repository for tag in others):
        return [full]
    return [full, *(digest for digest in image.repo_digests if digest.startswith(f"{repository}@"))]


def _in_full(name: str) -> str:
    """As containerd's client wants names: `docker.io/library/busybox:latest` of `busybox`."""
    try:
        return str(parse(name))
    except InvalidReferenceError as error:
        raise ClusterError(USAGE, str(error)) from error
