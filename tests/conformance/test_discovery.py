"""Version and discovery documents."""

from __future__ import annotations

import json

from pinnace.testing import Api, Cluster
from tests.conformance.test_lists import fetch

BUILT_IN = {
    ("", "v1", "namespaces"),
    ("", "v1", "pods"),
    ("apps", "v1", "deployments"),
    ("batch", "v1", "jobs"),
    ("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "v1", "apiservices"),
    ("autoscaling", "v2", "horizontalpodautoscalers"),
    ("networking.k8s.io", "v1", "ingresses"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("scheduling.k8s.io", "v1", "priorityclasses"),
    ("storage.k8s.io", "v1", "storageclasses"),
}
AGGREGATED = "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io"


def test_the_version_is_two_numbers(api: Api) -> None:
    """Conformance: "Confirm a server version" """
    version = api.request("GET", "/version")
    assert version["major"].isdigit()
    assert version["minor"].isdigit()


def test_every_group_prefers_a_version_it_has(api: Api) -> None:
    """Conformance: "Discovery, confirm the PreferredVersion for each api group" """
    groups = api.request("GET", "/apis")["groups"]
    assert groups
    for group in groups:
        alone = api.request("GET", f"/apis/{group['name']}")
        assert alone["preferredVersion"] in alone["versions"]
        assert alone["preferredVersion"] == group["preferredVersion"]


def test_every_version_lists_its_resources(api: Api) -> None:
    """Conformance: "Discovery, confirm the groupVerion and a resourcefrom each apiGroup" """
    versions = ["v1"] + [
        one["groupVersion"] for group in api.request("GET", "/apis")["groups"] for one in group["versions"]
    ]
    for group_version in versions:
        prefix = "/apis" if "/" in group_version else "/api"
        listed = api.request("GET", f"{prefix}/{group_version}")
        assert listed["groupVersion"] == group_version
        assert listed["resources"][0]["name"]


def test_aggregated_discovery_names_everything_built_in(cluster: Cluster) -> None:
    """Conformance: "Aggregated Discovery Interface", "Aggregated Discovery Endpoint Accept Headers" """
    found = set()
    for path in ("/api", "/apis"):
        for version in ("v2", "v2beta1"):
            status, body = fetch(cluster, path, Accept=AGGREGATED.replace("v2", version))
            assert status == 200
            document = json.loads(body)
            assert document["kind"] == "APIGroupDiscoveryList"
            assert document["apiVersion"] == f"apidiscovery.k8s.io/{version}"
        for group in document["items"]:
            name = group["metadata"].get("name", "")
            for version in group["versions"]:
                found |= {(name, version["version"], one["resource"]) for one in version["resources"]}
    assert found >= BUILT_IN
    _, body = fetch(cluster, "/apis", Accept="application/json")
    assert json.loads(body)["kind"] == "APIGroupList"
