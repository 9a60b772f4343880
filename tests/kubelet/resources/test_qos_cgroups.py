"""How the CPU is divided among classes of pods."""

from __future__ import annotations

import pytest

from pinnace.cri.api import LinuxContainerResources
from pinnace.kubelet.resources.qos_cgroups import QosCgroups, class_shares
from pinnace.machinery.meta import Obj


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


class Cgroups:
    """Writes down what it is asked."""

    def __init__(self) -> None:
        self.shares: dict[str, int] = {}
        self.writes = 0
        self.broken = False

    def create(self, path: str) -> list[str]:
        return [path]

    def limit(self, path: str, resources: LinuxContainerResources) -> None:
        if self.broken:
            raise OSError("read-only")
        self.writes += 1
        self.shares[path] = resources.cpu_shares

    def usage(self, path: str):
        raise NotImplementedError

    def remove_if_empty(self, path: str) -> None:
        raise NotImplementedError


def test_only_what_changed_is_written():
    cgroups, classes = Cgroups(), QosCgroups("/root", 4000)
    classes.apply(cgroups, [pod("1")])
    classes.apply(cgroups, [pod("1")])
    assert (cgroups.writes, cgroups.shares) == (2, {"/root/kubepods": 4096, "/root/kubepods/burstable": 1024})
    classes.apply(cgroups, [pod("1"), pod("1")])
    assert (cgroups.writes, cgroups.shares["/root/kubepods/burstable"]) == (3, 2048)


def test_what_could_not_be_written_is_tried_again():
    cgroups, classes = Cgroups(), QosCgroups("", 1000)
    cgroups.broken = True
    classes.apply(cgroups, [pod()])
    cgroups.broken = False
    classes.apply(cgroups, [pod()])
    assert cgroups.shares == {"/kubepods": 1024, "/kubepods/besteffort": 2}
