"""A HorizontalPodAutoscaler follows what pods use, all the way: kubelet, metrics API, controller, Deployment."""

from __future__ import annotations

from typing import Any

from pinnace.client.client import Client
from pinnace.controllers.hpa_replicas import Settings
from pinnace.controllers.manager import ControllerManager, Options
from pinnace.machinery.meta import Obj, get_in
from pinnace.metrics_server.server import MetricsServer
from pinnace.testing import Cluster
from pinnace.testing.loop_thread import LoopThread
from tests.metrics_server.conftest import running

PROMPT = Settings(
    sync_period=0.3, downscale_stabilization=0.5, cpu_initialization_period=0.0, initial_readiness_delay=0.0
)
LABELS = {"app": "scaled"}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "scaled"},
    "spec": {
        "selector": {"matchLabels": LABELS},
        "template": {
            "metadata": {"labels": LABELS, "annotations": {"hollow.pinnace.dev/cpu": "10m"}},
            "spec": {"containers": [{"name": "c", "image": "none", "resources": {"requests": {"cpu": "100m"}}}]},
        },
    },
}
AUTOSCALER = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "scaled"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "scaled"},
        "minReplicas": 1,
        "maxReplicas": 4,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
            }
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
    },
}


def test_deployment_is_scaled_up_and_down_with_what_its_pods_use(
    cluster: Cluster, metrics: MetricsServer, thread: LoopThread, client: Client
) -> None:
    cluster.api.create(DEPLOYMENT, "default")
    cluster.api.create(AUTOSCALER, "default")

    async def control() -> None:
        chosen = ("horizontal-pod-autoscaler-controller",)
        await ControllerManager(client, Options(controllers=chosen, autoscaling=PROMPT)).run()

    with running(thread, control):
        _wait_for_use(cluster, lambda percent: percent == 10)
        (pod,) = cluster.api.list("pods", "default", labels="app=scaled")
        _use(cluster, pod, "400m")
        cluster.api.wait_for("deployments", "scaled", lambda one: one["spec"]["replicas"] == 4, "default")
        cluster.api.wait_for(
            "deployments", "scaled", lambda one: get_in(one, "status", "readyReplicas") == 4, "default"
        )
        _use(cluster, pod, "10m")
        cluster.api.wait_for("deployments", "scaled", lambda one: one["spec"]["replicas"] == 1, "default")
        _wait_for_use(cluster, lambda percent: percent == 10)


def _use(cluster: Cluster, pod: Obj, cpu: str) -> None:
    patch = {"metadata": {"annotations": {"hollow.pinnace.dev/cpu": cpu}}}
    cluster.api.patch("pods", pod["metadata"]["name"], patch, "default")


def _wait_for_use(cluster: Cluster, until: Any) -> None:
    def holds(autoscaler: Obj) -> bool:
        percent = get_in(autoscaler, "status", "currentMetrics", 0, "resource", "current", "averageUtilization")
        return percent is not None and bool(until(percent))

    cluster.api.wait_for("hpa", "scaled", holds, "default")
