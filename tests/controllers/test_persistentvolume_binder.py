"""Claims and volumes come together, stay together, and say so."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from pinnace.apis.core.volume_binding import BIND_COMPLETED, BOUND_BY_CONTROLLER
from pinnace.apis.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES
from pinnace.controllers.persistentvolume_binder import PersistentVolumeBinder, first_consumer
from pinnace.machinery.meta import GVR, Obj, annotations_of, get_in, name_of, uid_of
from pinnace.testing import Cluster
from tests.apis.test_volume_binding import RWO, claim, kept_for, storage_class, volume
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import messages, running

KEY = "default/data"


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([], ("WaitForFirstConsumer", "waiting for first consumer to be created before binding")),
        (["b"], ("WaitForPodScheduled", "waiting for pod b to be scheduled")),
        (["b", "a"], ("WaitForPodScheduled", "waiting for pods a,b to be scheduled")),
    ],
)
def test_what_a_claim_waits_for(pods: list[str], expected: tuple[str, str]) -> None:
    assert first_consumer([{"metadata": {"name": name}, "spec": {}} for name in pods]) == expected
    assert first_consumer([{"metadata": {"name": "x"}, "spec": {"nodeName": "n"}}])[0] == "WaitForFirstConsumer"


def phase(api: FakeApi, resource: GVR, key: str) -> str:
    return str(((api.find(resource, key) or {}).get("status") or {}).get("phase", ""))


async def bound(api: FakeApi, name: str = "pv") -> None:
    await api.until(lambda: phase(api, PERSISTENT_VOLUME_CLAIMS, KEY) == "Bound")
    assert phase(api, PERSISTENT_VOLUMES, name) == "Bound"


async def test_claim_and_volume_are_bound() -> None:
    api = FakeApi()
    async with running(api, PersistentVolumeBinder):
        await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim())
        text = "no persistent volumes available for this claim and no storage class is set"
        await api.until(lambda: text in messages(api, "FailedBinding"))
        await api.until(lambda: phase(api, PERSISTENT_VOLUME_CLAIMS, KEY) == "Pending")
        await api.client.create(PERSISTENT_VOLUMES, volume("pv", "3Gi", phase=""))
        await bound(api)
    mine, its = api.all(PERSISTENT_VOLUME_CLAIMS)[0], api.all(PERSISTENT_VOLUMES)[0]
    assert mine["spec"]["volumeName"] == "pv"
    assert mine["status"] == {"phase": "Bound", "accessModes": [RWO], "capacity": {"storage": "3Gi"}}
    assert annotations_of(mine) == {BIND_COMPLETED: "yes", BOUND_BY_CONTROLLER: "yes"}
    assert (its["spec"]["claimRef"]["name"], its["spec"]["claimRef"]["uid"]) == ("data", "u1")
    assert annotations_of(its) == {BOUND_BY_CONTROLLER: "yes"}


async def test_a_volume_kept_for_a_claim_goes_back_to_waiting_for_its_name() -> None:
    api = FakeApi()
    async with running(api, PersistentVolumeBinder):
        await api.client.create(PERSISTENT_VOLUMES, volume("pv", phase="", **kept_for()))
        await api.until(lambda: phase(api, PERSISTENT_VOLUMES, "pv") == "Available")
        await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim(volumeName="pv"))
        await bound(api)
        assert annotations_of(api.all(PERSISTENT_VOLUMES)[0]) == {}
        assert annotations_of(api.all(PERSISTENT_VOLUME_CLAIMS)[0]) == {BIND_COMPLETED: "yes"}


@pytest.mark.parametrize(
    ("policy", "marks", "expected", "reason"),
    [
        ("Retain", {}, "Released", ""),
        ("Delete", {"pv.kubernetes.io/provisioned-by": "disk.example.com"}, "Released", ""),
        ("Delete", {}, "Failed", "VolumeFailedDelete"),
        ("Recycle", {}, "Failed", "VolumeFailedRecycle"),
    ],
)
async def test_what_becomes_of_a_volume_whose_claim_is_gone(
    policy: str, marks: dict[str, str], expected: str, reason: str
) -> None:
    api = FakeApi()
    made = volume("pv", phase="", persistentVolumeReclaimPolicy=policy, annotations=marks)
    async with running(api, PersistentVolumeBinder):
        await api.client.create(PERSISTENT_VOLUMES, made)
        await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim())
        await bound(api)
        await api.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", "default")
        await api.until(lambda: phase(api, PERSISTENT_VOLUMES, "pv") == expected)
        if reason:
            await api.until(lambda: messages(api, reason))
        again = claim()
        again["metadata"]["uid"] = "u2"
        await api.client.create(PERSISTENT_VOLUME_CLAIMS, again)
        await api.until(lambda: phase(api, PERSISTENT_VOLUME_CLAIMS, KEY) == "Pending")
        assert phase(api, PERSISTENT_VOLUMES, "pv") == expected


async def test_a_claim_that_loses_its_volume_says_so() -> None:
    api = FakeApi()
    async with running(api, PersistentVolumeBinder):
        await api.client.create(PERSISTENT_VOLUMES, volume("pv", phase=""))
        await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim())
        await bound(api)
        await api.client.delete(PERSISTENT_VOLUMES, "pv")
        await api.until(lambda: phase(api, PERSISTENT_VOLUME_CLAIMS, KEY) == "Lost")
        text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
        await api.until(lambda: text in messages(api, "ClaimLost"))


@pytest.mark.parametrize(
    ("named", "reason", "message"),
    [
        (volume("pv", "1Mi"), "VolumeMismatch", 'Cannot bind to requested volume "pv": requested PV is too small'),
        (volume("pv", **kept_for("other")), "FailedBinding", 'volume "pv" already bound to a different claim.'),
    ],
)
async def test_a_named_volume_that_cannot_be_had(named: Obj, reason: str, message: str) -> None:
    api = FakeApi()
    async with running(api, PersistentVolumeBinder):
        await api.client.create(PERSISTENT_VOLUMES, named)
        await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim(volumeName="pv"))
        await api.until(lambda: message in messages(api, reason))
        await api.until(lambda: phase(api, PERSISTENT_VOLUME_CLAIMS, KEY) == "Pending")


@pytest.mark.parametrize(
    ("made", "reason", "message"),
    [
        (
            storage_class("fast", provisioner="disk.example.com", volumeBindingMode="Immediate"),
            "ExternalProvisioning",
            "Waiting for a volume to be created either by the external provisioner 'disk.example.com'",
        ),
        (
            storage_class("fast", provisioner="disk.example.com", volumeBindingMode="WaitForFirstConsumer"),
            "WaitForFirstConsumer",
            "waiting for first consumer",
        ),
        (
            storage_class("fast", provisioner="kubernetes.io/no-provisioner", volumeBindingMode="Immediate"),
            "ProvisioningFailed",
            "no volume plugin matched name: kubernetes.io/no-provisioner",
        ),
        (storage_class("other"), "ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found'),
    ],
)
async def test_a_volume_is_asked_for(made: Obj, reason: str, message: str) -> None:
    api = FakeApi()
    await api.client.create(STORAGE_CLASSES, made)
    await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim(storage_class="fast"))
    async with running(api, PersistentVolumeBinder):
        await api.until(lambda: any(said.startswith(message) for said in messages(api, reason)))
        await api.until(lambda: phase(api, PERSISTENT_VOLUME_CLAIMS, KEY) == "Pending")
    asked = annotations_of(api.all(PERSISTENT_VOLUME_CLAIMS)[0]).get("volume.kubernetes.io/storage-provisioner")
    assert asked == ("disk.example.com" if reason == "ExternalProvisioning" else None)


async def test_no_provisioner_is_asked_where_that_is_switched_off() -> None:
    api = FakeApi()
    made = storage_class("fast", provisioner="disk.example.com", volumeBindingMode="Immediate")
    await api.client.create(STORAGE_CLASSES, made)

    def make(client: Any, informers: Any) -> PersistentVolumeBinder:
        return PersistentVolumeBinder(client, informers, provisioning=False)

    async with running(api, make):
        await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim(storage_class="fast"))
        await api.until(lambda: phase(api, PERSISTENT_VOLUME_CLAIMS, KEY) == "Pending")
    assert annotations_of(api.all(PERSISTENT_VOLUME_CLAIMS)[0]) == {}


async def test_a_provisioner_is_asked_once_a_node_is_chosen_and_its_volume_taken() -> None:
    api = FakeApi()
    late = storage_class("fast", provisioner="disk.example.com", volumeBindingMode="WaitForFirstConsumer")
    await api.client.create(STORAGE_CLASSES, late)
    await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim(storage_class="fast"))
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    meta = {"name": "web", "namespace": "default"}
    await api.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"volumes": volumes}})
    async with running(api, PersistentVolumeBinder):
        await api.until(lambda: "waiting for pod web to be scheduled" in messages(api, "WaitForPodScheduled"))
        chosen = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}}
        await api.client.patch(PERSISTENT_VOLUME_CLAIMS, "data", chosen, "default")
        await api.until(lambda: messages(api, "ExternalProvisioning"))
        made = volume("pvc-u1", phase="", storageClassName="fast", **kept_for(uid="u1"))
        await api.client.create(PERSISTENT_VOLUMES, made)
        await bound(api, "pvc-u1")


async def test_a_claim_gets_the_default_class_that_comes_later() -> None:
    api = FakeApi()
    await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim(storage_class=None))
    async with running(api, PersistentVolumeBinder):
        await api.until(lambda: messages(api, "FailedBinding"))
        made = storage_class("standard", default=True, provisioner="x.io/y", volumeBindingMode="Immediate")
        await api.client.create(STORAGE_CLASSES, made)
        await api.until(lambda: messages(api, "ExternalProvisioning"))
        assert api.all(PERSISTENT_VOLUME_CLAIMS)[0]["spec"]["storageClassName"] == "standard"


@pytest.mark.parametrize("seed", range(5))
async def test_no_volume_is_bound_twice_whenever_the_binder_is_killed(seed: int) -> None:
    api, chance = FakeApi(), random.Random(seed)
    made: list[tuple[GVR, Obj]] = []
    for number in range(12):
        one = claim(f"{chance.randint(1, 3)}Gi")
        one["metadata"] |= {"name": f"c{number}", "uid": f"c{number}"}
        made.append((PERSISTENT_VOLUME_CLAIMS, one))
        made.append((PERSISTENT_VOLUMES, volume(f"v{number}", "3Gi", phase="")))
    chance.shuffle(made)
    for resource, obj in made:
        async with running(api, PersistentVolumeBinder):
            await api.client.create(resource, obj)
            for _ in range(chance.randint(0, 30)):
                await asyncio.sleep(0)

    def all_bound() -> bool:
        claims = [phase(api, PERSISTENT_VOLUME_CLAIMS, f"default/{name_of(one)}") for one in claims_there()]
        return claims == ["Bound"] * 12

    def claims_there() -> list[Any]:
        return api.all(PERSISTENT_VOLUME_CLAIMS)

    async with running(api, PersistentVolumeBinder):
        await api.until(all_bound)
    pairs = {get_in(one, "spec", "volumeName"): uid_of(one) for one in claims_there()}
    assert len(pairs) == 12
    assert pairs == {name_of(one): get_in(one, "spec", "claimRef", "uid") for one in api.all(PERSISTENT_VOLUMES)}


@pytest.mark.pinnace(scheduler=False)
def test_binding_through_the_api(pinnace: Cluster) -> None:
    """What is written is what the API server takes."""
    api = pinnace.api
    wanted = claim(storage_class=None)
    del wanted["metadata"]["uid"]
    api.create(wanted)
    api.create(storage_class("standard", default=True, provisioner="x.io/y", volumeBindingMode="Immediate"))
    api.wait_for("pvc", "data", lambda found: found["spec"].get("storageClassName") == "standard")
    made = volume("pv", phase="", storageClassName="standard")
    del made["status"]
    api.create(made)
    api.wait_for("pvc", "data", lambda found: found["status"]["phase"] == "Bound")
    assert api.get("pv", "pv")["status"]["phase"] == "Bound"
    api.delete("pvc", "data")
    api.wait_for("pv", "pv", lambda found: found["status"]["phase"] == "Released")
