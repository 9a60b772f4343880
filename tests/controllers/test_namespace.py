"""Namespaces get what every namespace has, and are emptied before they go."""

from __future__ import annotations

from typing import Any

from pinnace.apis.registry import Registry
from pinnace.apis.resources import API_SERVICES, CONFIG_MAPS, NAMESPACES, PODS, SECRETS, SERVICE_ACCOUNTS
from pinnace.controllers.aggregated import resources_of
from pinnace.controllers.namespace import NamespaceController
from pinnace.controllers.root_ca import RootCaController
from pinnace.controllers.served import Resource, ServedResources
from pinnace.controllers.serviceaccount import ServiceAccountController
from pinnace.machinery.meta import GVR, Obj
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import conditions, running


def make(client: Any, informers: Any) -> NamespaceController:
    return NamespaceController(client, informers, ServedResources(Registry(), informers))


def namespace(name: str = "shop") -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def held(kind: str, name: str, *finalizers: str) -> Obj:
    metadata: Obj = {"name": name, "namespace": "shop"}
    if finalizers:
        metadata["finalizers"] = list(finalizers)
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


async def test_a_namespace_goes_with_all_that_is_in_it() -> None:
    api = FakeApi()
    await api.client.create(NAMESPACES, namespace())
    await api.client.create(NAMESPACES, namespace("other"))
    await api.client.create(CONFIG_MAPS, held("ConfigMap", "a"))
    await api.client.create(PODS, held("Pod", "a"))
    kept = held("ConfigMap", "kept")
    kept["metadata"]["namespace"] = "other"
    await api.client.create(CONFIG_MAPS, kept)
    async with running(api, make):
        await api.client.delete(NAMESPACES, "shop")
        await api.until(lambda: api.find(NAMESPACES, "shop") is None)
        assert not api.all(PODS)
        assert [obj["metadata"]["name"] for obj in api.all(CONFIG_MAPS)] == ["kept"]


async def test_what_keeps_a_namespace_is_said() -> None:
    api = FakeApi()
    await api.client.create(NAMESPACES, namespace())
    await api.client.create(PODS, held("Pod", "slow", "example.com/drain"))
    await api.client.create(SECRETS, held("Secret", "s"))
    async with running(api, make):
        await api.client.delete(NAMESPACES, "shop")
        await api.until(lambda: "NamespaceContentRemaining" in conditions(api.find(NAMESPACES, "shop")))
        assert conditions(api.find(NAMESPACES, "shop")) == {
            "NamespaceDeletionDiscoveryFailure": (
                "False",
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
            "NamespaceDeletionGroupVersionParsingFailure": (
                "False",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
            "NamespaceDeletionContentFailure": (
                "False",
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
            "NamespaceContentRemaining": (
                "True",
                "SomeResourcesRemain",
                "Some resources are remaining: pods. has 1 resource instances",
            ),
            "NamespaceFinalizersRemaining": (
                "True",
                "SomeFinalizersRemain",
                "Some content in the namespace has finalizers remaining: example.com/drain in 1 resource instances",
            ),
        }
        assert api.all(SECRETS)  # pods may still need it
        await api.client.patch(PODS, "slow", {"metadata": {"finalizers": None}}, "shop")
        await api.until(lambda: api.find(NAMESPACES, "shop") is None)
        assert not api.all(SECRETS)


DISCOVERED = {
    "resources": [
        {"name": "boats", "kind": "Boat", "namespaced": True, "verbs": ["delete", "deletecollection", "get", "list"]},
        {"name": "boats/status", "kind": "Boat", "namespaced": True, "verbs": ["get", "update"]},
        {"name": "harbours", "kind": "Harbour", "namespaced": False, "verbs": ["delete", "list"]},
        {"name": "tides", "kind": "Tide", "namespaced": True, "verbs": ["get", "list"]},
    ]
}


def test_resources_of_aggregated_servers_that_hold_something() -> None:
    boats = GVR("sea.example.com", "v1", "boats")
    assert resources_of("sea.example.com", "v1", DISCOVERED) == [Resource(boats, "Boat", True, False, True)]


async def test_a_namespace_waits_for_servers_that_do_not_answer() -> None:
    api = FakeApi()
    boats = GVR("sea.example.com", "v1", "boats")
    service: Obj = {
        "metadata": {"name": "v1.sea.example.com"},
        "spec": {"group": "sea.example.com", "version": "v1", "service": {"name": "sea", "namespace": "default"}},
        "status": {"conditions": [{"type": "Available", "status": "False"}]},
    }
    answer = api.request

    async def request(method: str, path: str, **given: Any) -> Obj:
        return DISCOVERED if path == "/apis/sea.example.com/v1" else await answer(method, path, **given)

    api.client.transport.request = request  # type: ignore[method-assign]
    await api.client.create(API_SERVICES, service)
    await api.client.create(NAMESPACES, namespace())
    await api.client.create(SECRETS, held("Secret", "s"))
    await api.client.create(boats, held("Boat", "b"))
    async with running(api, make):
        await api.client.delete(NAMESPACES, "shop")
        await api.until(lambda: "NamespaceDeletionDiscoveryFailure" in conditions(api.find(NAMESPACES, "shop")))
        assert conditions(api.find(NAMESPACES, "shop"))["NamespaceDeletionDiscoveryFailure"] == (
            "True",
            "DiscoveryFailed",
            (
                "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: "
                "sea.example.com/v1: stale GroupVersion discovery: sea.example.com/v1"
            ),
        )
        assert not api.all(SECRETS)  # what can be asked is
        available = {"conditions": [{"type": "Available", "status": "True"}]}
        await api.set_status(API_SERVICES, "v1.sea.example.com", available)
        await api.until(lambda: api.find(NAMESPACES, "shop") is None)
        assert not api.all(boats)


async def test_every_namespace_has_a_service_account_and_the_root_ca() -> None:
    api = FakeApi()

    def root_ca(client: Any, informers: Any) -> RootCaController:
        return RootCaController(client, informers, "PEM")

    async with running(api, root_ca, ServiceAccountController):
        await api.client.create(NAMESPACES, namespace())
        await api.until(lambda: api.find(SERVICE_ACCOUNTS, "shop/default"))
        found = await api.until(lambda: api.find(CONFIG_MAPS, "shop/kube-root-ca.crt"))
        assert found["data"] == {"ca.crt": "PEM"}
        await api.client.delete(SERVICE_ACCOUNTS, "default", "shop")
        await api.until(lambda: api.find(SERVICE_ACCOUNTS, "shop/default"))
        await api.client.patch(CONFIG_MAPS, "kube-root-ca.crt", {"data": {"ca.crt": "forged"}}, "shop")
        await api.until(lambda: (api.find(CONFIG_MAPS, "shop/kube-root-ca.crt") or {})["data"] == {"ca.crt": "PEM"})
