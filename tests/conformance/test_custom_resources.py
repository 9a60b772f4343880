"""What discovery says of custom resources."""

from __future__ import annotations

import json

from pinnace.testing import Api, Cluster
from tests.conformance.test_discovery import AGGREGATED
from tests.conformance.test_lists import fetch


def test_aggregated_discovery_names_custom_resources(cluster: Cluster, api: Api) -> None:
    """Conformance: "Aggregated Discovery Interface CRDs", "Aggregated Discovery Endpoint Accept Headers CRDs" """
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    spec = {
        "group": "discovery.example.com",
        "scope": "Namespaced",
        "names": {"plural": "boats", "singular": "boat", "kind": "Boat", "listKind": "BoatList"},
        "versions": [version],
    }
    name = "boats.discovery.example.com"
    body = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name}}
    api.create({**body, "spec": spec})
    try:
        api.wait_for("crd", name, "Established")

        def discovered() -> bool:
            document = json.loads(fetch(cluster, "/apis", Accept=AGGREGATED)[1])
            groups = {group["metadata"]["name"]: group for group in document["items"]}
            boats = groups.get("discovery.example.com", {"versions": []})["versions"]
            return [(one["version"], [r["resource"] for r in one["resources"]]) for one in boats] == [("v1", ["boats"])]

        api.wait_until(discovered)
    finally:
        api.delete("crd", name)
        api.wait_gone("crd", name)
