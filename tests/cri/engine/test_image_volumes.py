"""Images as volumes: which directories layers show, and what a container is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pinnace.cri.api import ContainerConfig, ContainerMetadata, ImageSpec, Mount
from pinnace.cri.engine import spec
from pinnace.cri.engine.image_volumes import has_directory


@pytest.mark.root
def test_layers_show_the_directories_that_nothing_above_hides(tmp_path: Path) -> None:
    base, middle, top = layers = [tmp_path / name for name in ("base", "middle", "top")]
    for path in ("a/deep", "gone", "replaced", "opaque/old"):
        (base / path).mkdir(parents=True)
    (middle / "a").mkdir(parents=True)
    (middle / "opaque/new").mkdir(parents=True)
    os.setxattr(middle / "opaque", "trusted.overlay.opaque", b"y")
    top.mkdir()
    os.mknod(top / "gone", 0o20000, os.makedev(0, 0))
    (top / "replaced").write_text("a file now")
    (top / "link").symlink_to("a")
    shown = ["a", "a/deep", "./a//deep/", "opaque/new", "opaque", "a/none", "gone", "replaced", "link", "opaque/old"]
    assert [has_directory(layers, path) for path in shown] == [True] * 5 + [False] * 5
    assert not has_directory(layers, "a/../a")


def test_a_container_gets_an_image_read_only_and_without_privileges() -> None:
    mount = Mount(
        container_path="/v", host_path="", readonly=True, image=ImageSpec(image="sha256:1"), image_sub_path="etc"
    )
    config = ContainerConfig(metadata=ContainerMetadata(name="c"), image=ImageSpec(image="i"), mounts=[mount])
    made = spec.mounts(config, spec.Surroundings(), {"sha256:1": ["/top", "/base"]})[-1]
    assert made == {
        "destination": "/v",
        "type": "overlay",
        "source": "overlay",
        "options": ["ro", "nosuid", "nodev", "lowerdir=/top:/base"],
        "subpath": "etc",
    }


def test_what_is_mounted_below_is_read_only_too_where_that_is_asked() -> None:
    mount = Mount(container_path="/v", host_path="/h", readonly=True, recursive_read_only=True)
    config = ContainerConfig(metadata=ContainerMetadata(name="c"), image=ImageSpec(image="i"), mounts=[mount])
    assert spec.mounts(config, spec.Surroundings())[-1]["options"] == ["rbind", "rprivate", "rro"]
