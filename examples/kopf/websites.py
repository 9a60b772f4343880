"""An operator: every Website gets a Deployment, and says when it is up."""

from __future__ import annotations

from typing import Any

import kopf
from kubernetes import client, config


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    config.load_config()
    settings.posting.enabled = False


@kopf.on.create("example.com", "v1", "websites")
def create(name: str, namespace: str, spec: kopf.Spec, **_: Any) -> dict[str, str]:
    body = deployment(name, spec)
    kopf.adopt(body)
    made = client.AppsV1Api().create_namespaced_deployment(namespace, body)
    return {"deployment": made.metadata.name}


@kopf.on.update("example.com", "v1", "websites", field="spec")
def update(name: str, namespace: str, spec: kopf.Spec, **_: Any) -> None:
    client.AppsV1Api().patch_namespaced_deployment(name, namespace, deployment(name, spec))


@kopf.on.event("apps", "v1", "deployments", labels={"website": kopf.PRESENT})
def report(name: str, namespace: str, spec: kopf.Spec, status: kopf.Status, event: Any, **_: Any) -> None:
    if event["type"] != "DELETED":
        up = status.get("readyReplicas", 0) == spec["replicas"]
        patch = {"status": {"phase": "Up" if up else "Starting"}}
        custom = client.CustomObjectsApi()
        custom.patch_namespaced_custom_object_status("example.com", "v1", namespace, "websites", name, patch)


def deployment(name: str, spec: kopf.Spec) -> dict[str, Any]:
    labels = {"website": name}
    container = {"name": "web", "image": spec["image"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": spec["replicas"],
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
