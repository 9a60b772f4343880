"""Controllers that reach every object there is also reach those that definitions bring: namespaces, garbage, quotas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pinnace.machinery.meta import Obj
from pinnace.testing import ApiError, Cluster
from tests.apiserver.custom import GROUP, SCHEMA, cron_tab, definition, version

NAME = f"crontabs.{GROUP}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(scheduler=False) as made:
        made.api.create(definition(version(subresources={"status": {}})))
        made.api.wait_for("customresourcedefinitions", NAME, "Established")
        yield made


def owner(obj: Obj) -> Obj:
    meta = obj["metadata"]
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": meta["name"], "uid": meta["uid"]}


def config_map(name: str, *owners: Obj) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "ownerReferences": [owner(one) for one in owners]},
    }


def test_a_namespace_takes_its_custom_objects_along(cluster: Cluster) -> None:
    namespace = cluster.create_namespace()
    cluster.api.create(cron_tab("a", spec={"image": "x"}), namespace)

    cluster.api.delete("namespaces", namespace)

    cluster.api.wait_gone("namespaces", namespace)
    assert not cluster.api.list(f"{GROUP}/v1/crontabs", namespace)


def test_what_a_custom_object_owns_goes_with_it(cluster: Cluster) -> None:
    namespace = cluster.create_namespace()
    made = cluster.api.create(cron_tab("a", spec={"image": "x"}), namespace)
    cluster.api.create(config_map("owned", made), namespace)

    cluster.api.delete("crontabs", "a", namespace)

    cluster.api.wait_gone("configmaps", "owned", namespace)


def test_a_custom_object_goes_with_its_owner(cluster: Cluster) -> None:
    namespace = cluster.create_namespace()
    made = cluster.api.create(config_map("owner"), namespace)
    owned = cron_tab("a")
    owned["metadata"]["ownerReferences"] = [owner(made)]
    cluster.api.create(owned, namespace)

    cluster.api.delete("configmaps", "owner", namespace, propagation="Foreground")

    cluster.api.wait_gone("crontabs", "a", namespace)


def test_quotas_count_custom_objects(cluster: Cluster) -> None:
    namespace = cluster.create_namespace()
    count = f"count/{NAME}"
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {count: "1"}}}
    cluster.api.create(quota, namespace)

    def used(amount: str) -> Any:
        return lambda found: (found.get("status") or {}).get("used") == {count: amount}

    cluster.api.wait_for("resourcequotas", "q", used("0"), namespace)
    cluster.api.create(cron_tab("a"), namespace)
    cluster.api.wait_for("resourcequotas", "q", used("1"), namespace)
    with pytest.raises(ApiError, match=f"exceeded quota: q, requested: {count}=1, used: {count}=1, limited: {count}=1"):
        cluster.api.create(cron_tab("b"), namespace)
    cluster.api.delete("crontabs", "a", namespace)
    cluster.api.wait_for("resourcequotas", "q", used("0"), namespace)


def test_custom_objects_are_applied_by_field(cluster: Cluster) -> None:
    namespace = cluster.create_namespace()
    cluster.api.apply(cron_tab("a", spec={"image": "x", "replicas": 1}), namespace, manager="one")

    with pytest.raises(ApiError, match=r'conflict with "one": \.spec\.image'):
        cluster.api.apply(cron_tab("a", spec={"image": "y"}), namespace, manager="two", force=False)
    made = cluster.api.apply(cron_tab("a", spec={"replicas": 1}), namespace, manager="one")

    assert made["spec"] == {"replicas": 1}
    entries = {entry["manager"]: entry["fieldsV1"] for entry in made["metadata"]["managedFields"]}
    assert entries == {"one": {"f:spec": {"f:replicas": {}}}}


def test_map_lists_of_custom_objects_merge_by_their_keys(cluster: Cluster) -> None:
    ports = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "port": {"type": "integer"}},
        },
    }
    schema = {"type": "object", "properties": {**SCHEMA["properties"], "ports": ports}}
    cluster.api.create(definition(version(schema=schema), plural="merged", kind="Merged"))
    cluster.api.wait_for("customresourcedefinitions", f"merged.{GROUP}", "Established")
    namespace = cluster.create_namespace()
    mine, other = ({**cron_tab("a"), "kind": "Merged", "ports": [{"name": name, "port": 1}]} for name in "xy")

    cluster.api.apply(mine, namespace, manager="one")
    made = cluster.api.apply(other, namespace, manager="two", force=False)

    assert made["ports"] == [{"name": "x", "port": 1}, {"name": "y", "port": 1}]
