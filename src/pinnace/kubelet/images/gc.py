"""Removes images that nobody uses: the longest unused first once the disk fills, and any that is unused for too long.

What goes is a pure question (`Images`, `bytes_to_free`); `ImageCollector` asks the runtime. Pinned images stay.
Specified by https://kubernetes.io/docs/concepts/architecture/garbage-collection/#containers-images.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from math import inf

import structlog

from pinnace.cri.api import CriError, Image, ImageService, ImageSpec
from pinnace.kubelet.eviction.observations import FileSystem
from pinnace.kubelet.statistics.measures import images_removed

_log = structlog.get_logger()

_NO_LIST = "cannot list images"
PERIOD = 300.0  # seconds between two collections

Tell = Callable[[str, str, str], None]
"""`(type, reason, message)`: an event about the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageGCPolicy:
    """Percentages of the images' file system; ages in seconds."""

    high_threshold_percent: int = 85
    low_threshold_percent: int = 80
    min_age: float = 120.0
    max_age: float = 0.0  # 0: an image may be unused for any time


@dataclass(slots=True)
class ImageRecord:
    """An image since it was first seen; times are seconds of one clock."""

    id: str
    size: int
    detected: float
    last_used: float = 0.0  # 0: not as long as anybody looked
    pinned: bool = False


class Images:
    """When images were used, from one look to the next; pure."""

    def __init__(self) -> None:
        self.records: dict[str, ImageRecord] = {}

    def observe(self, images: Iterable[Image], used: Collection[str], now: float) -> None:
        """Take in which images there are, and the ids of those that containers use now."""
        records: dict[str, ImageRecord] = {}
        for image in images:
            record = self.records.get(image.id) or ImageRecord(image.id, image.size, now)
            record.size, record.pinned = image.size, image.pinned
            if image.id in used:
                record.last_used = now
            records[image.id] = record
        self.records = records

    def _in_eviction_order(self) -> list[ImageRecord]:
        return sorted(
            (one for one in self.records.values() if not one.pinned), key=lambda one: (one.last_used, one.detected)
        )

    def unused(self, now: float, min_age: float) -> list[ImageRecord]:
        """Images that no container uses, the longest unused first, none that came in the last `min_age` seconds."""
        return [one for one in self._in_eviction_order() if one.last_used < now and now - one.detected >= min_age]

    def too_old(self, now: float, max_age: float) -> list[ImageRecord]:
        """Images that have been unused for longer than `max_age` seconds; 0: none are."""
        if not max_age:
            return []
        return [one for one in self._in_eviction_order() if now - max(one.last_used, one.detected) > max_age]


def bytes_to_free(capacity: int, available: int, policy: ImageGCPolicy) -> int:
    """How much must go for the file system to fall to the low threshold; 0 below the high one."""
    percent = 100 - min(available, capacity) * 100 // capacity
    if percent < policy.high_threshold_percent:
        return 0
    return max(0, capacity * (100 - policy.low_threshold_percent) // 100 - available)


def image_ids(images: Iterable[Image], references: Iterable[str]) -> set[str]:
    """The ids of images that references of any kind (id, digest, name) stand for."""
    by_name = {name: one.id for one in images for name in (one.id, *one.repo_tags, *one.repo_digests)}
    return {by_name[reference] for reference in references if reference in by_name}


class ImageCollector:
    """One node's images; `used` gives the references that containers were made from, `disk` their file system."""

    def __init__(
        self,
        images: ImageService,
        policy: ImageGCPolicy,
        used: Callable[[], Iterable[str]],
        disk: Callable[[], FileSystem | None],
        tell: Tell,
        clock: Callable[[], float] = time.time,
        forget: Callable[[Collection[str], float], None] | None = None,
    ) -> None:
        """`forget` is told which images are left, and when they were looked at."""
        self._forget = forget
        self._images = images
        self._policy = policy
        self._used = used
        self._disk = disk
        self._tell = tell
        self._clock = clock
        self._known = Images()
        self._failed = False

    async def run(self) -> None:
        """Collect every five minutes until cancelled."""
        if self._policy.high_threshold_percent == 100 and not self._policy.max_age:
            return
        await self._look()
        while True:
            await asyncio.sleep(PERIOD)
            await self.collect()

    async def collect(self) -> None:
        """Remove what the thresholds ask for, and what is too old; what fails twice in a row is told."""
        began = self._clock()
        error = await self._collect()
        if self._forget is not None and error != _NO_LIST:
            self._forget(self._known.records.keys(), began)
        if error:
            _log.warning("image garbage collection failed", error=error)
            if self._failed:
                self._tell("Warning", "ImageGCFailed", error)
        self._failed = bool(error)

    async def _collect(self) -> str:
        now = await self._look()
        if now is None:
            return _NO_LIST
        await self._remove(self._known.too_old(now, self._policy.max_age), reason="age")
        disk = self._disk()
        if disk is None:
            return "cannot read the image filesystem"
        if disk.capacity == 0:
            self._tell("Warning", "InvalidDiskCapacity", "invalid capacity 0 on image filesystem")
            return "invalid capacity 0 on image filesystem"
        wanted = bytes_to_free(disk.capacity, disk.available, self._policy)
        if not wanted:
            return ""
        freed = await self._remove(self._known.unused(now, self._policy.min_age), wanted)
        if freed >= wanted:
            return ""
        text = "Failed to garbage collect required amount of images. "
        text += f"Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
        self._tell("Warning", "FreeDiskSpaceFailed", text)
        return text

    async def remove_unused(self) -> None:
        """Remove every image that no container uses, but for those that just came and soon may be used."""
        now = await self._look()
        if now is not None:
            await self._remove(self._known.unused(now, self._policy.min_age))

    async def _look(self) -> float | None:
        now = self._clock()
        try:
            images = await self._images.list_images()
        except (CriError, OSError):
            return None
        self._known.observe(images, image_ids(images, self._used()), now)
        return now

    async def _remove(self, chosen: list[ImageRecord], enough: float = inf, reason: str = "space") -> int:
        """Remove images until so many bytes are free; how many were freed."""
        freed = 0
        for one in chosen:
            if freed >= enough:
                break
            try:
                await self._images.remove_image(ImageSpec(image=one.id))
            except (CriError, OSError) as error:
                _log.warning("cannot remove image", image=one.id, error=str(error))
                continue
            images_removed.inc(reason)
            _log.info("removed an unused image", image=one.id, bytes=one.size)
            self._known.records.pop(one.id, None)
            freed += one.size
        return freed
