"""CRI's ImageService over the image store: runtime.v1 messages in and out, work in threads.

https://github.com/kubernetes/cri-api specifies the service; behaviour that it leaves open is containerd's.
"""

from __future__ import annotations

import asyncio
import time

from pinnace.cri.api import AuthConfig, CriError, FilesystemUsage, Image, ImageSpec
from pinnace.cri.engine.images.pull import PullError
from pinnace.cri.engine.images.reference import InvalidReferenceError
from pinnace.cri.engine.images.store import ImageRecord, ImageStore
from pinnace.wire.tasks import end_tasks


def to_image(record: ImageRecord) -> Image:
    """A record as CRI shows it; of `user:group` only the user counts."""
    user = record.config.user.partition(":")[0]
    numeric = user.isdecimal()
    return Image(
        id=record.id,
        repo_tags=list(record.repo_tags),
        repo_digests=list(record.repo_digests),
        size=record.size,
        uid=int(user) if numeric else None,
        username="" if numeric else user,
    )


class Images:
    """`ImageService`; several pulls of one reference at a time become one."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._pulls: dict[tuple[str, str], asyncio.Task[ImageRecord]] = {}

    async def list_images(self) -> list[Image]:
        return [to_image(record) for record in self._store.list()]

    async def image_status(self, image: ImageSpec) -> Image | None:
        record = self._resolve(image.image)
        return to_image(record) if record else None

    async def pull_image(self, image: ImageSpec, auth: AuthConfig | None = None) -> str:
        key = (image.image, repr(auth))
        task = self._pulls.get(key)
        if task is None:
            task = asyncio.create_task(self._store.pull(image.image, auth))
            self._pulls[key] = task
            task.add_done_callback(lambda _: self._pulls.pop(key, None))
        try:
            return (await asyncio.shield(task)).id
        except InvalidReferenceError as error:
            raise CriError("UNKNOWN", f'failed to parse image reference "{image.image}": {error.why}') from error
        except PullError as error:
            raise CriError(error.code, str(error)) from error

    def _resolve(self, name: str) -> ImageRecord | None:
        if not name:
            raise CriError("UNKNOWN", 'can not resolve "" locally: ambiguous digest string')
        return self._store.resolve(name)

    async def remove_image(self, image: ImageSpec) -> None:
        """Remove the image with all its names; nothing where it is not here."""
        record = self._resolve(image.image)
        if record is not None:
            await asyncio.to_thread(self._store.remove, record.id)

    async def image_fs_info(self) -> list[FilesystemUsage]:
        used, inodes = await asyncio.to_thread(self._store.usage)
        return [
            FilesystemUsage(
                timestamp=time.time_ns(), mountpoint=str(self._store.root), used_bytes=used, inodes_used=inodes
            )
        ]

    async def close(self) -> None:
        """End the pulls that are under way."""
        await end_tasks(self._pulls.values())
