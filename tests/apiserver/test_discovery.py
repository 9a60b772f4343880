"""Discovery documents, plain and aggregated."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pinnace.apis.registry import registry
from pinnace.apiserver.discovery import Discovery

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
KUBECTL = ",".join([AGGREGATED.format("v2"), AGGREGATED.format("v2beta1"), "application/json"])


@pytest.fixture(scope="module")
def discovery() -> Discovery:
    return Discovery(registry().groups(), registry().kinds, "10.0.0.1:6443")


def get(discovery: Discovery, path: str, accept: str = "application/json") -> Any:
    document = discovery.document(path, accept)
    assert document is not None
    return orjson.loads(document[1])


def test_the_core_group_names_its_versions(discovery: Discovery) -> None:
    assert get(discovery, "/api") == {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "10.0.0.1:6443"}],
    }


def test_groups_come_in_order_with_their_preferred_version(discovery: Discovery) -> None:
    groups = get(discovery, "/apis")["groups"]

    assert [group["name"] for group in groups][:3] == ["apiregistration.k8s.io", "apps", "events.k8s.io"]
    autoscaling = next(group for group in groups if group["name"] == "autoscaling")
    assert autoscaling["preferredVersion"] == {"groupVersion": "autoscaling/v2", "version": "v2"}
    assert get(discovery, "/apis/autoscaling/") == {"kind": "APIGroup", "apiVersion": "v1", **autoscaling}


def test_resources_list_their_subresources_after_them(discovery: Discovery) -> None:
    document = get(discovery, "/apis/apps/v1")
    by_name = {entry["name"]: entry for entry in document["resources"]}

    assert document["groupVersion"] == "apps/v1"
    assert [name for name in by_name if name.startswith("deployments")] == [
        "deployments",
        "deployments/scale",
        "deployments/status",
    ]
    assert by_name["deployments"] == {
        "name": "deployments",
        "singularName": "deployment",
        "namespaced": True,
        "kind": "Deployment",
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        "shortNames": ["deploy"],
        "categories": ["all"],
        "storageVersionHash": "8aSe+NMegvE=",
    }
    assert by_name["deployments/scale"] == {
        "name": "deployments/scale",
        "singularName": "",
        "namespaced": True,
        "group": "autoscaling",
        "version": "v1",
        "kind": "Scale",
        "verbs": ["get", "patch", "update"],
    }


@pytest.mark.parametrize(
    ("path", "resource", "digest"),
    [
        ("/api/v1", "pods", "xPOwRZ+Yhw8="),
        ("/api/v1", "events", "r2yiGXH7wu8="),
        ("/apis/events.k8s.io/v1", "events", "r2yiGXH7wu8="),  # stored as those of the core group
        ("/api/v1", "pods/status", None),
        ("/api/v1", "bindings", None),
        ("/api/v1", "componentstatuses", None),
        ("/apis/authorization.k8s.io/v1", "subjectaccessreviews", None),
    ],
)
def test_what_is_stored_has_the_hash_of_its_storage_version(
    discovery: Discovery, path: str, resource: str, digest: str | None
) -> None:
    by_name = {entry["name"]: entry for entry in get(discovery, path)["resources"]}

    assert by_name[resource].get("storageVersionHash") == digest


def test_every_version_has_the_hash_of_the_one_that_is_stored(discovery: Discovery) -> None:
    hashes = {
        next(one for one in get(discovery, f"/apis/autoscaling/{version}")["resources"])["storageVersionHash"]
        for version in ("v1", "v2")
    }

    assert len(hashes) == 1


def test_the_pods_subresources_are_all_there(discovery: Discovery) -> None:
    names = {entry["name"] for entry in get(discovery, "/api/v1")["resources"]}

    wanted = "attach binding ephemeralcontainers eviction exec log portforward proxy resize status"
    assert {f"pods/{name}" for name in wanted.split()} <= names


@pytest.mark.parametrize("version", ["v2", "v2beta1"])
def test_aggregated_discovery_tells_everything_in_two_documents(discovery: Discovery, version: str) -> None:
    found = discovery.document("/apis", AGGREGATED.format(version))
    assert found is not None
    content_type, body, etag = found
    document = orjson.loads(body)

    assert content_type == AGGREGATED.format(version)
    assert document["apiVersion"] == f"apidiscovery.k8s.io/{version}"
    assert etag.startswith('"')
    groups = [item["metadata"]["name"] for item in document["items"]]
    assert groups == [group["name"] for group in get(discovery, "/apis")["groups"]]
    (core,) = get(discovery, "/api", AGGREGATED.format(version))["items"]
    assert "name" not in core["metadata"]
    pods = next(entry for entry in core["versions"][0]["resources"] if entry["resource"] == "pods")
    assert pods["responseKind"] == {"group": "", "version": "v1", "kind": "Pod"}
    assert pods["scope"] == "Namespaced"
    eviction = next(entry for entry in pods["subresources"] if entry["subresource"] == "eviction")
    assert eviction["responseKind"] == {"group": "policy", "version": "v1", "kind": "Eviction"}


@pytest.mark.parametrize(
    ("accept", "aggregated"),
    [
        (KUBECTL, True),
        ("application/json", False),
        ("*/*", False),
        ("", False),
        ("application/json, " + AGGREGATED.format("v2"), False),
        (AGGREGATED.format("v9") + ",application/json", False),
        ("application/vnd.kubernetes.protobuf," + AGGREGATED.format("v2"), True),
    ],
)
def test_the_client_chooses_the_shape(discovery: Discovery, accept: str, aggregated: bool) -> None:
    kind = get(discovery, "/apis", accept)["kind"]

    assert kind == ("APIGroupDiscoveryList" if aggregated else "APIGroupList")


def test_only_the_two_roots_are_aggregated(discovery: Discovery) -> None:
    assert get(discovery, "/apis/apps/v1", KUBECTL)["kind"] == "APIResourceList"


@pytest.mark.parametrize("path", ["/", "/apis/nothing", "/apis/apps/v9", "/api/v2", "/api/v1/pods", "/version"])
def test_other_paths_are_not_discovery(discovery: Discovery, path: str) -> None:
    assert discovery.document(path, "*/*") is None
