"""A Deployment is rolled out, scaled, paused and rolled back, with the events and conditions that people know."""

from __future__ import annotations

from functools import partial
from typing import Any

from pinnace.apis.resources import DEPLOYMENTS, PODS, REPLICA_SETS
from pinnace.controllers.deployment import DeploymentController, template_hash
from pinnace.controllers.replicaset import ReplicaSetController
from pinnace.machinery.meta import Obj, name_of
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import conditions, kubelet, messages, running

KEY = "default/web"


def deployment(image: str = "nginx:1", replicas: int = 3, **spec: Any) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "annotations": {"team": "shop"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(image),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            **spec,
        },
    }


def template(image: str) -> Obj:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}}


def both(api: FakeApi) -> Any:
    return running(api, DeploymentController, ReplicaSetController)


def settled(api: FakeApi, updated: int) -> Obj | None:
    """The Deployment once the controller has seen its newest generation through."""
    found = api.find(DEPLOYMENTS, KEY)
    status = (found or {}).get("status") or {}
    if (
        found is None
        or status.get("observedGeneration") != found["metadata"]["generation"]
        or status.get("updatedReplicas", 0) != updated
        or status.get("replicas", 0) != updated
        or status.get("availableReplicas", 0) != updated
    ):
        return None
    return found if conditions(found)["Progressing"][1] == "NewReplicaSetAvailable" else None


async def test_a_deployment_comes_up() -> None:
    api = FakeApi()
    async with both(api), kubelet(api):
        await api.client.create(DEPLOYMENTS, deployment())
        done = await api.until(lambda: settled(api, 3))
        (replica_set,) = api.all(REPLICA_SETS)
        name = name_of(replica_set)
        assert name == "web-" + template_hash(template("nginx:1"), None)
        assert replica_set["metadata"]["labels"] == {"app": "web", "pod-template-hash": name.removeprefix("web-")}
        assert replica_set["spec"]["selector"] == {"matchLabels": replica_set["metadata"]["labels"]}
        assert replica_set["metadata"]["annotations"] == {
            "team": "shop",
            "deployment.kubernetes.io/revision": "1",
            "deployment.kubernetes.io/desired-replicas": "3",
            "deployment.kubernetes.io/max-replicas": "4",
        }
        assert done["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
        assert conditions(done) == {
            "Progressing": (
                "True",
                "NewReplicaSetAvailable",
                f'ReplicaSet "{name}" has successfully progressed.',
            ),
            "Available": ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        }
        assert "unavailableReplicas" not in done["status"]
        await api.until(lambda: messages(api, "ScalingReplicaSet"))
        assert messages(api, "ScalingReplicaSet") == [f"Scaled up replica set {name} from 0 to 3"]
        await api.until(lambda: len(messages(api, "SuccessfulCreate")) == 3)


async def test_a_new_template_is_rolled_out_and_undone() -> None:
    api = FakeApi()
    async with both(api), kubelet(api):
        await api.client.create(DEPLOYMENTS, deployment())
        await api.until(lambda: settled(api, 3))
        (first,) = api.all(REPLICA_SETS)
        await api.client.patch(DEPLOYMENTS, "web", {"spec": {"template": template("nginx:2")}}, "default")
        await api.until(lambda: len(api.all(REPLICA_SETS)) == 2 and settled(api, 3))
        second = next(one for one in api.all(REPLICA_SETS) if name_of(one) != name_of(first))
        assert len(api.all(PODS)) == 3
        steps = messages(api, "ScalingReplicaSet")[1:]
        assert steps[0] == f"Scaled up replica set {name_of(second)} from 0 to 1"
        assert f"Scaled down replica set {name_of(first)} from 3 to 2" in steps
        # What `kubectl rollout undo` does: it writes the old set's template back.
        await api.client.patch(DEPLOYMENTS, "web", {"spec": {"template": template("nginx:1")}}, "default")

        def undone() -> Obj | None:
            done = settled(api, 3)
            return (
                done if done and done["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3" else None
            )

        await api.until(undone)
        again = api.find(REPLICA_SETS, f"default/{name_of(first)}")
        assert again is not None
        assert again["spec"]["replicas"] == 3
        assert again["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
        assert again["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"


async def test_old_pods_stay_while_new_ones_are_broken_and_the_deadline_is_noticed() -> None:
    api = FakeApi()
    broken = "nginx:broken"
    async with both(api), kubelet(api, lambda pod: pod["spec"]["containers"][0]["image"] == broken):
        await api.client.create(DEPLOYMENTS, deployment(progressDeadlineSeconds=1))
        await api.until(lambda: settled(api, 3))
        await api.client.patch(DEPLOYMENTS, "web", {"spec": {"template": template(broken)}}, "default")

        def late() -> Any:
            found = conditions(api.find(DEPLOYMENTS, KEY))
            return found if found["Progressing"][1] == "ProgressDeadlineExceeded" else None

        found = await api.until(late)
        new = next(one for one in api.all(REPLICA_SETS) if one["spec"]["replicas"] == 1)
        assert found["Progressing"] == (
            "False",
            "ProgressDeadlineExceeded",
            f'ReplicaSet "{name_of(new)}" has timed out progressing.',
        )
        assert found["Available"][0] == "True"
        assert len(api.all(PODS)) == 4


async def test_recreate_waits_until_no_old_pod_is_left() -> None:
    api = FakeApi()
    most = 0

    async with both(api), kubelet(api):
        await api.client.create(DEPLOYMENTS, deployment(strategy={"type": "Recreate"}))
        await api.until(lambda: settled(api, 3))
        await api.client.patch(DEPLOYMENTS, "web", {"spec": {"template": template("nginx:2")}}, "default")

        def done() -> Obj | None:
            nonlocal most
            images = {pod["spec"]["containers"][0]["image"] for pod in api.all(PODS)}
            most = max(most, len(images))
            return settled(api, 3) if images == {"nginx:2"} else None

        await api.until(done)
    assert most == 1


async def test_a_paused_deployment_scales_but_does_not_roll() -> None:
    api = FakeApi()
    async with both(api), kubelet(api):
        await api.client.create(DEPLOYMENTS, deployment())
        await api.until(lambda: settled(api, 3))
        change = {"spec": {"paused": True, "replicas": 5, "template": template("nginx:2")}}
        await api.client.patch(DEPLOYMENTS, "web", change, "default")
        await api.until(lambda: (api.find(DEPLOYMENTS, KEY) or {})["status"].get("availableReplicas") == 5)
        assert len(api.all(REPLICA_SETS)) == 1
        assert conditions(api.find(DEPLOYMENTS, KEY))["Progressing"] == (
            "Unknown",
            "DeploymentPaused",
            "Deployment is paused",
        )
        await api.client.patch(DEPLOYMENTS, "web", {"spec": {"paused": False}}, "default")
        await api.until(lambda: len(api.all(REPLICA_SETS)) == 2 and settled(api, 5))


def runs(api: FakeApi, image: str) -> bool:
    return bool(settled(api, 1)) and image in str(api.all(PODS))


async def test_history_is_kept_up_to_its_limit() -> None:
    api = FakeApi()
    async with both(api), kubelet(api):
        await api.client.create(DEPLOYMENTS, deployment(replicas=1, revisionHistoryLimit=1))
        await api.until(lambda: settled(api, 1))
        for image in ("nginx:2", "nginx:3", "nginx:4"):
            await api.client.patch(DEPLOYMENTS, "web", {"spec": {"template": template(image)}}, "default")
            await api.until(partial(runs, api, image))
        await api.until(lambda: len(api.all(REPLICA_SETS)) == 2)
        revisions = {
            one["metadata"]["annotations"]["deployment.kubernetes.io/revision"] for one in api.all(REPLICA_SETS)
        }
        assert revisions == {"3", "4"}


async def test_a_name_taken_by_another_template_is_counted_as_a_collision() -> None:
    api = FakeApi()
    taken = "web-" + template_hash(template("nginx:1"), None)
    stranger = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": taken, "namespace": "default"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"other": "x"}}, "template": template("other")},
    }
    await api.client.create(REPLICA_SETS, stranger)
    async with both(api), kubelet(api):
        await api.client.create(DEPLOYMENTS, deployment())
        done = await api.until(lambda: settled(api, 3))
    assert done["status"]["collisionCount"] == 1
    assert "web-" + template_hash(template("nginx:1"), 1) in [name_of(one) for one in api.all(REPLICA_SETS)]
