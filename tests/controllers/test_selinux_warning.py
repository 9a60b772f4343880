"""Pods that would have one volume with different SELinux labels are warned of each other."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis.resources import CSI_DRIVERS, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS
from pinnace.client import measures
from pinnace.controllers.selinux_warning import (
    Conflict,
    SELinuxWarningController,
    Use,
    conflicts,
    label_of,
    labels_differ,
    labels_of_volume,
    use_of,
)
from pinnace.machinery import metrics
from pinnace.machinery.meta import Obj
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import messages, running

LONE = "If both pods land on the same node, only one of them may access the volume."


def pod(name: str, level: str = "", *, policy: str = "", namespace: str = "default") -> Obj:
    context: Obj = {"seLinuxOptions": {"level": level}} if level else {}
    if policy:
        context["seLinuxChangePolicy"] = policy
    container = {"name": "c", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    spec = {"securityContext": context, "containers": [container], "volumes": [volume]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (":::s0:c1,c2", ":::s0:c3", True),
        (":::s0:c1,c2", ":::s0:c1,c2", False),
        ("u:::s0", ":r::s0", False),
        ("u:::s0", "v:::s0", True),
        ("", ":::s0", False),
    ],
)
def test_labels_differ_in_what_both_say(one: str, other: str, expected: bool) -> None:
    assert labels_differ(one, other) is expected


def test_a_container_may_have_a_label_of_its_own() -> None:
    made = pod("p", "s0:c1")
    assert label_of({"user": "u", "level": "s0:c1"}) == "u:::s0:c1"
    assert labels_of_volume(made, "data") == {":::s0:c1"}
    own = {"name": "o", "volumeMounts": [{"name": "data"}], "securityContext": {"seLinuxOptions": {"level": "s0:c2"}}}
    made["spec"]["containers"].append(own)
    assert labels_of_volume(made, "data") == {":::s0:c1", ":::s0:c2"}


@pytest.mark.parametrize(
    ("label", "policy", "by_mount", "expected"),
    [
        (":::s0", "", True, Use(":::s0", "MountOption")),
        (":::s0", "Recursive", True, Use("", "Recursive")),
        (":::s0", "", False, Use("", "Recursive")),
        ("", "", True, Use("", "Recursive")),
    ],
)
def test_how_a_pod_has_a_volume(label: str, policy: str, by_mount: bool, expected: Use) -> None:
    assert use_of(pod("p", policy=policy), label, by_mount=by_mount) == expected


def test_both_pods_are_told() -> None:
    found = list(conflicts({"a/x": Use(":::s0:c1", "MountOption"), "a/y": Use("", "Recursive")}))
    assert found == [
        Conflict("SELinuxChangePolicy", "a/x", "MountOption", "a/y", "Recursive"),
        Conflict("SELinuxChangePolicy", "a/y", "Recursive", "a/x", "MountOption"),
    ]
    across = Conflict("SELinuxLabel", "a/x", "l1", "b/y", "l2")
    assert across.message == (
        'SELinuxLabel "l1" conflicts with another pod that uses the same volume as this pod with a different '
        f"SELinuxLabel. {LONE}"
    )


async def cluster(*, by_mount: bool = True) -> FakeApi:
    api = FakeApi()
    driver = {"kind": "CSIDriver", "metadata": {"name": "disk"}, "spec": {"seLinuxMount": by_mount}}
    source = {"csi": {"driver": "disk", "volumeHandle": "h"}}
    claim = {"metadata": {"name": "data", "namespace": "default"}, "spec": {"volumeName": "pv"}}
    await api.client.create(CSI_DRIVERS, {"apiVersion": "storage.k8s.io/v1", **driver})
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": source}
    await api.client.create(PERSISTENT_VOLUMES, volume)
    whole = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim}
    await api.client.create(PERSISTENT_VOLUME_CLAIMS, whole)
    return api


def shown() -> str:
    text: Any = metrics.text(measures.families())
    lines = [line for line in text.splitlines() if line.startswith("selinux_warning_controller")]
    return "\n".join(lines)


async def test_a_conflict_is_told_once_and_shown_while_it_lasts() -> None:
    api = await cluster()
    async with running(api, SELinuxWarningController) as [controller]:
        await api.client.create(PODS, pod("one", "s0:c1"))
        await api.client.create(PODS, pod("two", "s0:c2"))
        await api.client.create(PODS, pod("like-one", "s0:c1"))
        told = (
            f'SELinuxLabel ":::s0:c2" conflicts with pod one that uses the same volume as this pod with SELinuxLabel '
            f'":::s0:c1". {LONE}'
        )
        await api.until(lambda: told in messages(api, "SELinuxLabelConflict"))
        await api.until(lambda: len(messages(api, "SELinuxLabelConflict")) == 4)
        assert 'pod1_name="one"' in shown()
        await api.client.delete(PODS, "two", "default")
        assert isinstance(controller, SELinuxWarningController)
        await api.client.create(PODS, pod("other-policy", "s0:c1", policy="Recursive"))
        await api.until(lambda: messages(api, "SELinuxChangePolicyConflict"))
        assert 'property="SELinuxLabel"' not in shown()


async def test_a_volume_that_is_not_mounted_with_labels_is_nobodys_conflict() -> None:
    api = await cluster(by_mount=False)
    async with running(api, SELinuxWarningController) as [controller]:
        assert isinstance(controller, SELinuxWarningController)
        for name, level in (("one", "s0:c1"), ("two", "s0:c2")):
            await api.client.create(PODS, pod(name, level))
        both = pod("both", "s0:c1")
        own = {"name": "o", "volumeMounts": [{"name": "data"}]}
        both["spec"]["containers"].append({**own, "securityContext": {"seLinuxOptions": {"level": "s0:c9"}}})
        await api.client.create(PODS, both)
        await api.until(lambda: messages(api, "MultipleSELinuxLabels"))
        assert list(controller.all_conflicts()) == []
        driver = {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "disk"}}
        await api.client.update(CSI_DRIVERS, {**driver, "spec": {"seLinuxMount": True}})
        await api.until(lambda: messages(api, "SELinuxLabelConflict"))
