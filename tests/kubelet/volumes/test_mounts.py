"""Mount points as the kernel tells them: blanks in octal, other bytes as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.kubelet.volumes.mounts import mounted_below

LINE = "36 35 98:0 / {} rw,noatime shared:1 - ext4 /dev/root rw"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("/pods/p", "/pods/p"),
        (r"/pods/with\040blank\011and\134more", "/pods/with blank\tand\\more"),
        (r"/pods/é\040ü", "/pods/é ü"),
        ("/pods/form\x0cfeed", "/pods/form\x0cfeed"),
        ("/pods/not-utf8-\udcff", "/pods/not-utf8-\udcff"),
    ],
)
def test_names_of_mount_points(written: str, meant: str) -> None:
    assert mounted_below(Path("/pods"), [LINE.format(written), LINE.format("/podsand")]) == [Path(meant)]


def test_the_innermost_and_newest_come_first() -> None:
    lines = [LINE.format(path) for path in ("/pods", "/pods/a", "/pods/a", "/pods/a/b")]
    assert [str(path) for path in mounted_below(Path("/pods"), lines)] == ["/pods/a/b", "/pods/a", "/pods/a", "/pods"]
