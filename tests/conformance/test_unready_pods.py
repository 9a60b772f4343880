"""What controllers do while pods are not ready: scale a Deployment in mid-rollout, burst a StatefulSet."""

from __future__ import annotations

from typing import Any

from pinnace.testing import Api
from tests.conformance.samples import template

READY = "hollow.pinnace.dev/ready-seconds"
NEVER = "1000000"
STRATEGIC = "application/strategic-merge-patch+json"


def ready(api: Api, namespace: str, resource: str, name: str, count: int) -> None:
    api.wait_for(resource, name, lambda obj: obj.get("status", {}).get("readyReplicas", 0) == count, namespace)


def running(api: Api, namespace: str, count: int) -> None:
    api.wait_until(lambda: len(api.list("pods", namespace, fields="status.phase=Running")) == count)


def replica_set(api: Api, namespace: str, image: str) -> dict[str, Any]:
    found = {one["spec"]["template"]["spec"]["containers"][0]["image"]: one for one in api.list("rs", namespace)}
    return found.get(image, {})


def sizes(api: Api, namespace: str, *images: str) -> list[tuple[int | None, int | None, int]]:
    """Wanted, present and available pods of the ReplicaSets of these images."""
    found = (replica_set(api, namespace, image) for image in images)
    return [
        (
            one.get("spec", {}).get("replicas"),
            one.get("status", {}).get("replicas"),
            one.get("status", {}).get("availableReplicas", 0),
        )
        for one in found
    ]


def test_replicas_are_added_in_proportion(api: Api, namespace: str) -> None:
    """Conformance: "Deployment Proportional Scaling" """
    strategy = {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    spec = {"replicas": 10, "strategy": strategy, "selector": {"matchLabels": {"name": "w"}}}
    body = {"metadata": {"name": "w"}, "spec": {**spec, "template": template(name="w")}}
    api.create({"apiVersion": "apps/v1", "kind": "Deployment", **body}, namespace)
    ready(api, namespace, "deploy", "w", 10)
    container = {"name": "main", "image": "example.com/404"}
    stuck = {"metadata": {"annotations": {READY: NEVER}}, "spec": {"containers": [container]}}
    api.patch("deploy", "w", {"spec": {"template": stuck}}, namespace)
    old, new = "example.com/any", "example.com/404"
    api.wait_until(lambda: sizes(api, namespace, old, new) == [(8, 8, 8), (5, 5, 0)])
    assert api.get("deploy", "w", namespace)["status"]["availableReplicas"] == 8
    api.patch("deploy", "w", {"spec": {"replicas": 30}}, namespace)
    api.wait_until(lambda: sizes(api, namespace, old, new) == [(20, 20, 20), (13, 13, 0)])


def break_pods(api: Api, namespace: str) -> None:
    """Make all pods unready, and leave them so."""
    for pod in api.list("pods", namespace):
        name = pod["metadata"]["name"]
        api.patch("pods", name, {"metadata": {"annotations": {READY: NEVER}}}, namespace)
        states = [{**pod["status"]["containerStatuses"][0], "ready": False}]
        conditions = [{"type": kind, "status": "False"} for kind in ("Ready", "ContainersReady")]
        patch = {"status": {"conditions": conditions, "containerStatuses": states}}
        api.patch("pods", name, patch, namespace, subresource="status", content_type=STRATEGIC)


def mend_pods(api: Api, namespace: str) -> None:
    for pod in api.list("pods", namespace):
        api.patch("pods", pod["metadata"]["name"], {"metadata": {"annotations": {READY: "0"}}}, namespace)


def test_a_parallel_set_scales_whatever_its_pods_do(api: Api, namespace: str) -> None:
    """Conformance: "StatefulSet, Burst Scaling" """
    pods = template(name="w")
    pods["metadata"]["annotations"] = {READY: NEVER}
    selector = {"matchLabels": {"name": "w"}}
    spec = {"replicas": 1, "serviceName": "w", "podManagementPolicy": "Parallel", "selector": selector}
    body = {"metadata": {"name": "w"}, "spec": {**spec, "template": pods}}
    api.create({"apiVersion": "apps/v1", "kind": "StatefulSet", **body}, namespace)
    running(api, namespace, 1)
    ready(api, namespace, "sts", "w", 0)
    api.patch("sts", "w", {"spec": {"replicas": 3}}, namespace)
    running(api, namespace, 3)  # though w-0 is not ready
    ready(api, namespace, "sts", "w", 0)
    mend_pods(api, namespace)
    ready(api, namespace, "sts", "w", 3)
    break_pods(api, namespace)
    ready(api, namespace, "sts", "w", 0)
    api.patch("sts", "w", {"spec": {"replicas": 0}}, namespace)
    api.wait_until(lambda: not api.list("pods", namespace))
    api.wait_for("sts", "w", lambda obj: obj["status"]["replicas"] == 0, namespace)
