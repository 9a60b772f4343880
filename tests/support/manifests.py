"""Manifests that tests of whole clusters have in common."""

from __future__ import annotations

from pinnace.machinery.meta import Obj


def deployment(name: str, replicas: int, pod: Obj, **labels: str) -> Obj:
    """A Deployment of pods with this spec, labelled `app` after it and as said."""
    labels = {"app": name, **labels}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def unreal_pod(**more: object) -> Obj:
    """The spec of a pod for nodes that run pods in name."""
    return {**more, "containers": [{"name": "c", "image": "none"}]}
