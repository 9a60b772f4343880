"""The rules of CSI volumes: what drivers are told, and how claims show that they grow."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.cri.api import CriError
from pinnace.kubelet.volumes import csi_expansion
from pinnace.kubelet.volumes.csi_volume import CsiVolume, access_mode, capability, of_persistent, wants_group
from pinnace.machinery.meta import Obj


def volume(**more: Any) -> CsiVolume:
    return CsiVolume("d", "h", "pv", inline=False, **more)


@pytest.mark.parametrize(
    ("modes", "plain", "finer"),
    [
        ((), 1, 7),
        (("ReadWriteOnce",), 1, 7),
        (("ReadWriteOncePod",), 1, 6),
        (("ReadOnlyMany",), 3, 3),
        (("ReadWriteMany",), 5, 5),
        (("ReadWriteOnce", "ReadWriteMany"), 1, 7),  # the first counts
    ],
)
def test_access_modes(modes: tuple[str, ...], plain: int, finer: int) -> None:
    assert access_mode(modes, single_node_multi=False) == plain
    assert access_mode(modes, single_node_multi=True) == finer


@pytest.mark.parametrize(
    ("policy", "wanted", "given"),
    [
        ("None", volume(fs_type="ext4", modes=("ReadWriteOnce",)), False),
        ("File", volume(), True),
        ("File", volume(read_only=True), False),
        ("File", volume(block=True), False),
        ("ReadWriteOnceWithFSType", volume(modes=("ReadWriteOnce",)), False),
        ("ReadWriteOnceWithFSType", volume(fs_type="ext4"), False),
        ("ReadWriteOnceWithFSType", volume(fs_type="ext4", modes=("ReadWriteMany",)), False),
        ("ReadWriteOnceWithFSType", volume(fs_type="ext4", modes=("ReadWriteMany", "ReadWriteOnce")), True),
        ("ReadWriteOnceWithFSType", volume(fs_type="xfs", modes=("ReadWriteOncePod",)), True),
    ],
)
def test_who_gives_files_to_the_group(policy: str, wanted: CsiVolume, given: bool) -> None:
    assert wants_group(policy, wanted) is given


def test_what_a_driver_is_told_of_a_volume() -> None:
    mode = {"mode": 1}
    mount = {"fs_type": "ext4", "mount_flags": ["noatime"]}
    plain = volume(fs_type="ext4", mount_options=("noatime",))
    assert capability(plain, frozenset(), 7) == {"mount": mount, "access_mode": mode}
    assert capability(plain, frozenset({6}), 7)["mount"] == {**mount, "volume_mount_group": "7"}
    assert capability(volume(block=True), frozenset({6}), 7) == {"block": {}, "access_mode": mode}


@pytest.mark.parametrize(("source", "mount"), [({"readOnly": True}, {}), ({}, {"readOnly": True})])
def test_who_makes_a_volume_read_only(source: Obj, mount: Obj) -> None:
    spec = {"csi": {"driver": "d", "volumeHandle": "h", **source}}
    persistent = {"metadata": {"name": "pv"}, "spec": spec}
    assert of_persistent(persistent, {"name": "v", "persistentVolumeClaim": {"claimName": "c", **mount}}).read_only


def claim(stage: str = "", *, allocated: str = "", conditions: tuple[str, ...] = ()) -> Obj:
    status: Obj = {"capacity": {"storage": "1Gi"}}
    if stage:
        status["allocatedResourceStatuses"] = {"storage": stage}
    if allocated:
        status["allocatedResources"] = {"storage": allocated}
    if conditions:
        status["conditions"] = [{"type": kind, "status": "True"} for kind in conditions]
    return {"status": status}


@pytest.mark.parametrize(
    ("of", "size", "due"),
    [
        (claim("NodeResizePending"), "2Gi", True),
        (claim("NodeResizeInProgress"), "2Gi", True),
        (claim("NodeResizePending"), "1Gi", False),
        (claim("NodeResizeInfeasible"), "2Gi", False),
        (claim("ControllerResizeInProgress"), "2Gi", False),
        (claim(), "2Gi", True),  # a resizer that knows no stages
        (claim(allocated="2Gi"), "2Gi", False),  # one that has not come to it yet
        ({"status": {}}, "2Gi", False),
    ],
)
def test_when_a_node_grows_what_is_on_a_volume(of: Obj, size: str, due: bool) -> None:
    assert csi_expansion.is_due(of, size) is due


def shared(has: str, *, stage: str = "", mode: str = "ReadWriteMany", **annotations: str) -> Obj:
    found = claim(stage)
    found["status"]["capacity"] = {"storage": has}
    keys = {f"volume.kubernetes.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return {**found, "metadata": {"annotations": keys}, "spec": {"accessModes": [mode]}}


@pytest.mark.parametrize(
    ("of", "known", "due"),
    [
        (shared("2Gi"), "1Gi", True),
        (shared("2Gi"), "2Gi", False),
        (shared("2Gi"), "", False),
        (shared("1Gi"), "1Gi", False),
        (shared("2Gi", mode="ReadWriteOnce"), "1Gi", False),
        (shared("2Gi", stage="NodeResizePending"), "1Gi", False),
        (shared("2Gi", node_expansion_not_required="true"), "1Gi", False),
    ],
)
def test_what_other_nodes_have_grown_grows_on_this_one(of: Obj, known: str, due: bool) -> None:
    assert csi_expansion.grew_elsewhere(of, "2Gi", known) is due


def test_a_failure_is_told_once() -> None:
    pending = claim("NodeResizeInProgress")
    first = csi_expansion.failed(pending, CriError("INTERNAL", "no"), "now")
    assert first is not None
    pending["status"] |= first["status"]
    assert csi_expansion.failed(pending, CriError("INTERNAL", "no"), "later") == first


def test_how_a_claim_shows_that_it_grows() -> None:
    pending = claim("NodeResizePending", conditions=("FileSystemResizePending", "ModifyingVolume"))
    assert csi_expansion.begun(pending) == {
        "status": {"allocatedResourceStatuses": {"storage": "NodeResizeInProgress"}}
    }
    assert csi_expansion.begun(claim("NodeResizeInProgress")) is None
    kept = [{"type": "ModifyingVolume", "status": "True"}]
    status = {"capacity": {"storage": "2Gi"}, "conditions": kept, "allocatedResourceStatuses": {"storage": None}}
    assert csi_expansion.grown(pending, "2Gi") == {"status": status}
    assert csi_expansion.grown(claim(), "2Gi") == {"status": {"capacity": {"storage": "2Gi"}, "conditions": None}}


@pytest.mark.parametrize(
    ("code", "stage"),
    [
        ("INTERNAL", None),
        ("FAILED_PRECONDITION", None),
        ("OUT_OF_RANGE", "NodeResizeInfeasible"),
        ("INVALID_ARGUMENT", "NodeResizeInfeasible"),
    ],
)
def test_how_a_claim_shows_that_it_cannot_grow(code: str, stage: str | None) -> None:
    pending = claim("NodeResizeInProgress", conditions=("FileSystemResizePending", "NodeResizeError"))
    patch = csi_expansion.failed(pending, CriError(code, "no"), "now")
    assert patch is not None
    kept, told = patch["status"].pop("conditions")
    assert kept["type"] == "FileSystemResizePending"
    words = code.title().replace("_", "")
    why = f"Expander.NodeExpand failed to expand the volume : rpc error: code = {words} desc = no"
    assert told == {
        "type": "NodeResizeError",
        "status": "True",
        "lastTransitionTime": "now",
        "message": f"failed to expand pvc with {why}",
    }
    assert patch["status"] == ({"allocatedResourceStatuses": {"storage": stage}} if stage else {})


def test_a_failure_that_may_yet_end_well_is_not_shown() -> None:
    assert csi_expansion.failed(claim("NodeResizeInProgress"), CriError("DEADLINE_EXCEEDED", ""), "now") is None
    assert csi_expansion.failed(claim(), CriError("INTERNAL", ""), "now") is None
