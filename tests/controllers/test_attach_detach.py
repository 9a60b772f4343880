"""Volumes follow their pods from node to node, and grow."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from pinnace.apis.resources import (
    CSI_DRIVERS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    VOLUME_ATTACHMENTS,
)
from pinnace.controllers.attach_detach import (
    AttachDetachController,
    attachment_name,
    in_use_elsewhere,
    may_be_on_many_nodes,
    unique_name,
    wait_before_detach,
)
from pinnace.controllers.persistentvolume_expander import PersistentVolumeExpander, is_to_grow
from pinnace.machinery.meta import Obj, name_of
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import messages, running

VOLUME: Obj = {
    "apiVersion": "v1",
    "kind": "PersistentVolume",
    "metadata": {"name": "pv"},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "csi": {"driver": "disk.example.com", "volumeHandle": "v-1"},
        "claimRef": {"namespace": "default", "name": "data", "uid": "u"},
    },
}
CLAIM: Obj = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "data", "namespace": "default", "uid": "u"},
    "spec": {"volumeName": "pv", "resources": {"requests": {"storage": "1Gi"}}},
    "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}},
}
UNIQUE = "kubernetes.io/csi/disk.example.com^v-1"


def node(name: str = "n1", **status: Any) -> Obj:
    marks = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "annotations": marks}, "status": status}


def pod(name: str = "web", where: str = "n1") -> Obj:
    spec = {"nodeName": where, "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def test_names_are_those_that_drivers_compute() -> None:
    assert unique_name(VOLUME) == UNIQUE
    expected = "csi-81e0795a75e6ee127df2a8acb7d069741b02b9e55a6fe155352ae4ca1edd77f5"
    assert attachment_name(VOLUME, "n1") == expected


@pytest.mark.parametrize(
    ("modes", "expected"),
    [([], True), (["ReadWriteOnce"], False), (["ReadWriteOncePod"], False), (["ReadWriteOnce", "ReadOnlyMany"], True)],
)
def test_what_may_be_on_many_nodes(modes: list[str], expected: bool) -> None:
    assert may_be_on_many_nodes({"spec": {"accessModes": modes}}) is expected


@pytest.mark.parametrize(
    ("users", "why"),
    [
        ([], "Volume is already exclusively attached to one node and can't be attached to another"),
        (["default/b", "default/a"], "Volume is already used by pod(s) a, b"),
        (["default/a", "x/c"], "Volume is already used by pod(s) a and 1 pod(s) in different namespaces"),
        (["x/c"], "Volume is already used by 1 pod(s) in different namespaces"),
    ],
)
def test_who_else_uses_it(users: list[str], why: str) -> None:
    pods = [{"metadata": dict(zip(("namespace", "name"), key.split("/"), strict=True))} for key in users]
    assert in_use_elsewhere(VOLUME, pods, "default") == f'Multi-Attach error for volume "pv" {why}'


READY = [{"type": "Ready", "status": "True"}]
LOST = [{"type": "Ready", "status": "Unknown"}]
OUT = {"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]}


@pytest.mark.parametrize(
    ("where", "unwanted", "by_force", "expected"),
    [
        (None, 0, True, 0.0),
        (node(conditions=READY), 0, True, 0.0),
        (node(conditions=READY, volumesInUse=[UNIQUE]), 999, True, None),
        (node(conditions=LOST, volumesInUse=[UNIQUE]), 60, True, 300.0),
        (node(conditions=LOST, volumesInUse=[UNIQUE]), 361, True, 0.0),
        (node(conditions=LOST, volumesInUse=[UNIQUE]), 361, False, None),
        ({**node(conditions=LOST, volumesInUse=[UNIQUE]), "spec": OUT}, 0, False, 0.0),
    ],
)
def test_a_volume_in_use_is_waited_for(
    where: Obj | None, unwanted: float, by_force: bool, expected: float | None
) -> None:
    assert wait_before_detach(where, UNIQUE, unwanted, by_force=by_force) == expected


# The controller.


async def furnish(api: FakeApi, *nodes: Obj) -> None:
    for one in nodes or (node(),):
        await api.client.create(NODES, one)
    await api.client.create(PERSISTENT_VOLUMES, VOLUME)
    await api.client.create(PERSISTENT_VOLUME_CLAIMS, CLAIM)


def attached(api: FakeApi, name: str = "n1") -> list[str]:
    listed = ((api.find(NODES, name) or {}).get("status") or {}).get("volumesAttached") or ()
    return [one["name"] for one in listed]


async def confirm(api: FakeApi, **status: Any) -> Obj:
    """What the external attacher would report."""
    (found,) = await api.until(lambda: api.all(VOLUME_ATTACHMENTS))
    return await api.set_status(VOLUME_ATTACHMENTS, name_of(found), status)


async def test_a_volume_is_attached_reported_and_detached() -> None:
    api = FakeApi()
    await furnish(api)
    async with running(api, AttachDetachController):
        await api.client.create(PODS, pod())
        found = await confirm(api, attached=True)
        source = {"persistentVolumeName": "pv"}
        assert found["spec"] == {"attacher": "disk.example.com", "nodeName": "n1", "source": source}
        assert name_of(found) == attachment_name(VOLUME, "n1")
        await api.until(lambda: attached(api) == [UNIQUE])
        await api.until(
            lambda: 'AttachVolume.Attach succeeded for volume "pv" ' in messages(api, "SuccessfulAttachVolume")
        )
        await api.set_status(NODES, "n1", {"volumesInUse": [UNIQUE], "conditions": READY})
        await api.client.delete(PODS, "web", "default")
        await api.until(lambda: not api.all(PODS))
        assert attached(api) == [UNIQUE]
        await api.set_status(NODES, "n1", {"volumesInUse": []})
        await api.until(lambda: not api.all(VOLUME_ATTACHMENTS))
        assert attached(api) == []


async def test_a_failed_attachment_is_told_to_the_pod() -> None:
    api = FakeApi()
    await furnish(api)
    async with running(api, AttachDetachController):
        await api.client.create(PODS, pod())
        await confirm(api, attached=False, attachError={"message": "no such disk"})
        said = 'AttachVolume.Attach failed for volume "pv" : no such disk'
        await api.until(lambda: said in messages(api, "FailedAttachVolume"))


async def test_pods_are_told_where_nobody_attaches_their_volume() -> None:
    api = FakeApi()
    await furnish(api)
    async with running(api, partial(AttachDetachController, attach_seconds=0.05)):
        await api.client.create(PODS, pod())
        why = "timed out waiting for external-attacher of disk.example.com CSI driver to attach volume v-1"
        said = f'AttachVolume.Attach failed for volume "pv" : {why}'
        await api.until(lambda: said in messages(api, "FailedAttachVolume"))
        await confirm(api, attached=True)
        await api.until(lambda: attached(api) == [UNIQUE])


async def test_a_volume_of_one_node_waits_until_the_other_is_rid_of_it() -> None:
    api = FakeApi()
    await furnish(api, node(conditions=READY, volumesInUse=[UNIQUE]), node("n2", conditions=READY))
    async with running(api, AttachDetachController) as (controller,):
        await api.client.create(PODS, pod())
        await confirm(api, attached=True)
        await api.client.create(PODS, pod("late", "n2"))
        said = 'Multi-Attach error for volume "pv" Volume is already used by pod(s) web'
        await api.until(lambda: said in messages(api, "FailedAttachVolume"))
        await api.client.delete(PODS, "web", "default")
        await api.set_status(NODES, "n1", {"volumesInUse": []})
        await api.until(lambda: not api.all(VOLUME_ATTACHMENTS))
        controller.queue.add("n2")
        await api.until(lambda: [one["spec"]["nodeName"] for one in api.all(VOLUME_ATTACHMENTS)] == ["n2"])


async def test_a_driver_that_needs_no_attaching_is_left_alone() -> None:
    api = FakeApi()
    await furnish(api)
    driver = {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "disk.example.com"}}
    await api.client.create(CSI_DRIVERS, {**driver, "spec": {"attachRequired": False}})
    await api.client.create(PODS, pod())
    async with running(api, AttachDetachController) as (controller,):
        await controller.reconcile("n1")
    assert api.all(VOLUME_ATTACHMENTS) == []


async def test_a_driver_that_turns_out_to_need_no_attaching_is_freed_of_it() -> None:
    api = FakeApi()
    await furnish(api)
    await api.client.create(PODS, pod())
    async with running(api, AttachDetachController):
        await api.until(lambda: api.all(VOLUME_ATTACHMENTS))
        driver = {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "disk.example.com"}}
        await api.client.create(CSI_DRIVERS, {**driver, "spec": {"attachRequired": False}})
        await api.until(lambda: not api.all(VOLUME_ATTACHMENTS))


async def test_what_others_attach_is_left_alone() -> None:
    api = FakeApi()
    await furnish(api)
    spec = {"attacher": "x.io", "nodeName": "n1", "source": {"persistentVolumeName": "pv"}}
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": "theirs"}}
    await api.client.create(VOLUME_ATTACHMENTS, {**kind, "spec": spec})
    async with running(api, AttachDetachController) as (controller,):
        await controller.reconcile("n1")
    assert len(api.all(VOLUME_ATTACHMENTS)) == 1


# Growth.


@pytest.mark.parametrize(
    ("wants", "has", "phase", "expected"),
    [("2Gi", "1Gi", "Bound", True), ("1Gi", "1Gi", "Bound", False), ("2Gi", "1Gi", "Pending", False)],
)
def test_which_claims_are_to_grow(wants: str, has: str, phase: str, expected: bool) -> None:
    status = {"phase": phase, "capacity": {"storage": has}}
    assert is_to_grow({"spec": {"resources": {"requests": {"storage": wants}}}, "status": status}) is expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (VOLUME["spec"]["csi"], "waiting for an external controller to expand this PVC"),
        (None, "Ignoring the PVC: didn't find a plugin capable of expanding the volume; "),
    ],
)
async def test_somebody_else_is_to_expand(source: Obj | None, message: str) -> None:
    api = FakeApi()
    await api.client.create(PERSISTENT_VOLUMES, {**VOLUME, "spec": {**VOLUME["spec"], "csi": source}})
    await api.client.create(PERSISTENT_VOLUME_CLAIMS, CLAIM)
    async with running(api, PersistentVolumeExpander):
        more = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
        await api.client.patch(PERSISTENT_VOLUME_CLAIMS, "data", more, "default")
        await api.until(lambda: any(said.startswith(message) for said in messages(api, "ExternalExpanding")))
