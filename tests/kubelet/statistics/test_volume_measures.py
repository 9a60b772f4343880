"""What a kubelet counts of its work with volumes."""

from __future__ import annotations

import pytest

from pinnace.kubelet.statistics import volume_measures
from pinnace.kubelet.statistics.volume_measures import called, operation, plugin_of
from pinnace.machinery.meta import Obj
from pinnace.machinery.metrics import Histogram


@pytest.mark.parametrize(
    ("source", "plugin"),
    [
        ({"name": "v", "emptyDir": {}}, "kubernetes.io/empty-dir"),
        ({"configMap": {"name": "c"}}, "kubernetes.io/configmap"),
        ({"local": {"path": "/p"}, "accessModes": []}, "kubernetes.io/local-volume"),
        ({"csi": {"driver": "d.example.org"}}, "kubernetes.io/csi:d.example.org"),
        ({"flexVolume": {"driver": "example.org/d"}}, "example.org/d"),
        ({"persistentVolumeClaim": {"claimName": "c"}}, ""),  # known when the claim is
    ],
)
def test_what_makes_volumes_ready(source: Obj, plugin: str) -> None:
    assert plugin_of(source) == plugin


def count(family: Histogram, *labels: str) -> float:
    return sum(family.values.get(labels, [0.0])[1:])


def test_operations_are_timed_by_what_they_were_found_to_be_of() -> None:
    plugins: dict[str, str] = {}
    labels = ("false", "volume_mount", "success", "kubernetes.io/nfs")
    failed = ("false", "volume_mount", "fail-unknown", "<n/a>")
    before = count(volume_measures.operations, *labels), count(volume_measures.operations, *failed)

    with operation("volume_mount", "v", plugins):
        plugins["v"] = "kubernetes.io/nfs"
    with pytest.raises(OSError), operation("volume_mount", "w", plugins):
        raise OSError

    assert count(volume_measures.operations, *labels) == before[0] + 1
    assert count(volume_measures.operations, *failed) == before[1] + 1


@pytest.mark.parametrize(("code", "word"), [("OK", "OK"), ("NOT_FOUND", "NotFound"), ("UNKNOWN", "Unknown")])
def test_calls_of_drivers_are_timed_by_go_s_names_of_codes(code: str, word: str) -> None:
    labels = ("d", word, "/csi.v1.Node/NodeGetInfo", "false")
    before = count(volume_measures.driver_calls, *labels)

    called("d", "NodeGetInfo", code, 0.2)

    assert count(volume_measures.driver_calls, *labels) == before + 1
