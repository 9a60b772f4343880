"""The room of the volumes of claims."""

from __future__ import annotations

from pathlib import Path

from pinnace.kubelet.statistics.volume_metrics import claims_of, families, measure
from pinnace.machinery.metrics import text

POD = {
    "metadata": {"name": "p", "namespace": "d"},
    "spec": {
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "claim"}},
            {"name": "scratch", "ephemeral": {}},
            {"name": "cache", "emptyDir": {}},
        ]
    },
}


def test_claims_of_a_pod():
    assert claims_of(POD) == {"data": ("d", "claim"), "scratch": ("d", "p-scratch")}


def test_the_room_of_a_volume_is_that_of_its_file_system(tmp_path: Path) -> None:
    found = measure([(POD, {"data": tmp_path, "scratch": tmp_path / "gone", "cache": tmp_path})])
    assert found.keys() == {("d", "claim")}
    assert found["d", "claim"].capacity > 0
    shown = text(families(found))
    for name in ("capacity_bytes", "available_bytes", "used_bytes", "inodes", "inodes_free", "inodes_used"):
        assert f'kubelet_volume_stats_{name}{{namespace="d",persistentvolumeclaim="claim"}} ' in shown
    assert text(families({})) == ""
