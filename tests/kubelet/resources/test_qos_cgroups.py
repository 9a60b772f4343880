"""How the CPU is divided among classes of pods."""

from __future__ import annotations

import pytest

from pinnace.kubelet.resources.qos_cgroups import QosCgroups, class_shares
from pinnace.machinery.meta import Obj
from tests.kubelet.fake_cgroups import FakeCgroups


def pod(cpu: str = "", *, limit: bool = False) -> Obj:
    resources: Obj = {"requests": {"cpu": cpu}} if cpu else {}
    if limit:
        resources = {"limits": {"cpu": cpu, "memory": "1Mi"}}
    return {"metadata": {"name": "p", "uid": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}]}}


@pytest.mark.parametrize(
    ("pods", "shares"),
    [
        ([], {}),
        ([pod("1", limit=True)], {"/kubepods": 4096}),
        ([pod("1"), pod("500m")], {"/kubepods": 4096, "/kubepods/burstable": 1536}),
        ([pod()], {"/kubepods": 4096, "/kubepods/besteffort": 2}),
        (
            [pod(), pod("250m"), pod("1", limit=True)],
            {"/kubepods": 4096, "/kubepods/burstable": 256, "/kubepods/besteffort": 2},
        ),
    ],
)
def test_shares_of_classes(pods, shares):
    assert class_shares(pods, 4000) == shares


def test_only_what_changed_is_written():
    cgroups, classes = FakeCgroups(), QosCgroups("/root", 4000)
    classes.apply(cgroups, [pod("1")])
    classes.apply(cgroups, [pod("1")])
    assert (cgroups.writes, cgroups.shares) == (2, {"/root/kubepods": 4096, "/root/kubepods/burstable": 1024})
    classes.apply(cgroups, [pod("1"), pod("1")])
    assert (cgroups.writes, cgroups.shares["/root/kubepods/burstable"]) == (3, 2048)


def test_what_could_not_be_written_is_tried_again():
    cgroups, classes = FakeCgroups(), QosCgroups("", 1000)
    cgroups.refusal = "read-only"
    classes.apply(cgroups, [pod()])
    cgroups.refusal = ""
    classes.apply(cgroups, [pod()])
    assert cgroups.shares == {"/kubepods": 1024, "/kubepods/besteffort": 2}
