"""Files that tell which images the kubelet fetched, for it and for the one after it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from pinnace.cri.api import Image
from pinnace.kubelet.images.pull_records import PullRecords
from pinnace.machinery.meta import utc_now

IMAGE, ID = "reg.example/app:1", "sha256:1"
THERE = Image(id=ID, repo_tags=[IMAGE])


def names(directory: Path) -> tuple[int, int]:
    """How many pulls are under way, how many images are known."""
    return len(list((directory / "pulling").iterdir())), len(list((directory / "pulled").iterdir()))


def test_a_pull_that_succeeds(tmp_path: Path) -> None:
    records = PullRecords(tmp_path)
    records.begin(IMAGE)
    assert records.is_being_pulled(IMAGE)
    assert names(tmp_path) == (1, 0)
    records.succeed(IMAGE, ID, None)
    assert not records.is_being_pulled(IMAGE)
    assert names(tmp_path) == (0, 1)
    record = PullRecords(tmp_path).get(ID)
    assert record is not None
    assert (record["kind"], record["imageRef"]) == ("ImagePulledRecord", ID)
    assert record["credentialMapping"] == {"reg.example/app": {"nodePodsAccessible": True}}


def test_the_last_of_pulls_at_the_same_time_ends_them(tmp_path: Path) -> None:
    records = PullRecords(tmp_path)
    records.begin(IMAGE)
    records.begin(IMAGE)
    records.fail(IMAGE)
    assert records.is_being_pulled(IMAGE)
    records.fail(IMAGE)
    assert names(tmp_path) == (0, 0)


def test_a_kubelet_that_was_killed_while_it_pulled(tmp_path: Path) -> None:
    """What is there then was fetched by it; with which credentials nobody knows, so nobody may use it unproven."""
    PullRecords(tmp_path).begin(IMAGE)
    PullRecords(tmp_path).begin("reg.example/never:1")
    after = PullRecords(tmp_path)
    after.recover([THERE, Image(id="sha256:2", repo_tags=["reg.example/other:1"])])
    assert names(tmp_path) == (1, 1)
    record = after.get(ID)
    assert record is not None
    assert record["credentialMapping"] == {}


def test_images_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    records = PullRecords(tmp_path)
    for identity in (ID, "sha256:2"):
        records.learn(IMAGE, identity, None)
    records.keep_only({ID}, utc_now() - timedelta(hours=1))
    assert names(tmp_path) == (0, 2)  # what was learned since is not
    records.keep_only({ID}, utc_now() + timedelta(seconds=2))
    assert names(tmp_path) == (0, 1)
    assert records.get(ID) is not None


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"[]", b'{"kind": "ImagePullIntent"}', b'{"kind": "ImagePulledRecord"}']
)
def test_a_damaged_record_is_told_and_replaced(tmp_path, content):
    records = PullRecords(tmp_path)
    records.learn(IMAGE, ID, None)
    (file,) = (tmp_path / "pulled").iterdir()
    file.write_bytes(content)
    with pytest.raises(ValueError):
        records.get(ID)
    records.keep_only((), utc_now() + timedelta(hours=1))
    records.recover([THERE])
    records.learn(IMAGE, ID, None)
    assert records.get(ID) is not None
