"""Volumes of pods: which claims wait for what, which nodes will do, what is planned there. Tables of each."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.machinery.meta import Obj, key_of, name_of
from pinnace.scheduler.plugins.volume_restrictions import conflicts
from pinnace.scheduler.pod import Disk, shape_of
from pinnace.scheduler.volumes import (
    ELSEWHERE,
    NO_SPACE,
    NOTHING_TO_BIND,
    UNBOUND_IMMEDIATE,
    VOLUME_GONE,
    Claims,
    Plan,
    Storage,
    claims_of,
    plan,
)
from tests.scheduler.objects import pod

SELECTED = "volume.kubernetes.io/selected-node"


def claim(name: str = "c", size: str = "1Gi", class_name: str = "local", **more: Any) -> Obj:
    """A claim; `volume` binds it, `selected` names a node, `phase`, `deleting`."""
    annotations = {}
    spec: Obj = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}},
                 "storageClassName": class_name}  # fmt: skip
    if "volume" in more:
        spec["volumeName"] = more["volume"]
        if more.get("complete", True):
            annotations["pv.kubernetes.io/bind-completed"] = "yes"
    if "selected" in more:
        annotations[SELECTED] = more["selected"]
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}", "annotations": annotations}
    if more.get("deleting"):
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"metadata": metadata, "spec": spec, "status": {"phase": more.get("phase", "Pending")}}


def volume(name: str, host: str = "", size: str = "1Gi", class_name: str = "local", **more: Any) -> Obj:
    spec: Obj = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "storageClassName": class_name,
                 **more}  # fmt: skip
    if host:
        there = {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [there]}]}}
    return {"metadata": {"name": name}, "spec": spec, "status": {"phase": "Available"}}


def storage_class(name: str = "local", provisioner: str = "kubernetes.io/no-provisioner", **more: Any) -> Obj:
    return {"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer", **more}


CLASSES = {"local": storage_class(), "now": storage_class("now", volumeBindingMode="Immediate")}
SORTED: list[tuple[Obj | None, bool, str | tuple[int, int]]] = [
    (None, False, 'persistentvolumeclaim "c" not found'),
    (None, True, 'waiting for ephemeral volume controller to create the persistentvolumeclaim "c"'),
    (claim(volume="v", phase="Lost"), False, 'persistentvolumeclaim "c" bound to non-existent persistentvolume "v"'),
    (claim(deleting=True), False, 'persistentvolumeclaim "c" is being deleted'),
    (claim(class_name="now"), False, UNBOUND_IMMEDIATE),
    (claim(class_name="unknown"), False, UNBOUND_IMMEDIATE),
    (claim(volume="v", complete=False), False, UNBOUND_IMMEDIATE),
    (claim(volume="v"), False, (1, 0)),
    (claim(), False, (0, 1)),
]


@pytest.mark.parametrize(("there", "own", "expected"), SORTED)
def test_claims_are_sorted(there: Obj | None, own: bool, expected: str | tuple[int, int]) -> None:
    found = claims_of(["default/c"], {"default/c"} if own else set(), {"default/c": there}.get, CLASSES.get)
    assert (found if isinstance(found, str) else (len(found.bound), len(found.delayed))) == expected


MADE = storage_class("made", "csi.example.com")
TOPOLOGY = [{"matchLabelExpressions": [{"key": "zone", "values": ["a", "b"]}]}]
DRIVER = {"metadata": {"name": "csi.example.com"}, "spec": {"storageCapacity": True}}


def capacity(size: str, zone: str = "a", **more: Any) -> Obj:
    return {"metadata": {"name": size}, "storageClassName": "made", "capacity": size,
            "nodeTopology": {"matchLabels": {"zone": zone}}, **more}  # fmt: skip


Outcome = tuple[dict[str, str], list[str]] | tuple[str, ...]
PLANS: list[tuple[str, Claims, Storage, Outcome]] = [
    ("bound, reachable", Claims([claim(volume="v")]), Storage([volume("v", "n")]), ({}, [])),
    ("bound, elsewhere", Claims([claim(volume="v")]), Storage([volume("v", "m")]), (ELSEWHERE,)),
    ("bound to nothing", Claims([claim(volume="v")]), Storage(), (VOLUME_GONE,)),
    ("a volume here", Claims(delayed=[claim()]), Storage([volume("v", "n")], [CLASSES["local"]]),
     ({"default/c": "v"}, [])),
    ("the volume is on another node", Claims(delayed=[claim()]), Storage([volume("v", "m")], [CLASSES["local"]]),
     (NOTHING_TO_BIND,)),
    ("of another class", Claims(delayed=[claim()]), Storage([volume("v", "n", class_name="x")], [CLASSES["local"]]),
     (NOTHING_TO_BIND,)),
    ("the smallest that will do", Claims(delayed=[claim(size="2Gi")]),
     Storage([volume("s", "n"), volume("l", "n", "9Gi"), volume("m", "n", "3Gi")], [CLASSES["local"]]),
     ({"default/c": "m"}, [])),
    ("two claims, two volumes", Claims(delayed=[claim("big", "2Gi"), claim("small")]),
     Storage([volume("m", "n", "3Gi"), volume("s", "n")], [CLASSES["local"]]),
     ({"default/small": "s", "default/big": "m"}, [])),
    ("two claims, one volume", Claims(delayed=[claim("one"), claim("two")]),
     Storage([volume("v", "n")], [CLASSES["local"]]), (NOTHING_TO_BIND,)),
    ("about to be another's", Claims(delayed=[claim()]), Storage([volume("taken", "n")], [CLASSES["local"]]),
     (NOTHING_TO_BIND,)),
    ("to be made", Claims(delayed=[claim(class_name="made")]), Storage([], [MADE]), ({}, ["default/c"])),
    ("being made here", Claims(delayed=[claim(class_name="made", selected="n")]), Storage([], [MADE]),
     ({}, ["default/c"])),
    ("being made elsewhere", Claims(delayed=[claim(class_name="made", selected="m")]), Storage([], [MADE]),
     (NOTHING_TO_BIND,)),
    ("allowed here", Claims(delayed=[claim(class_name="made")]),
     Storage([], [{**MADE, "allowedTopologies": TOPOLOGY}]), ({}, ["default/c"])),
    ("allowed elsewhere only", Claims(delayed=[claim(class_name="made")]),
     Storage([], [{**MADE, "allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": ["c"]}]}]}]),
     (NOTHING_TO_BIND,)),
    ("room enough", Claims(delayed=[claim(class_name="made")]), Storage([], [MADE], [DRIVER], [capacity("5Gi")]),
     ({}, ["default/c"])),
    ("no room", Claims(delayed=[claim(class_name="made")]), Storage([], [MADE], [DRIVER], [capacity("500Mi")]),
     (NO_SPACE,)),
    ("room elsewhere", Claims(delayed=[claim(class_name="made")]),
     Storage([], [MADE], [DRIVER], [capacity("5Gi", "b")]), (NO_SPACE,)),
    ("volumes of that size are too large", Claims(delayed=[claim(class_name="made")]),
     Storage([], [MADE], [DRIVER], [capacity("5Gi", maximumVolumeSize="100Mi")]), (NO_SPACE,)),
    ("several reasons", Claims([claim("b", volume="v")], [claim()]), Storage([volume("v", "m")], [CLASSES["local"]]),
     (ELSEWHERE, NOTHING_TO_BIND)),
]  # fmt: skip


@pytest.mark.parametrize(("claims", "storage", "expected"), [case[1:] for case in PLANS], ids=[c[0] for c in PLANS])
def test_plans(claims: Claims, storage: Storage, expected: Outcome) -> None:
    labels = {"kubernetes.io/hostname": "n", "zone": "a"}
    made = plan(claims, storage, {"taken": "default/other"}, "n", labels)
    if isinstance(made, Plan):
        bindings = {key_of(one): name_of(there) for one, there in made.bindings}
        assert (bindings, [key_of(one) for one in made.provisions]) == expected
    else:
        assert made == expected


RBD = {"monitors": ["a", "b"], "pool": "p", "image": "i"}
DISKS: list[tuple[str, Obj, Obj, bool]] = [
    ("gcePersistentDisk", {"pdName": "a"}, {"pdName": "a"}, True),
    ("gcePersistentDisk", {"pdName": "a"}, {"pdName": "b"}, False),
    ("gcePersistentDisk", {"pdName": "a", "readOnly": True}, {"pdName": "a", "readOnly": True}, False),
    ("gcePersistentDisk", {"pdName": "a", "readOnly": True}, {"pdName": "a"}, True),
    ("awsElasticBlockStore", {"volumeID": "a", "readOnly": True}, {"volumeID": "a", "readOnly": True}, True),
    ("iscsi", {"iqn": "a"}, {"iqn": "a"}, True),
    ("rbd", RBD, {**RBD, "monitors": ["b", "c"]}, True),
    ("rbd", RBD, {**RBD, "monitors": ["c"]}, False),
    ("rbd", RBD, {**RBD, "image": "other"}, False),
]


@pytest.mark.parametrize(("kind", "mine", "theirs", "expected"), DISKS)
def test_disks_that_pods_of_a_node_may_not_share(kind: str, mine: Obj, theirs: Obj, expected: bool) -> None:
    assert conflicts(Disk(kind, mine), Disk(kind, theirs)) is expected
    assert not conflicts(Disk(kind, mine), Disk("other", mine))


def test_what_a_pod_uses() -> None:
    volumes = [
        {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "b", "ephemeral": {"volumeClaimTemplate": {}}},
        {"name": "c", "emptyDir": {}},
        {"name": "d", "gcePersistentDisk": {"pdName": "x"}},
        {"name": "kube-api-access-1", "projected": {}},
    ]
    shape = shape_of(pod("p", volumes=volumes))
    assert shape.claims == ("default/data", "default/p-b")
    assert shape.own_claims == {"default/p-b"}
    assert shape.disks == (Disk("gcePersistentDisk", {"pdName": "x"}),)
    plain = [{"name": "kube-api-access-1", "projected": {}}], [{"name": "kube-api-access-2", "projected": {}}]
    one, other = (shape_of(pod("p", volumes=each)) for each in plain)
    assert one is other
