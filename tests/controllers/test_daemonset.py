"""A DaemonSet against the API server: pods on every node, replaced when they fail, rolled out and rolled back."""

from __future__ import annotations

from typing import Any

from pinnace.apis.resources import CONTROLLER_REVISIONS, DAEMON_SETS, EVENTS, PODS
from pinnace.apiserver.server import ApiServer
from pinnace.client.client import Client
from pinnace.client.transport import STRATEGIC_MERGE_PATCH
from pinnace.machinery.meta import Obj, labels_of, name_of, replace_in, uid_of
from tests.controllers.test_manager import managing, node_agent, until

GENERATION = "deprecated.daemonset.template.generation"


def daemon_set(image: str = "agent:1", **spec: Any) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": template(image), **spec},
    }


def template(image: str) -> Obj:
    return {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "agent", "image": image}]}}


def rolled_out(found: list[Obj]) -> Obj | None:
    for one in found:
        status = one.get("status") or {}
        counts = [status.get(name) for name in ("updatedNumberScheduled", "numberAvailable")]
        if status.get("observedGeneration") == one["metadata"]["generation"] and counts == [1, 1]:
            return one
    return None


async def patch(client: Client, spec: Obj) -> Obj:
    return await client.patch(DAEMON_SETS, "agent", {"spec": spec}, "default", content_type=STRATEGIC_MERGE_PATCH)


async def test_a_daemon_is_rolled_out_and_back(server: ApiServer, client: Client) -> None:
    """Conformance: "DaemonSet-Creation", "DaemonSet-FailedPodCreation", "DaemonSet-RollingUpdate",
    "DaemonSet-Rollback"
    """
    async with managing(server), node_agent(client):
        await client.create(DAEMON_SETS, daemon_set(revisionHistoryLimit=1))
        done = await until(client, DAEMON_SETS, rolled_out)
        assert done["metadata"]["annotations"][GENERATION] == "1"
        (first,) = (await client.list(CONTROLLER_REVISIONS, "default"))["items"]
        (pod,) = (await client.list(PODS, "default"))["items"]
        assert labels_of(pod)["controller-revision-hash"] == labels_of(first)["controller-revision-hash"]
        assert labels_of(pod)["pod-template-generation"] == "1"

        await client.update_status(PODS, replace_in(pod, {"phase": "Failed"}, "status"))
        (fresh,) = await until(client, PODS, lambda found: [one for one in found if uid_of(one) != uid_of(pod)])
        await until(client, EVENTS, lambda found: any(one["reason"] == "FailedDaemonPod" for one in found))
        await until(client, DAEMON_SETS, rolled_out)

        await patch(client, {"template": template("agent:2")})
        done = await until(client, DAEMON_SETS, rolled_out)
        assert done["metadata"]["annotations"][GENERATION] == "2"
        revisions = (await client.list(CONTROLLER_REVISIONS, "default"))["items"]
        assert sorted(one["revision"] for one in revisions) == [1, 2]
        (second,) = (await client.list(PODS, "default"))["items"]
        assert uid_of(second) != uid_of(fresh)

        await patch(client, first["data"]["spec"])  # what `kubectl rollout undo` sends
        await until(client, CONTROLLER_REVISIONS, lambda found: {one["revision"] for one in found} == {2, 3})
        await until(client, DAEMON_SETS, rolled_out)
        (third,) = (await client.list(PODS, "default"))["items"]
        assert labels_of(third)["controller-revision-hash"] == labels_of(first)["controller-revision-hash"]
        await patch(client, {"template": template("agent:3")})
        await until(client, CONTROLLER_REVISIONS, lambda found: {one["revision"] for one in found} == {3, 4})

        await client.delete(DAEMON_SETS, "agent", "default", propagation_policy="Foreground")
        await until(client, DAEMON_SETS, lambda found: not found)
        await until(client, CONTROLLER_REVISIONS, lambda found: not found)


async def test_on_delete_pods_stay_until_somebody_deletes_them(server: ApiServer, client: Client) -> None:
    async with managing(server), node_agent(client):
        await client.create(DAEMON_SETS, daemon_set(updateStrategy={"type": "OnDelete"}))
        await until(client, DAEMON_SETS, rolled_out)
        (pod,) = (await client.list(PODS, "default"))["items"]
        await patch(client, {"template": template("agent:2")})
        await until(client, DAEMON_SETS, lambda found: found[0]["status"].get("observedGeneration") == 2)
        assert "updatedNumberScheduled" not in (await client.get(DAEMON_SETS, "agent", "default"))["status"]
        assert [name_of(one) for one in (await client.list(PODS, "default"))["items"]] == [name_of(pod)]
        await client.delete(PODS, name_of(pod), "default")
        await until(client, DAEMON_SETS, rolled_out)
