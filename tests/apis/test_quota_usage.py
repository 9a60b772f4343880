"""What objects cost their namespace, and which quotas they count under."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pinnace.apis.core.quota_usage import counted, in_scope, unmet, usage

Obj = dict[str, Any]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PODS = ("", "pods")


def pod(requests: Obj | None = None, limits: Obj | None = None, status: Obj | None = None, **spec: Any) -> Obj:
    container = {"name": "c", "resources": {"requests": requests or {}, "limits": limits or {}}}
    return {"metadata": {}, "spec": {"containers": [container], **spec}, "status": status or {}}


def service(kind: str, ports: int, **spec: Any) -> Obj:
    return {"metadata": {}, "spec": {"type": kind, "ports": [{"port": n} for n in range(ports)], **spec}}


def claim(size: str, **spec: Any) -> Obj:
    return {"metadata": {}, "spec": {"resources": {"requests": {"storage": size}}, **spec}}


def device(name: str, **more: Any) -> Obj:
    return {"deviceClassName": name, **more}


@pytest.mark.parametrize(
    ("resource", "obj", "cost"),
    [
        (PODS, pod(), {"count/pods": "1", "pods": "1"}),
        (PODS, pod(status={"phase": "Succeeded"}), {"count/pods": "1"}),
        (
            PODS,
            pod({"cpu": "100m", "memory": "1Gi"}, {"cpu": "1"}),
            {
                "count/pods": "1",
                "pods": "1",
                "cpu": "100m",
                "requests.cpu": "100m",
                "memory": "1Gi",
                "requests.memory": "1Gi",
                "limits.cpu": "1",
            },
        ),
        (
            PODS,
            pod({"nvidia.com/gpu": "2", "hugepages-2Mi": "4Mi", "ephemeral-storage": "1Gi"}),
            {
                "count/pods": "1",
                "pods": "1",
                "requests.nvidia.com/gpu": "2",
                "hugepages-2Mi": "4Mi",
                "requests.hugepages-2Mi": "4Mi",
                "ephemeral-storage": "1Gi",
                "requests.ephemeral-storage": "1Gi",
            },
        ),
        (
            ("", "services"),
            service("NodePort", 2),
            {"count/services": "1", "services": "1", "services.nodeports": "2", "services.loadbalancers": "0"},
        ),
        (
            ("", "services"),
            service("LoadBalancer", 2, allocateLoadBalancerNodePorts=False),
            {"count/services": "1", "services": "1", "services.nodeports": "0", "services.loadbalancers": "1"},
        ),
        (
            ("", "persistentvolumeclaims"),
            claim("1Gi", storageClassName="fast"),
            {
                "count/persistentvolumeclaims": "1",
                "persistentvolumeclaims": "1",
                "requests.storage": "1Gi",
                "fast.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
                "fast.storageclass.storage.k8s.io/requests.storage": "1Gi",
            },
        ),
        (("", "secrets"), {"metadata": {}}, {"count/secrets": "1", "secrets": "1"}),
        (("apps", "deployments"), {"metadata": {}}, {"count/deployments.apps": "1"}),
        (("stable.io", "things"), {"metadata": {}}, {"count/things.stable.io": "1"}),
        (
            ("resource.k8s.io", "resourceclaims"),
            {
                "metadata": {},
                "spec": {
                    "devices": {
                        "requests": [
                            {"name": "a", "exactly": device("gpu", count=2)},
                            {"name": "b", "firstAvailable": [device("gpu", count=3), device("tpu")]},
                        ]
                    }
                },
            },
            {
                "count/resourceclaims.resource.k8s.io": "1",
                "gpu.deviceclass.resource.k8s.io/devices": "5",
                "tpu.deviceclass.resource.k8s.io/devices": "1",
            },
        ),
    ],
)
def test_what_an_object_costs(resource: tuple[str, str], obj: Obj, cost: Obj) -> None:
    assert {name: str(quantity) for name, quantity in usage(resource, obj, NOW).items()} == cost


def test_a_pod_that_should_have_gone_costs_nothing_more() -> None:
    gone = pod({"cpu": "1"})
    gone["metadata"] = {"deletionTimestamp": "2025-12-31T23:58:00Z", "deletionGracePeriodSeconds": 30}
    assert set(usage(PODS, gone, NOW)) == {"count/pods"}


@pytest.mark.parametrize(
    ("resource", "names"),
    [
        (PODS, {"pods", "cpu", "requests.cpu", "limits.memory", "requests.example.com/x", "count/pods"}),
        (("", "services"), {"services.nodeports"}),
        (("", "persistentvolumeclaims"), {"gold.storageclass.storage.k8s.io/requests.storage"}),
        (("", "configmaps"), {"configmaps"}),
        (("apps", "deployments"), {"count/deployments.apps"}),
        (("batch", "jobs"), set()),
    ],
)
def test_which_names_a_resource_counts_under(resource: tuple[str, str], names: set[str]) -> None:
    hard = {
        "pods",
        "cpu",
        "requests.cpu",
        "limits.memory",
        "requests.example.com/x",
        "example.com/x",
        "count/pods",
        "services.nodeports",
        "gold.storageclass.storage.k8s.io/requests.storage",
        "configmaps",
        "count/deployments.apps",
    }
    assert counted(resource, hard) == names


def term(**more: Any) -> Obj:
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a", **more}]}}


def select(scope: str, operator: str, *values: str) -> Obj:
    one = {"scopeName": scope, "operator": operator, "values": list(values)}
    return {"scopeSelector": {"matchExpressions": [one]}}


@pytest.mark.parametrize(
    ("spec", "obj", "included"),
    [
        ({}, pod(), True),
        ({"scopes": ["Terminating"]}, pod(activeDeadlineSeconds=1), True),
        ({"scopes": ["Terminating"]}, pod(), False),
        ({"scopes": ["NotTerminating"]}, pod(), True),
        ({"scopes": ["BestEffort"]}, pod(), True),
        ({"scopes": ["BestEffort"]}, pod({"cpu": "1"}), False),
        ({"scopes": ["NotBestEffort", "Terminating"]}, pod({"cpu": "1"}), False),
        ({"scopes": ["PriorityClass"]}, pod(priorityClassName="high"), True),
        (select("PriorityClass", "In", "high"), pod(priorityClassName="high"), True),
        (select("PriorityClass", "In", "high"), pod(), False),
        (select("PriorityClass", "NotIn", "high"), pod(), True),
        (select("PriorityClass", "DoesNotExist"), pod(), True),
        ({"scopes": ["CrossNamespacePodAffinity"]}, pod(affinity=term(namespaces=["b"])), True),
        ({"scopes": ["CrossNamespacePodAffinity"]}, pod(affinity=term(namespaceSelector={})), True),
        ({"scopes": ["CrossNamespacePodAffinity"]}, pod(affinity=term()), False),
    ],
)
def test_which_pods_a_scope_takes_in(spec: Obj, obj: Obj, included: bool) -> None:
    assert in_scope({"spec": spec}, PODS, obj) is included


def test_a_scoped_quota_takes_in_nothing_but_pods_and_claims() -> None:
    quota = {"spec": {"scopes": ["Terminating"]}}
    assert not in_scope(quota, ("", "secrets"), {"metadata": {}})
    of_class = {"spec": select("VolumeAttributesClass", "In", "gold")}
    assert in_scope(of_class, ("", "persistentvolumeclaims"), claim("1Gi", volumeAttributesClassName="gold"))
    assert not in_scope(of_class, ("", "persistentvolumeclaims"), claim("1Gi"))


def test_a_limited_resource_must_be_stated() -> None:
    two = pod({"cpu": "1"})
    two["spec"]["initContainers"] = [{"name": "i"}]
    why = "must specify limits.cpu for: c,i; requests.cpu for: i"
    assert unmet(PODS, two, ["limits.cpu", "requests.cpu", "pods"]) == why
    assert unmet(PODS, two, ["pods"]) == ""
