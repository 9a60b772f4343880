"""Which unused images go, and what is told when there are not enough of them."""

from __future__ import annotations

import pytest

from pinnace.cri.api import CriError, Image
from pinnace.kubelet.eviction.observations import FileSystem
from pinnace.kubelet.images.gc import ImageCollector, ImageGCPolicy, Images, bytes_to_free, image_ids
from tests.kubelet.fake_runtime import FakeRuntime


def image(name: str, size: int = 10, *, pinned: bool = False) -> Image:
    return Image(id=name, repo_tags=[f"{name}:1"], size=size, pinned=pinned)


def ids(records: list) -> list[str]:  # type: ignore[type-arg]
    return [one.id for one in records]


@pytest.mark.parametrize(
    ("available", "wanted"),
    [(200, 0), (160, 0), (151, 49), (150, 50), (100, 100), (0, 200), (2000, 0)],
)
def test_how_much_must_go(available, wanted):
    """At 85 % used, images go until 80 % are."""
    assert bytes_to_free(1000, available, ImageGCPolicy()) == wanted


def test_the_longest_unused_go_first():
    known = Images()
    known.observe([image("a"), image("b"), image("c"), image("d")], {"a", "b", "c"}, 10.0)
    known.observe([image("a"), image("b"), image("c"), image("d")], {"a", "b"}, 20.0)
    known.observe([image("a"), image("b"), image("c"), image("d")], {"a"}, 30.0)
    assert ids(known.unused(30.0, 0.0)) == ["d", "c", "b"]


def test_what_just_came_stays():
    known = Images()
    known.observe([image("old")], (), 0.0)
    known.observe([image("old"), image("new")], (), 100.0)
    assert ids(known.unused(100.0, 60.0)) == ["old"]


def test_pinned_images_stay():
    known = Images()
    known.observe([image("a", pinned=True), image("b")], (), 0.0)
    assert ids(known.unused(10.0, 0.0)) == ["b"]
    assert ids(known.too_old(1000.0, 10.0)) == ["b"]


def test_images_unused_for_too_long():
    known = Images()
    known.observe([image("used"), image("unused")], {"used"}, 0.0)
    known.observe([image("used"), image("unused")], {"used"}, 50.0)
    assert ids(known.too_old(100.0, 60.0)) == ["unused"]
    assert ids(known.too_old(100.0, 0.0)) == []


def test_images_that_are_gone_are_forgotten():
    known = Images()
    known.observe([image("a")], (), 0.0)
    known.observe([], (), 1.0)
    known.observe([image("a")], (), 50.0)
    assert ids(known.unused(60.0, 30.0)) == []


def test_containers_name_images_in_many_ways():
    present = [
        Image(id="sha256:1", repo_tags=["docker.io/library/web:1"], repo_digests=["docker.io/library/web@sha256:9"]),
        Image(id="sha256:2", repo_tags=["x:1"]),
        Image(id="sha256:3"),
    ]
    assert image_ids(present, ["docker.io/library/web@sha256:9", "sha256:3", "", "gone:1"]) == {"sha256:1", "sha256:3"}


class Collecting:
    """A collector on a disk whose room a test sets."""

    def __init__(self, available: int, *, used: tuple[str, ...] = ()) -> None:
        self.runtime = FakeRuntime("a:1", "b:1", "c:1")  # of 1234 bytes each
        self.disk: FileSystem | None = FileSystem(1, 10_000, available, 10_000 - available, 0, 0)
        self.told: list[str] = []
        self.left: list[tuple[set[str], float]] = []  # what was told to be left, and when it was looked at
        self.now = 0.0
        policy = ImageGCPolicy(min_age=60.0, max_age=1000.0)
        self.collector = ImageCollector(
            self.runtime,
            policy,
            lambda: used,
            lambda: self.disk,
            self._tell,
            lambda: self.now,
            lambda left, now: self.left.append((set(left), now)),
        )

    def _tell(self, kind: str, reason: str, message: str) -> None:
        self.told.append(f"{kind} {reason}: {message}")

    async def collect(self, now: float) -> list[str]:
        self.now = now
        await self.collector.collect()
        return sorted(self.runtime.images)


async def test_a_full_disk_loses_what_nobody_uses():
    one = Collecting(available=0, used=("sha256:a:1",))
    assert await one.collect(0.0) == ["a:1", "b:1", "c:1"]
    assert await one.collect(60.0) == ["a:1"]
    (told,) = one.told
    assert told == (
        "Warning FreeDiskSpaceFailed: Failed to garbage collect required amount of images. "
        "Attempted to free 2000 bytes, but only found 0 bytes eligible to free."
    )


async def test_what_is_left_is_told_as_of_the_look():
    """So that records of pulls go with their images, and not those of a pull that came meanwhile."""
    one = Collecting(available=0, used=("sha256:a:1",))
    await one.collect(0.0)
    await one.collect(60.0)
    assert one.left == [({"sha256:a:1", "sha256:b:1", "sha256:c:1"}, 0.0), ({"sha256:a:1"}, 60.0)]


async def test_enough_is_enough():
    one = Collecting(available=1400)
    await one.collect(0.0)
    assert len(await one.collect(60.0)) == 2


async def test_room_enough():
    one = Collecting(available=9000)
    await one.collect(0.0)
    assert len(await one.collect(900.0)) == 3
    assert len(await one.collect(1001.0)) == 0
    assert one.told == []


async def test_what_fails_again_is_told():
    one = Collecting(available=1000, used=("sha256:a:1", "sha256:b:1", "sha256:c:1"))
    await one.collect(0.0)
    await one.collect(60.0)
    assert [text.partition(":")[0] for text in one.told] == [
        "Warning FreeDiskSpaceFailed",
        "Warning FreeDiskSpaceFailed",
        "Warning ImageGCFailed",
    ]
    one.disk = FileSystem(1, 0, 0, 0, 0, 0)
    await one.collect(120.0)
    assert "Warning InvalidDiskCapacity: invalid capacity 0 on image filesystem" in one.told


async def test_an_image_that_cannot_be_removed_does_not_stop_the_others():
    one = Collecting(available=0)
    await one.collect(0.0)
    refused = one.runtime.remove_image
    asked = []

    async def remove(spec):
        asked.append(spec.image)
        if len(asked) == 1:
            raise CriError("UNKNOWN", "in use")
        await refused(spec)

    one.runtime.remove_image = remove  # type: ignore[method-assign]
    assert len(await one.collect(60.0)) == 1
    assert len(asked) == 3
