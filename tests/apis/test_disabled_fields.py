"""Fields of features that are off."""

from __future__ import annotations

import copy

import pytest

from pinnace.apis.disabled_fields import dropping
from pinnace.machinery.features import FeatureGates
from pinnace.machinery.meta import Obj


def prepared(group: str, kind: str, new: Obj, gates: Obj, old: Obj | None = None, minor: int = 37) -> Obj:
    """What is left of an object, which stays as it is."""
    kept = copy.deepcopy(new)
    prepare = dropping(group, kind, FeatureGates(minor, gates))
    if prepare is not None:
        prepare(kept, old)
    return kept


def pod(**container: object) -> Obj:
    return {"spec": {"containers": [{"name": "a"}, {"name": "b", **copy.deepcopy(container)}]}}


STOPS = {"lifecycle": {"stopSignal": "SIGUSR1", "preStop": {"sleep": {"seconds": 1}}}}


@pytest.mark.parametrize(
    ("minor", "gates", "left"),
    [
        (37, {}, {"preStop": {"sleep": {"seconds": 1}}}),
        (37, {"ContainerStopSignals": True}, STOPS["lifecycle"]),
        (33, {"PodLifecycleSleepAction": False}, {"preStop": {}}),
        (32, {}, STOPS["lifecycle"]),  # of which the schema knows nothing yet
    ],
)
def test_a_gate_decides_of_its_fields(minor: int, gates: dict[str, bool], left: Obj) -> None:
    found = prepared("", "Pod", pod(**STOPS), gates, minor=minor)
    assert found["spec"]["containers"] == [{"name": "a"}, {"name": "b", "lifecycle": left}]


def test_an_object_keeps_what_it_uses_already() -> None:
    new, old = pod(lifecycle={"stopSignal": "SIGHUP"}), pod(**STOPS)
    assert prepared("", "Pod", new, {}, old) == new
    assert prepared("", "Pod", new, {}, pod()) == pod(lifecycle={})


def test_what_went_before_still_happens() -> None:
    def mark(new: Obj, old: Obj | None) -> None:
        new["marked"] = old is None and "stopSignal" not in new["spec"]["containers"][1]["lifecycle"]

    prepare = dropping("", "Pod", FeatureGates(37), mark)
    assert prepare is not None
    new = pod(**STOPS)
    prepare(new, None)
    assert new["marked"] is True
    assert dropping("", "ConfigMap", FeatureGates(37), mark) is mark


@pytest.mark.parametrize(
    ("group", "kind", "minor", "gates", "spec", "left"),
    [
        ("batch", "Job", 31, {}, {"managedBy": "me", "completions": 1}, {"completions": 1}),
        ("batch", "Job", 32, {}, {"managedBy": "me"}, {"managedBy": "me"}),
        (
            "batch",
            "CronJob",
            31,
            {"JobSuccessPolicy": False},
            {"jobTemplate": {"spec": {"managedBy": "me", "successPolicy": {}, "parallelism": 2}}},
            {"jobTemplate": {"spec": {"parallelism": 2}}},
        ),
        (
            "apps",
            "StatefulSet",
            36,
            {},
            {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 2, "partition": 1}}},
            {"updateStrategy": {"rollingUpdate": {"partition": 1}}},
        ),
        (
            "apps",
            "Deployment",
            33,
            {},
            {
                "template": {
                    "spec": {"resourceClaims": [{"name": "gpu"}], "containers": [{"resources": {"claims": []}}]}
                }
            },
            {"template": {"spec": {"containers": [{"resources": {}}]}}},
        ),
        ("", "Service", 30, {}, {"trafficDistribution": "PreferClose"}, {}),
        (
            "resource.k8s.io",
            "ResourceClaim",
            34,
            {"DRAAdminAccess": False},
            {"devices": {"requests": [{"exactly": {"adminAccess": True, "count": 1}}, {"adminAccess": True}]}},
            {"devices": {"requests": [{"exactly": {"count": 1}}, {}]}},
        ),
        (
            "resource.k8s.io",
            "ResourceClaim",
            34,
            {"AllBeta": False},
            {"devices": {"requests": [{"name": "a", "firstAvailable": [{"capacity": {}}]}]}},
            {"devices": {"requests": [{"name": "a"}]}},
        ),
        ("coordination.k8s.io", "Lease", 37, {}, {"strategy": "OldestEmulationVersion"}, {}),
    ],
)
def test_fields_of_other_kinds(group: str, kind: str, minor: int, gates: dict[str, bool], spec: Obj, left: Obj) -> None:
    assert prepared(group, kind, {"spec": spec}, gates, minor=minor) == {"spec": left}
