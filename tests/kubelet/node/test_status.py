"""What the kubelet says of its node."""

from __future__ import annotations

import pytest

from pinnace.cri.api import Image
from pinnace.kubelet.node.status import allocatable_of_others, image_list

GPU = "example.com/gpu"


@pytest.mark.parametrize(
    ("capacity", "allocatable", "changed"),
    [
        pytest.param({"cpu": "2"}, {"cpu": "1"}, {}, id="its own is left alone"),
        pytest.param({"cpu": "2", GPU: "4"}, {"cpu": "1"}, {GPU: "4"}, id="added"),
        pytest.param({"cpu": "2", GPU: "4"}, {"cpu": "1", GPU: "4"}, {}, id="known"),
        pytest.param({"cpu": "2", GPU: "5"}, {"cpu": "1", GPU: "4"}, {GPU: "5"}, id="changed"),
        pytest.param({"cpu": "2"}, {"cpu": "1", GPU: "4"}, {GPU: None}, id="taken away"),
    ],
)
def test_extended_resources_of_others_can_be_allocated(
    capacity: dict[str, str], allocatable: dict[str, str], changed: dict[str, str | None]
) -> None:
    assert allocatable_of_others({"capacity": capacity, "allocatable": allocatable}, ("cpu",)) == changed


def test_the_largest_images_are_named_by_five_names_each() -> None:
    small = Image(id="s", repo_tags=["small:1"], size=1)
    large = Image(id="l", repo_digests=["a@d", "b@d"], repo_tags=["t:1", "t:2", "t:3", "t:4"], size=2)
    nameless = Image(id="n", size=3)
    whole = [
        {"names": ["a@d", "b@d", "t:1", "t:2", "t:3"], "sizeBytes": 2},
        {"names": ["small:1"], "sizeBytes": 1},
    ]
    assert image_list([small, nameless, large], -1) == whole
    assert image_list([small, nameless, large], 1) == whole[:1]
    assert image_list([small], 0) == []
