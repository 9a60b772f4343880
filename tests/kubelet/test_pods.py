"""What a pod says of itself: its class, what it asks for, how long it may take to end."""

from __future__ import annotations

import pytest

from pinnace.kubelet.pods import grace_period, qos_class, resource_requests
from pinnace.kubelet.resources.amounts import cgroup_parent
from tests.kubelet.pods import both, pod


@pytest.mark.parametrize(
    ("resources", "expected", "parent"),
    [
        ([{}], "BestEffort", "/kubepods/besteffort/podu"),
        ([both(cpu="1", memory="1Gi")], "Guaranteed", "/kubepods/podu"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}], "Guaranteed", "/kubepods/podu"),
        ([both(cpu="1")], "Burstable", "/kubepods/burstable/podu"),
        ([both(cpu="1", memory="1Gi"), {}], "Burstable", "/kubepods/burstable/podu"),
        ([{"requests": {"cpu": "1"}}], "Burstable", "/kubepods/burstable/podu"),
        ([{"requests": {"cpu": "0"}}], "BestEffort", "/kubepods/besteffort/podu"),
    ],
)
def test_qos(resources, expected, parent):
    assert qos_class(pod(*resources)) == expected
    assert cgroup_parent(pod(*resources), "") == parent
    assert cgroup_parent(pod(*resources), "/x") == f"/x{parent}"


def test_requests_count_init_containers_by_their_peak():
    wanted = pod({"requests": {"cpu": "1"}})
    wanted["spec"]["initContainers"] = [
        {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
        {"name": "i", "resources": {"requests": {"cpu": "3"}}},
    ]
    assert resource_requests(wanted)["cpu"] == 3500


@pytest.mark.parametrize(
    ("metadata", "spec", "seconds"),
    [
        ({}, {}, 30),
        ({}, {"terminationGracePeriodSeconds": 5}, 5),
        ({}, {"terminationGracePeriodSeconds": 0}, 1),
        ({"deletionTimestamp": "x", "deletionGracePeriodSeconds": 9}, {"terminationGracePeriodSeconds": 5}, 9),
    ],
)
def test_grace_period(metadata, spec, seconds):
    assert grace_period({"metadata": metadata, "spec": spec}) == seconds
