"""What an image's name says."""

from __future__ import annotations

import pytest

from pinnace.kubelet.images.references import default_policy, valid_reference, with_tag


@pytest.mark.parametrize(
    ("image", "tagged", "policy", "valid"),
    [
        ("nginx", "nginx:latest", "Always", True),
        ("nginx:1.27", "nginx:1.27", "IfNotPresent", True),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest", "Always", True),
        (f"a@sha256:{'0' * 64}", f"a@sha256:{'0' * 64}", "IfNotPresent", True),
        ("Nginx", "Nginx:latest", "Always", False),
        ("a b", "a b:latest", "Always", False),
        ("reg.example/A:1", "reg.example/A:1", "IfNotPresent", False),
    ],
)
def test_references(image, tagged, policy, valid):
    assert (with_tag(image), default_policy(image), valid_reference(with_tag(image))) == (tagged, policy, valid)
