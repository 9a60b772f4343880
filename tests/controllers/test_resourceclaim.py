"""Pods get the devices' claims they ask for by template, and give them back."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis.resources import PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS
from pinnace.controllers.resourceclaim import FINALIZER, ResourceClaimController, claim_names, is_done, still_reserved
from pinnace.machinery.meta import Obj, annotations_of, controller_of, labels_of, name_of, owner_reference, uid_of
from pinnace.testing import Cluster
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import messages, running

TEMPLATE: Obj = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaimTemplate",
    "metadata": {"name": "gpu", "namespace": "default"},
    "spec": {"metadata": {"labels": {"a": "b"}}, "spec": {"devices": {"requests": []}}},
}


def pod(**status: Any) -> Obj:
    claims = [{"name": "dev", "resourceClaimTemplateName": "gpu"}, {"name": "own", "resourceClaimName": "mine"}]
    spec = {"nodeName": "n1", "resourceClaims": claims}
    meta = {"name": "web", "namespace": "default", "uid": "p1"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def reserved(uid: str, name: str = "web") -> Obj:
    return {"resource": "pods", "name": name, "uid": uid}


def test_the_names_of_a_pods_claims() -> None:
    assert claim_names(pod()) == {"own": "mine"}
    made = [{"name": "dev", "resourceClaimName": "web-dev-1"}]
    assert claim_names(pod(resourceClaimStatuses=made)) == {"dev": "web-dev-1", "own": "mine"}


@pytest.mark.parametrize(
    ("phase", "deleting", "node", "expected"),
    [
        ("Running", False, "n1", False),
        ("Succeeded", False, "n1", True),
        ("Pending", True, "", True),
        ("Running", True, "n1", False),
    ],
)
def test_when_a_pod_is_done(phase: str, deleting: bool, node: str, expected: bool) -> None:
    metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {}
    assert is_done({"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": phase}}) is expected


@pytest.mark.parametrize(
    ("consumers", "pods", "kept"),
    [
        ([reserved("p1")], {"web": pod(phase="Running")}, 1),
        ([reserved("p1")], {"web": pod(phase="Failed")}, 0),
        ([reserved("p0")], {"web": pod(phase="Running")}, 0),
        ([reserved("p1")], {}, 0),
        ([{"apiGroup": "x.io", "resource": "things", "name": "t", "uid": "u"}], {}, 1),
    ],
)
def test_who_still_needs_a_claim(consumers: list[Obj], pods: dict[str, Obj], kept: int) -> None:
    assert len(still_reserved({"status": {"reservedFor": consumers}}, pods)) == kept


async def test_a_claim_is_made_named_and_deleted() -> None:
    api = FakeApi()
    async with running(api, ResourceClaimController):
        await api.client.create(PODS, pod(phase="Pending"))
        said = (
            'PodResourceClaim dev: resource claim template "gpu": resourceclaimtemplate.resource.k8s.io "gpu" not found'
        )
        await api.until(lambda: said in messages(api, "FailedResourceClaimCreation"))
        await api.client.create(RESOURCE_CLAIM_TEMPLATES, TEMPLATE)
        (made,) = await api.until(lambda: api.all(RESOURCE_CLAIMS))
        assert name_of(made).startswith("web-dev-")
        assert (labels_of(made), made["spec"]) == ({"a": "b"}, TEMPLATE["spec"]["spec"])
        assert annotations_of(made) == {"resource.kubernetes.io/pod-claim-name": "dev"}
        assert (controller_of(made) or {})["uid"] == "p1"
        statuses = lambda: (api.all(PODS)[0].get("status") or {}).get("resourceClaimStatuses")  # noqa: E731
        assert await api.until(statuses) == [{"name": "dev", "resourceClaimName": name_of(made)}]
        await api.set_status(PODS, "default/web", {"phase": "Succeeded"})
        await api.until(lambda: not api.all(RESOURCE_CLAIMS))


async def test_a_claim_for_extended_resources_goes_when_its_pod_is_done() -> None:
    api = FakeApi()
    owner = await api.client.create(PODS, {**pod(phase="Running"), "spec": {"nodeName": "n"}})
    metadata: Obj = {"name": "web-extended", "namespace": "default", "ownerReferences": [owner_reference(owner)]}
    await api.client.create(RESOURCE_CLAIMS, {"kind": "ResourceClaim", "metadata": metadata, "spec": {}})
    status: Obj = {"phase": "Running", "extendedResourceClaimStatus": {"resourceClaimName": "web-extended"}}
    async with running(api, ResourceClaimController):
        await api.set_status(PODS, "default/web", status)
        await api.set_status(PODS, "default/web", {**status, "phase": "Succeeded"})
        await api.until(lambda: not api.all(RESOURCE_CLAIMS))


async def test_devices_are_given_back() -> None:
    api = FakeApi()
    mine = {"metadata": {"name": "mine", "namespace": "default", "finalizers": [FINALIZER]}, "spec": {}}
    claim = await api.client.create(
        RESOURCE_CLAIMS, {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", **mine}
    )
    consumers = [reserved("p1")]
    allocation = {"allocation": {"devices": {}}, "reservedFor": consumers, "devices": [{"driver": "x"}]}
    await api.client.create(
        PODS, {**pod(phase="Running"), "spec": {"resourceClaims": pod()["spec"]["resourceClaims"][1:]}}
    )
    async with running(api, ResourceClaimController) as (controller,):
        await api.set_status(RESOURCE_CLAIMS, "default/mine", allocation)
        await api.until(lambda: controller.queue is not None and api.all(RESOURCE_CLAIMS)[0]["status"])
        assert uid_of(claim) == uid_of(api.all(RESOURCE_CLAIMS)[0])
        await api.client.delete(PODS, "web", "default")
        await api.until(lambda: not api.all(RESOURCE_CLAIMS)[0]["metadata"].get("finalizers"))
        assert api.all(RESOURCE_CLAIMS)[0]["status"] == {}


@pytest.mark.pinnace(scheduler=False)
def test_through_the_api(pinnace: Cluster) -> None:
    """What is written is what the API server takes."""
    api = pinnace.api
    request = {"name": "r", "exactly": {"deviceClassName": "gpu.example.com"}}
    api.create({**TEMPLATE, "spec": {"spec": {"devices": {"requests": [request]}}}})
    spec = {
        "containers": [{"name": "c", "image": "x"}],
        "resourceClaims": [{"name": "dev", "resourceClaimTemplateName": "gpu"}],
    }
    api.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec})
    found = api.wait_for("pods", "web", lambda found: found["status"].get("resourceClaimStatuses"))
    name = found["status"]["resourceClaimStatuses"][0]["resourceClaimName"]
    assert api.get("resourceclaims", name)["spec"]["devices"]["requests"][0]["name"] == "r"
    api.delete("pods", "web")
    api.wait_gone("resourceclaims", name)
