"""All controllers together, against the real API server in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pinnace.apis.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    EVENTS,
    JOBS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from pinnace.apiserver.server import ApiServer
from pinnace.client.client import Client
from pinnace.client.https import HttpsTransport
from pinnace.client.kubeconfig import Connection
from pinnace.client.leader_election import Election
from pinnace.client.transport import STRATEGIC_MERGE_PATCH, LoopbackTransport
from pinnace.controllers.manager import CONTROLLERS, ControllerManager, Options, known_names
from pinnace.controllers.selection import canonical, selected
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj, name_of, replace_in
from tests.controllers.conftest import TOKEN
from tests.controllers.simulation import conditions, pod_status
from tests.controllers.test_deployment import deployment, template
from tests.controllers.test_job import job

USER = "system:kube-controller-manager"


@asynccontextmanager
async def managing(server: ApiServer, **options: Any) -> AsyncIterator[None]:
    manager = ControllerManager(Client(LoopbackTransport(server, USER)), Options(**options))
    task = asyncio.create_task(manager.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(client: Client, resource: GVR, check: Callable[[list[Obj]], Any], namespace: str = "default") -> Any:
    """List, then watch, until `check` is satisfied with the objects there are."""
    async with asyncio.timeout(60):
        listed = await client.list(resource, namespace)
        known = {name_of(obj): obj for obj in listed["items"]}
        if found := check(list(known.values())):
            return found
        version = listed["metadata"]["resourceVersion"]
        async for event in client.watch(resource, namespace, resource_version=version):
            if event["type"] == "BOOKMARK":
                continue
            known[name_of(event["object"])] = event["object"]
            if event["type"] == "DELETED":
                del known[name_of(event["object"])]
            if found := check(list(known.values())):
                return found
    raise AssertionError


@asynccontextmanager
async def node_agent(client: Client, phase: str = "Running") -> AsyncIterator[None]:
    """Binds every pod to a node and reports it as running and ready, or as finished; confirms deletions."""

    async def play(pod: Obj) -> None:
        name, namespace = name_of(pod), pod["metadata"]["namespace"]
        try:
            if "deletionTimestamp" in pod["metadata"]:
                if "nodeName" in pod["spec"]:
                    await client.delete(PODS, name, namespace, grace_period_seconds=0)
            elif "nodeName" not in pod["spec"]:
                target = {"apiVersion": "v1", "kind": "Node", "name": "n1"}
                binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
                await client.create(PODS, binding, namespace, name=name, subresource="binding")
            elif (pod.get("status") or {}).get("phase") == "Pending":
                status = pod_status(phase, ready=phase == "Running", ip=f"10.0.0.{abs(hash(name)) % 250 + 1}")
                await client.update_status(PODS, replace_in(pod, status, "status"))
        except ApiError as error:
            if not (error.is_conflict or error.is_not_found):
                raise

    async def work() -> None:
        listed = await client.list(PODS)
        for pod in listed["items"]:
            await play(pod)
        async for event in client.watch(PODS, resource_version=listed["metadata"]["resourceVersion"]):
            if event["type"] in ("ADDED", "MODIFIED"):
                await play(event["object"])

    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
    made = await client.create(NODES, node)
    await client.update_status(NODES, {**made, "status": {"conditions": [ready]}})
    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError), results


def complete(name: str, replicas: int) -> Callable[[list[Obj]], Obj | None]:
    def check(found: list[Obj]) -> Obj | None:
        for obj in found:
            status = obj.get("status") or {}
            counts = [status.get(field, 0) for field in ("replicas", "updatedReplicas", "availableReplicas")]
            seen = status.get("observedGeneration") == obj["metadata"]["generation"]
            if name_of(obj) == name and seen and counts == [replicas] * 3:
                return obj
        return None

    return check


@pytest.mark.parametrize(
    ("controllers", "name", "expected"),
    [
        (["*"], "a", True),
        (["*", "-a"], "a", False),
        (["*", "-a"], "b", True),
        (["a"], "a", True),
        (["a"], "b", False),
        ([], "a", False),
        (["*"], "token-cleaner-controller", False),
        (["*", "tokencleaner"], "token-cleaner-controller", True),
        (["*", "-csrsigning"], "certificatesigningrequest-signing-controller", False),
    ],
)
def test_controllers_are_selected_as_by_the_flag(controllers: list[str], name: str, expected: bool) -> None:
    assert selected(name, controllers) is expected


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_controller_bears_the_name_it_is_selected_by(name: str) -> None:
    assert CONTROLLERS[name].name == name


def test_old_names_mean_new_ones() -> None:
    """And those that newer versions gave up are none."""
    assert canonical("-podgc") == "-pod-garbage-collector-controller"
    assert canonical("job-controller") == "job-controller"
    for old in ("bootstrapsigner", "nodeipam", "route", "storage-version-gc"):
        assert canonical(old) in known_names()


async def test_a_deployment_lives_and_dies(server: ApiServer, client: Client) -> None:
    async with managing(server, root_ca="PEM"), node_agent(client):
        await until(client, SERVICE_ACCOUNTS, lambda found: found)
        service: Obj = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        }
        await client.create(SERVICES, service)
        await client.create(DEPLOYMENTS, deployment())
        await until(client, DEPLOYMENTS, complete("web", 3))
        await client.patch(
            DEPLOYMENTS,
            "web",
            {"spec": {"template": template("nginx:2")}},
            "default",
            content_type=STRATEGIC_MERGE_PATCH,
        )
        await until(client, DEPLOYMENTS, complete("web", 3))
        await until(client, PODS, lambda pods: len(pods) == 3)
        await client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 5}}, "default")
        await until(client, DEPLOYMENTS, complete("web", 5))

        def addresses(found: list[Obj]) -> bool:
            subsets = [one for obj in found if name_of(obj) == "web" for one in obj.get("subsets") or ()]
            return sum(len(subset.get("addresses", ())) for subset in subsets) >= 4  # two may share an address here

        await until(client, ENDPOINTS, addresses)
        await until(client, ENDPOINT_SLICES, lambda found: any(len(one.get("endpoints") or ()) == 5 for one in found))
        await client.delete(DEPLOYMENTS, "web", "default", propagation_policy="Foreground")
        await until(client, DEPLOYMENTS, lambda found: not found)
        assert (await client.list(REPLICA_SETS, "default"))["items"] == []
        await until(client, PODS, lambda pods: not pods)
        await client.delete(SERVICES, "web", "default")
        await until(client, ENDPOINT_SLICES, lambda found: not any(name_of(one).startswith("web") for one in found))
        events = [event["message"] for event in (await client.list(EVENTS, "default"))["items"]]
        assert any(message.startswith("Scaled up replica set web-") for message in events)


async def test_a_job_completes(server: ApiServer, client: Client) -> None:
    async with managing(server, root_ca="PEM"), node_agent(client, "Succeeded"):
        await until(client, SERVICE_ACCOUNTS, lambda found: found)
        wanted = job(completions=3, parallelism=2)
        del wanted["spec"]["selector"]
        wanted["spec"]["template"]["metadata"] = {}
        await client.create(JOBS, wanted)
        (done,) = await until(client, JOBS, lambda found: [one for one in found if "Complete" in conditions(one)])
        assert done["status"]["succeeded"] == 3
        assert len((await client.list(PODS, "default"))["items"]) == 3
        await client.delete(JOBS, "pi", "default", propagation_policy="Background")
        await until(client, PODS, lambda pods: not pods)


async def test_a_namespace_is_furnished_and_cleared(server: ApiServer, client: Client) -> None:
    async with managing(server, root_ca="PEM"), node_agent(client):
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        await until(client, CONFIG_MAPS, lambda found: found, "shop")
        await until(client, SERVICE_ACCOUNTS, lambda found: found, "shop")
        wanted = deployment()
        wanted["metadata"]["namespace"] = "shop"
        await client.create(DEPLOYMENTS, wanted)
        await until(client, DEPLOYMENTS, complete("web", 3), "shop")
        await client.delete(NAMESPACES, "shop")
        await until(client, NAMESPACES, lambda found: "shop" not in map(name_of, found), "")
        for resource in (PODS, DEPLOYMENTS, CONFIG_MAPS):
            assert (await client.list(resource, "shop"))["items"] == []


async def test_nodes_get_their_ranges(server: ApiServer, client: Client) -> None:
    async with managing(server, cluster_cidrs=["10.244.0.0/16"]), node_agent(client):
        await until(client, NODES, lambda found: found[0]["spec"].get("podCIDR") == "10.244.0.0/24", "")


async def test_of_two_managers_one_works_and_the_other_takes_over(server: ApiServer, client: Client) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "first"}}

    def held(found: list[Obj]) -> list[str]:
        """By whom; API servers have leases of their own."""
        return [one["spec"].get("holderIdentity", "") for one in found if name_of(one) == "kube-controller-manager"]

    def held_by(identity: str) -> Callable[[list[Obj]], bool]:
        return lambda found: any(
            name_of(lease) == "kube-controller-manager" and lease["spec"].get("holderIdentity") == identity
            for lease in found
        )

    async with managing(server, election=Election(name="kube-controller-manager", identity="two")):
        await until(client, LEASES, held_by("two"), "kube-system")
    async with managing(server, election=Election(name="kube-controller-manager", identity="one")):
        await until(client, LEASES, held_by("one"), "kube-system")
        await client.create(NAMESPACES, namespace)
        await until(client, SERVICE_ACCOUNTS, lambda found: found, "first")


async def test_one_failing_controller_takes_no_other_down(
    server: ApiServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pinnace.controllers.deployment import DeploymentController

    async def fail(_: Any) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(DeploymentController, "run", fail)
    async with managing(server):
        await until(client, SERVICE_ACCOUNTS, lambda found: found)


async def test_over_the_wire_it_is_the_same(server: ApiServer) -> None:
    (host, port), *_ = server.addresses
    wire = Client(HttpsTransport(Connection(server=f"http://{host}:{port}", token=TOKEN)))
    task = asyncio.create_task(ControllerManager(wire, Options()).run())
    try:
        async with node_agent(wire):
            await until(wire, SERVICE_ACCOUNTS, lambda found: found)
            await wire.create(DEPLOYMENTS, deployment())
            await until(wire, DEPLOYMENTS, complete("web", 3))
            with pytest.raises(ApiError, match='pods "none" not found'):
                await wire.get(PODS, "none", "default")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await wire.transport.close()
