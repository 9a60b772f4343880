"""Pods with ephemeral volumes get their claims."""

from __future__ import annotations

from pinnace.apis.resources import PERSISTENT_VOLUME_CLAIMS, PODS
from pinnace.controllers.ephemeral_volume import EphemeralVolumeController
from pinnace.machinery.meta import Obj, controller_of, labels_of
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import messages, running

TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}


def pod(**metadata: str) -> Obj:
    volume = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": TEMPLATE}}
    spec = {"volumes": [volume, {"name": "other", "emptyDir": {}}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", **metadata},
        "spec": spec,
    }


async def test_a_pod_owns_the_claims_of_its_templates() -> None:
    api = FakeApi()
    async with running(api, EphemeralVolumeController):
        made = await api.client.create(PODS, pod())
        (claim,) = await api.until(lambda: api.all(PERSISTENT_VOLUME_CLAIMS))
        assert claim["metadata"]["name"] == "web-scratch"
        assert labels_of(claim) == {"a": "b"}
        assert claim["spec"] == TEMPLATE["spec"]
        owner = controller_of(claim)
        assert owner is not None
        assert (owner["kind"], owner["uid"]) == ("Pod", made["metadata"]["uid"])


async def test_anothers_claim_of_that_name_is_not_taken() -> None:
    api = FakeApi()
    meta = {"name": "web-scratch", "namespace": "default"}
    await api.client.create(
        PERSISTENT_VOLUME_CLAIMS, {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta}
    )
    async with running(api, EphemeralVolumeController):
        await api.client.create(PODS, pod())
        said = (
            "ephemeral volume scratch: PVC default/web-scratch was not created for pod default/web (pod is not owner)"
        )
        await api.until(lambda: said in messages(api, "FailedBinding"))


async def test_nothing_is_made_for_a_pod_that_goes() -> None:
    api = FakeApi()
    await api.client.create(PODS, {**pod(), "metadata": {**pod()["metadata"], "finalizers": ["x/y"]}})
    await api.client.delete(PODS, "web", "default")
    async with running(api, EphemeralVolumeController) as (controller,):
        await controller.reconcile("default/web")
    assert api.all(PERSISTENT_VOLUME_CLAIMS) == []
