"""Create, get, list, watch, update, patch, delete, deletecollection and status, for every kind that must have them."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.testing import Api, ApiError
from tests.conformance.samples import SAMPLES, Sample

NAMES = {"IPAddress": ("192.0.2.77", "192.0.2.78")}  # where a name must mean something


def named(sample: Sample, number: int = 0) -> str:
    return NAMES.get(sample.kind, ("first", "second"))[number]


def made(sample: Sample, number: int, run: str) -> dict[str, Any]:
    metadata = {"name": named(sample, number), "labels": {"run": run}}
    return {"apiVersion": sample.api_version, "kind": sample.kind, "metadata": metadata, **sample.body}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.kind)
def test_every_operation(api: Api, namespace: str, sample: Sample) -> None:
    """Conformance: "ConfigMap lifecycle", "ConfigMap Update", "Secret patching", "PodTemplate lifecycle",
    "PodTemplate, replace", "PodTemplate, delete a collection", "LimitRange, list, patch and delete a LimitRange by
    collection", "ServiceAccount lifecycle test", "ServiceAccount, update a ServiceAccount", "Service, deletes a
    collection of services", "Endpoint resource lifecycle", "Node, resource lifecycle", "ControllerRevision, resource
    lifecycle", "DaemonSet, list and delete a collection of DaemonSets", "ReplicaSet, list and delete a collection of
    ReplicaSets", "StatefulSet, list, patch and delete a collection of StatefulSets", "CronJob API Operations",
    "PodDisruptionBudget: list and delete collection", "PodDisruptionBudget: create, update, patch, and delete object",
    "Ingress API", "IngressClass API", "IPAddress API", "ServiceCIDR API", "EndpointSlice API", "lease API should be
    available", "RuntimeClass API", "Scheduler, Verify PriorityClass endpoints", "Priority and Fairness FlowSchema API",
    "Priority and Fairness PriorityLevelConfiguration API", "CRUD operations for clustertrustbundles", "StorageClass,
    lifecycle", "CSIDriver, lifecycle", "CSINode, lifecycle", "CSIStorageCapacity API", "VolumeAttachment, lifecycle",
    "VolumeAttributesClass, lifecycle", "CRUD operations for deviceclasses", "CRUD operations for resourceclaims", "CRUD
    operations for resourceclaimtemplates", "CRUD operations for resoureslices", "PersistentVolumes(Claims), lifecycle",
    "Admission webhook, list mutating webhooks", "Admission webhook, list validating webhooks",
    "ValidatingAdmissionPolicy API", "ValidatingadmissionPolicyBinding API", "MutatingAdmissionPolicy API",
    "MutatingAdmissionPolicyBinding API", "CRUD operations for storageversionmigrations", "CRUD operations for
    devicetaintrules", "PodCertificateRequest API operations"
    """
    place = namespace if sample.namespaced else ""
    _is_discovered(api, sample)
    first = api.create(made(sample, 0, namespace), place)
    name = named(sample)
    selector = f"run={namespace}"
    watched = api.watch(sample.name, place, labels=selector, resource_version=first["metadata"]["resourceVersion"])
    with watched:
        assert api.get(sample.name, name, place)["metadata"]["uid"] == first["metadata"]["uid"]
        assert [one["metadata"]["name"] for one in api.list(sample.name, place, labels=selector)] == [name]
        assert name in [one["metadata"]["name"] for one in api.list(sample.name)]

        patch = {"metadata": {"labels": {"patched": "yes"}}}
        assert api.patch(sample.name, name, patch, place)["metadata"]["labels"]["patched"] == "yes"
        updated = _updated(api, sample, name, place)
        assert updated["metadata"]["annotations"]["updated"] == "yes"
        assert api.get(sample.name, name, place)["metadata"]["labels"]["patched"] == "yes"
        _seen(watched, "MODIFIED", lambda obj: "updated" in obj["metadata"].get("annotations", {}))

        api.delete(sample.name, name, place)
        _seen(watched, "DELETED", lambda obj: obj["metadata"]["name"] == name)
    api.wait_gone(sample.name, name, place)

    for number in (0, 1):
        api.create(made(sample, number, namespace), place)
    assert len(api.list(sample.name, place, labels=selector)) == 2
    path = api.resource(sample.name)[0].path(place)
    api.request("DELETE", path, params={"labelSelector": selector})
    api.wait_until(lambda: not api.list(sample.name, place, labels=selector))


@pytest.mark.parametrize("sample", [one for one in SAMPLES if one.status], ids=lambda sample: sample.kind)
def test_the_status_is_read_patched_and_updated_apart(api: Api, namespace: str, sample: Sample) -> None:
    """Conformance: "Service, complete ServiceStatus lifecycle", "PersistentVolumes(Claims), apply changes to a pv/pvc
    status", "Deployment, status sub-resource", "ReplicaSet, status sub-resource", "StatefulSet, status sub-resource",
    "DaemonSet, status sub-resource", "Jobs, apply changes to status", "PodDisruptionBudget: Status updates",
    "PodDisruptionBudget: update and patch status", "VolumeAttachment, apply changes to a volumeattachment status"
    """
    assert sample.status is not None
    place = namespace if sample.namespaced else ""
    name = named(sample)
    api.create(made(sample, 0, namespace), place)
    try:
        path = api.resource(sample.name)[0].path(place, name)
        patched = api.patch(sample.name, name, {"status": sample.status}, place, subresource="status")
        assert _holds(patched["status"], sample.status)
        read = api.request("GET", f"{path}/status")
        assert read["kind"] == sample.kind
        assert read["metadata"]["name"] == name
        spec = read.get("spec")

        def update() -> bool:
            body = api.request("GET", f"{path}/status")
            body["metadata"].setdefault("annotations", {})["status"] = "updated"
            body["status"] = {**body.get("status", {}), **sample.status}  # type: ignore[dict-item]
            try:
                return _holds(api.update(body, subresource="status")["status"], sample.status or {})
            except ApiError as error:
                if not error.is_conflict:
                    raise
                return False

        api.wait_until(update)
        assert api.get(sample.name, name, place).get("spec") == spec
    finally:
        api.delete(sample.name, name, place)


def _is_discovered(api: Api, sample: Sample) -> None:
    group, _, version = sample.api_version.rpartition("/")
    if group:
        assert group in [one["name"] for one in api.request("GET", "/apis")["groups"]]
        versions = api.request("GET", f"/apis/{group}")["versions"]
        assert {"groupVersion": sample.api_version, "version": version} in versions
    prefix = f"/apis/{sample.api_version}" if group else f"/api/{version}"
    served = {one["name"]: one for one in api.request("GET", prefix)["resources"]}
    wanted = {"create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"}
    assert wanted <= set(served[sample.resource]["verbs"])
    assert served[sample.resource]["namespaced"] == sample.namespaced
    if sample.status:
        assert set(served[f"{sample.resource}/status"]["verbs"]) == {"get", "patch", "update"}


def _updated(api: Api, sample: Sample, name: str, place: str) -> dict[str, Any]:
    """The object after an update that has won over what the controllers write meanwhile."""

    def update() -> dict[str, Any]:
        body = api.get(sample.name, name, place)
        body["metadata"].setdefault("annotations", {})["updated"] = "yes"
        try:
            return api.update(body)
        except ApiError as error:
            if not error.is_conflict:
                raise
            return {}

    found: dict[str, Any] = api.wait_until(update)
    return found


def _seen(events: Any, kind: str, which: Any) -> None:
    for event in events:
        if event["type"] == kind and which(event["object"]):
            return


def _holds(whole: Any, part: Any) -> bool:
    """Whether every field of `part` is in `whole`; an element of a list, anywhere in the list."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(_holds(whole.get(name), value) for name, value in part.items())
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(_holds(one, wanted) for one in whole) for wanted in part)
    return bool(whole == part)
