"""What the kubelet says of its node."""

from __future__ import annotations

import pytest

from pinnace.kubelet.node.status import allocatable_of_others

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
