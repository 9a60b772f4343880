"""What an image's name says."""

from __future__ import annotations

import pytest

from pinnace.kubelet.images.references import default_policy, problem, with_tag

BAD = "invalid reference format"


@pytest.mark.parametrize(
    ("image", "tagged", "policy", "why"),
    [
        ("nginx", "nginx:latest", "Always", ""),
        ("nginx:1.27", "nginx:1.27", "IfNotPresent", ""),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest", "Always", ""),
        (f"a@sha256:{'0' * 64}", f"a@sha256:{'0' * 64}", "IfNotPresent", ""),
        ("Nginx", "Nginx:latest", "Always", f"{BAD}: repository name (library/Nginx) must be lowercase"),
        ("a b", "a b:latest", "Always", BAD),
        ("reg.example/A:1", "reg.example/A:1", "IfNotPresent", f"{BAD}: repository name (A) must be lowercase"),
    ],
)
def test_references(image, tagged, policy, why):
    assert (with_tag(image), default_policy(image), problem(image)) == (tagged, policy, why)
