"""A StatefulSet against the API server: names, storage, order, rollouts by partition, and what it leaves."""

from __future__ import annotations

from typing import Any

from pinnace.apis.resources import CONTROLLER_REVISIONS, EVENTS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS
from pinnace.apiserver.server import ApiServer
from pinnace.client.client import Client
from pinnace.client.transport import STRATEGIC_MERGE_PATCH
from pinnace.controllers.statefulset import StatefulSetController
from pinnace.machinery.meta import Obj, labels_of, name_of, uid_of
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import messages, pod_status, running
from tests.controllers.test_manager import managing, node_agent, until


def stateful_set(replicas: int = 2, **spec: Any) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "serviceName": "dbs",
            "selector": {"matchLabels": {"app": "db"}},
            "template": template("db:1"),
            **spec,
        },
    }


def template(image: str) -> Obj:
    return {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "db", "image": image}]}}


def settled(replicas: int, updated: int) -> Any:
    def check(found: list[Obj]) -> Obj | None:
        for one in found:
            status = one.get("status") or {}
            counts = [status.get(name, 0) for name in ("replicas", "readyReplicas", "updatedReplicas")]
            seen = status.get("observedGeneration") == one["metadata"]["generation"]
            if seen and counts == [replicas, replicas, updated]:
                return one
        return None

    return check


async def patch(client: Client, spec: Obj) -> Obj:
    return await client.patch(STATEFUL_SETS, "db", {"spec": spec}, "default", content_type=STRATEGIC_MERGE_PATCH)


async def revisions_of_pods(client: Client) -> dict[str, str]:
    pods = (await client.list(PODS, "default"))["items"]
    return {name_of(pod): labels_of(pod)["controller-revision-hash"] for pod in pods}


async def test_pods_are_scaled_and_rolled_out_in_order(server: ApiServer, client: Client) -> None:
    """Conformance: "StatefulSet, Scaling", "StatefulSet, Rolling Update with Partition", "StatefulSet, Rolling
    Update"
    """
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    async with managing(server), node_agent(client):
        await client.create(STATEFUL_SETS, stateful_set(volumeClaimTemplates=[claim]))
        done = await until(client, STATEFUL_SETS, settled(2, 2))
        first = done["status"]["updateRevision"]
        assert done["status"]["currentRevision"] == first
        assert await revisions_of_pods(client) == {"db-0": first, "db-1": first}
        claims = (await client.list(PERSISTENT_VOLUME_CLAIMS, "default"))["items"]
        assert [(name_of(one), labels_of(one)) for one in claims] == [
            ("data-db-0", {"app": "db"}),
            ("data-db-1", {"app": "db"}),
        ]

        rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
        await patch(client, {"template": template("db:2"), "updateStrategy": rolling})
        done = await until(client, STATEFUL_SETS, settled(2, 1))
        second = done["status"]["updateRevision"]
        assert done["status"]["currentRevision"] == first != second
        assert await revisions_of_pods(client) == {"db-0": first, "db-1": second}
        lost = await client.get(PODS, "db-0", "default")
        await client.delete(PODS, "db-0", "default")

        def again(found: list[Obj]) -> list[Obj]:
            return [one for one in found if name_of(one) == "db-0" and uid_of(one) != uid_of(lost)]

        await until(client, PODS, again)
        assert (await revisions_of_pods(client))["db-0"] == first

        await patch(client, {"updateStrategy": {"rollingUpdate": {"partition": 0}}})
        done = await until(client, STATEFUL_SETS, settled(2, 2))
        assert done["status"]["currentRevision"] == second
        await patch(client, {"replicas": 0})
        await until(client, STATEFUL_SETS, settled(0, 0))
        assert len((await client.list(PERSISTENT_VOLUME_CLAIMS, "default"))["items"]) == 2
        said = [one["message"] for one in (await client.list(EVENTS, "default"))["items"]]
        assert "create Pod db-0 in StatefulSet db successful" in said
        assert "create Claim data-db-0 Pod db-0 in StatefulSet db success" in said
        assert "delete Pod db-1 in StatefulSet db successful" in said
        await client.delete(STATEFUL_SETS, "db", "default", propagation_policy="Background")
        await until(client, CONTROLLER_REVISIONS, lambda found: not found)


async def test_claims_go_with_the_set_if_asked(server: ApiServer, client: Client) -> None:
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    wanted = stateful_set(
        2,
        podManagementPolicy="Parallel",
        volumeClaimTemplates=[claim],
        persistentVolumeClaimRetentionPolicy=policy,
    )
    async with managing(server), node_agent(client):
        made = await client.create(
            STATEFUL_SETS, {**wanted, "spec": {**wanted["spec"], "podManagementPolicy": "Parallel"}}
        )

        def owned(found: list[Obj]) -> bool:
            owners = [one["uid"] for obj in found for one in obj["metadata"].get("ownerReferences") or ()]
            return owners == [uid_of(made)] * 2

        await until(client, PERSISTENT_VOLUME_CLAIMS, owned)


CLAIM = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


def stored(**spec: Any) -> Obj:
    """As the API server would have it."""
    return stateful_set(1, volumeClaimTemplates=[CLAIM], podManagementPolicy="OrderedReady", **spec)


async def test_claims_that_a_waiting_pod_lost_are_made_again() -> None:
    api = FakeApi()
    async with running(api, StatefulSetController):
        await api.client.create(STATEFUL_SETS, stored())
        await api.until(lambda: api.find(PODS, "default/db-0"))
        await api.client.delete(PERSISTENT_VOLUME_CLAIMS, "data-db-0", "default")
        await api.set_status(PODS, "default/db-0", pod_status("Pending"))
        await api.until(lambda: api.find(PERSISTENT_VOLUME_CLAIMS, "default/data-db-0"))


async def test_no_pod_is_made_for_claims_on_their_way_out() -> None:
    api = FakeApi()
    held = {**CLAIM, "metadata": {"name": "data-db-0", "namespace": "default", "finalizers": ["example.com/hold"]}}
    await api.client.create(PERSISTENT_VOLUME_CLAIMS, held)
    await api.client.delete(PERSISTENT_VOLUME_CLAIMS, "data-db-0", "default")
    async with running(api, StatefulSetController):
        await api.client.create(STATEFUL_SETS, stored())
        said = "create Pod db-0 in StatefulSet db failed error: pvc data-db-0 is being deleted"
        await api.until(lambda: said in messages(api, "FailedCreate"))
        assert not api.all(PODS)
        await api.client.patch(PERSISTENT_VOLUME_CLAIMS, "data-db-0", {"metadata": {"finalizers": None}}, "default")
        await api.until(lambda: api.find(PODS, "default/db-0"))


async def test_an_adopted_pod_gets_the_labels_of_its_place() -> None:
    api = FakeApi()
    orphan = {"metadata": {"name": "db-0", "namespace": "default", "labels": {"app": "db"}}, "spec": {"containers": []}}
    await api.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", **orphan})
    async with running(api, StatefulSetController):
        await api.client.create(STATEFUL_SETS, stored())
        await api.until(lambda: messages(api, "SuccessfulUpdate") == ["update Pod db-0 in StatefulSet db successful"])
        labels = labels_of(api.find(PODS, "default/db-0") or {})
        assert labels["statefulset.kubernetes.io/pod-name"] == "db-0"
        assert labels["apps.kubernetes.io/pod-index"] == "0"
