"""DaemonSets and StatefulSets on a real node, as kubectl sees them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.root]


def pod_spec(image: str = "busybox:1.36") -> dict[str, Any]:
    command = ["/bin/sh", "-c", "trap 'exit 0' TERM; while true; do sleep 1 & wait $!; done"]
    return {
        "terminationGracePeriodSeconds": 2,
        "containers": [{"name": "main", "image": image, "imagePullPolicy": "Never", "command": command}],
    }


def workload(kind: str, namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec()},
            **spec,
        },
    }


def test_a_daemon_is_rolled_out_and_undone(cluster: Cluster, namespace: str) -> None:
    cluster.apply(workload("DaemonSet", namespace, "agent"))
    cluster.kubectl("rollout", "status", "daemonset/agent", "-n", namespace, "--timeout=60s")
    cluster.kubectl("set", "image", "daemonset/agent", "main=busybox:1.37", "-n", namespace)
    cluster.kubectl("rollout", "status", "daemonset/agent", "-n", namespace, "--timeout=60s")
    history = cluster.kubectl("rollout", "history", "daemonset/agent", "-n", namespace).stdout
    assert [line.split()[0] for line in history.strip().splitlines()[2:]] == ["1", "2"]
    cluster.kubectl("rollout", "undo", "daemonset/agent", "-n", namespace)
    cluster.kubectl("rollout", "status", "daemonset/agent", "-n", namespace, "--timeout=60s")
    (container,) = cluster.json("get", "daemonset/agent", "-n", namespace)["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "busybox:1.36"


def test_a_stateful_set_comes_and_goes_in_order(cluster: Cluster, namespace: str) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "dbs", "namespace": namespace},
        "spec": {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 80}]},
    }
    cluster.apply(service, workload("StatefulSet", namespace, "db", serviceName="dbs", replicas=2))
    cluster.kubectl("rollout", "status", "statefulset/db", "-n", namespace, "--timeout=60s")
    pods = cluster.json("get", "pods", "-n", namespace, "-l", "app=db")["items"]
    ready = {pod["metadata"]["name"]: moment(pod, "Ready") for pod in pods}
    scheduled = {pod["metadata"]["name"]: moment(pod, "PodScheduled") for pod in pods}
    assert sorted(ready) == ["db-0", "db-1"]
    assert ready["db-0"] <= scheduled["db-1"]
    assert cluster.kubectl("exec", "db-1", "-n", namespace, "--", "hostname").stdout == "db-1\n"
    address = pods[0]["status"]["podIP"]
    looked_up = cluster.kubectl(
        "exec", "db-1", "-n", namespace, "--", "nslookup", f"db-0.dbs.{namespace}.svc.cluster.local"
    )
    assert address in looked_up.stdout
    cluster.kubectl("scale", "statefulset/db", "--replicas=1", "-n", namespace)
    cluster.kubectl("wait", "--for=delete", "pod/db-1", "-n", namespace, "--timeout=60s")
    cluster.kubectl("wait", "--for=condition=Ready", "pod/db-0", "-n", namespace, "--timeout=60s")


def test_a_cron_job_is_a_template_for_jobs(cluster: Cluster, namespace: str) -> None:
    command = ["/bin/sh", "-c", "echo done"]
    container = {"name": "main", "image": "busybox:1.36", "imagePullPolicy": "Never", "command": command}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    cron_job = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "tick", "namespace": namespace},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}},
    }
    cluster.apply(cron_job)
    cluster.kubectl("create", "job", "by-hand", "--from=cronjob/tick", "-n", namespace)
    cluster.kubectl("wait", "--for=condition=Complete", "job/by-hand", "-n", namespace, "--timeout=60s")
    cluster.kubectl(
        "wait", "--for=jsonpath={.status.lastSuccessfulTime}", "cronjob/tick", "-n", namespace, "--timeout=60s"
    )
    assert cluster.kubectl("logs", "job/by-hand", "-n", namespace).stdout == "done\n"


def moment(pod: dict[str, Any], condition: str) -> str:
    """When the condition last changed, as the pod tells it."""
    (found,) = [one for one in pod["status"]["conditions"] if one["type"] == condition]
    when: str = found["lastTransitionTime"]
    return when
