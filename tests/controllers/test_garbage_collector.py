"""Objects go when their owners have gone; owners wait for, or let go of, their dependents as they were asked to."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pinnace.apis.registry import Registry
from pinnace.apis.resources import CONFIG_MAPS, CUSTOM_RESOURCE_DEFINITIONS, DEPLOYMENTS, NODES, PODS, REPLICA_SETS
from pinnace.controllers.garbage_collector import Action, GarbageCollector, Owner, decide
from pinnace.controllers.served import ServedResources
from pinnace.machinery.meta import GVR, Obj, name_of, owner_reference
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import messages, running


def make(client: Any, informers: Any) -> GarbageCollector:
    return GarbageCollector(client, informers, ServedResources(Registry(), informers))


async def create(
    api: FakeApi, resource: GVR, kind: str, name: str, *owners: Obj, finalizers: tuple[str, ...] = ()
) -> Obj:
    metadata: Obj = {"name": name, "namespace": "default"}
    if owners:
        metadata["ownerReferences"] = [owner_reference(owner) for owner in owners]
    if finalizers:
        metadata["finalizers"] = list(finalizers)
    return await api.client.create(
        resource, {"apiVersion": resource.api_version, "kind": kind, "metadata": metadata, "spec": {}}
    )


async def chain(api: FakeApi) -> Obj:
    """A Deployment, its ReplicaSet, and that one's two pods."""
    deployment = await create(api, DEPLOYMENTS, "Deployment", "web")
    replica_set = await create(api, REPLICA_SETS, "ReplicaSet", "web-1", deployment)
    for name in ("a", "b"):
        await create(api, PODS, "Pod", name, replica_set)
    return deployment


@pytest.mark.parametrize(
    ("owners", "has_dependents", "expected"),
    [
        ([], False, Action.NOTHING),
        ([Owner.SOLID], False, Action.NOTHING),
        ([Owner.SOLID, Owner.ABSENT], False, Action.DROP_REFERENCES),
        ([Owner.SOLID, Owner.WAITING], True, Action.DROP_REFERENCES),
        ([Owner.ABSENT], True, Action.DELETE),
        ([Owner.WAITING], False, Action.DELETE),
        ([Owner.WAITING], True, Action.DELETE_FOREGROUND),
        ([Owner.ABSENT, Owner.WAITING], True, Action.DELETE_FOREGROUND),
    ],
)
def test_what_becomes_of_a_dependent(owners: list[Owner], has_dependents: bool, expected: Action) -> None:
    for order in itertools.permutations(owners):
        assert decide(order, has_dependents=has_dependents) is expected


async def test_dependents_follow_their_owner() -> None:
    api = FakeApi()
    await chain(api)
    async with running(api, make):
        await api.client.delete(DEPLOYMENTS, "web", "default", propagation_policy="Background")
        await api.until(lambda: not api.all(REPLICA_SETS) and not api.all(PODS))


async def test_orphans_are_found_when_the_collector_starts() -> None:
    api = FakeApi()
    await chain(api)
    await api.client.delete(DEPLOYMENTS, "web", "default")
    async with running(api, make):
        await api.until(lambda: not api.all(REPLICA_SETS) and not api.all(PODS))


async def test_an_owner_deleted_in_the_foreground_goes_last() -> None:
    api = FakeApi()
    deployment = await chain(api)
    await create(api, CONFIG_MAPS, "ConfigMap", "held", deployment, finalizers=("example.com/mine",))
    async with running(api, make):
        await api.client.delete(DEPLOYMENTS, "web", "default", propagation_policy="Foreground")
        await api.until(lambda: not api.all(REPLICA_SETS) and not api.all(PODS))
        owner = api.find(DEPLOYMENTS, "default/web")
        assert owner is not None
        assert owner["metadata"]["finalizers"] == ["foregroundDeletion"]
        await api.client.patch(CONFIG_MAPS, "held", {"metadata": {"finalizers": None}}, "default")
        await api.until(lambda: not api.all(DEPLOYMENTS))
    gone = [name_of(event["object"]) for _, event in api.history if event["type"] == "DELETED"]
    assert gone.index("web-1") > max(gone.index("a"), gone.index("b"))
    assert gone[-1] == "web"


async def test_orphaned_dependents_stay() -> None:
    api = FakeApi()
    await chain(api)
    async with running(api, make):
        await api.client.delete(DEPLOYMENTS, "web", "default", propagation_policy="Orphan")
        await api.until(lambda: not api.all(DEPLOYMENTS))
        (replica_set,) = api.all(REPLICA_SETS)
        assert "ownerReferences" not in replica_set["metadata"]
        assert len(api.all(PODS)) == 2


async def test_one_of_two_owners_is_enough() -> None:
    api = FakeApi()
    one, other = [await create(api, CONFIG_MAPS, "ConfigMap", name) for name in ("one", "other")]
    await create(api, PODS, "Pod", "shared", one, other)
    async with running(api, make):
        await api.client.delete(CONFIG_MAPS, "one", "default")

        def owners() -> list[str]:
            return [ref["name"] for ref in (api.find(PODS, "default/shared") or {})["metadata"]["ownerReferences"]]

        await api.until(lambda: owners() == ["other"])


async def test_an_owner_of_the_same_name_is_not_the_owner() -> None:
    api = FakeApi()
    owner = await create(api, CONFIG_MAPS, "ConfigMap", "owner")
    await api.client.delete(CONFIG_MAPS, "owner", "default")
    await create(api, CONFIG_MAPS, "ConfigMap", "owner")
    await create(api, PODS, "Pod", "a", owner)
    async with running(api, make):
        await api.until(lambda: not api.all(PODS))


async def test_an_owner_in_another_namespace_does_not_count() -> None:
    api = FakeApi()
    owner = await create(api, CONFIG_MAPS, "ConfigMap", "owner")
    stray = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "other"}, "spec": {}}
    stray["metadata"]["ownerReferences"] = [owner_reference(owner)]  # type: ignore[index]
    await api.client.create(PODS, stray)
    node = await api.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})
    await create(api, PODS, "Pod", "mirror", node)
    async with running(api, make):
        await api.until(lambda: [name_of(pod) for pod in api.all(PODS)] == ["mirror"])
        named = f"[v1/ConfigMap, namespace: other, name: owner, uid: {owner['metadata']['uid']}]"
        said = f'ownerRef {named} does not exist in namespace "other"'
        await api.until(lambda: said in messages(api, "OwnerRefInvalidNamespace"))


async def test_custom_resources_are_collected_too() -> None:
    api = FakeApi()
    widgets = GVR("example.com", "v1", "widgets")
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": True, "storage": True}],
        },
        "status": {"conditions": [{"type": "Established", "status": "True"}]},
    }
    async with running(api, make):
        await api.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition)
        widget = await create(api, widgets, "Widget", "w")
        await create(api, PODS, "Pod", "a", widget)
        owner = await create(api, CONFIG_MAPS, "ConfigMap", "owner")
        await create(api, widgets, "Widget", "owned", owner)
        await api.client.delete(widgets, "w", "default")
        await api.client.delete(CONFIG_MAPS, "owner", "default")
        await api.until(lambda: not api.all(PODS) and not api.all(widgets))
