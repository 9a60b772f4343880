"""How objects other than pods are shown by `kubectl get`."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from .objects import APP, TEMPLATE, cells, made, names


@pytest.mark.parametrize(
    ("api_version", "kind", "fields", "status", "header", "shown"),
    [
        (
            "apps/v1",
            "Deployment",
            {"spec": APP},
            {"readyReplicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
            ["Name", "Ready", "Up-to-date", "Available", "Age"],
            ["web", "1/1", 1, 1, "10m"],
        ),
        (
            "apps/v1",
            "ReplicaSet",
            {"spec": APP},
            {"replicas": 1, "readyReplicas": 0},
            ["Name", "Desired", "Current", "Ready", "Age"],
            ["web", 1, 1, 0, "10m"],
        ),
        (
            "apps/v1",
            "DaemonSet",
            {"spec": APP},
            {"desiredNumberScheduled": 2},
            ["Name", "Desired", "Current", "Ready", "Up-to-date", "Available", "Node Selector", "Age"],
            ["web", 2, 0, 0, 0, 0, "<none>", "10m"],
        ),
        (
            "batch/v1",
            "Job",
            {"spec": {"template": TEMPLATE}},
            {
                "succeeded": 1,
                "startTime": "2026-01-01T00:00:00Z",
                "completionTime": "2026-01-01T00:00:07Z",
                "conditions": [{"type": "Complete", "status": "True"}],
            },
            ["Name", "Status", "Completions", "Duration", "Age"],
            ["web", "Complete", "1/1", "7s", "10m"],
        ),
        (
            "batch/v1",
            "CronJob",
            {"spec": {"schedule": "* * * * *"}},
            {"lastScheduleTime": "2026-01-01T00:09:30Z"},
            ["Name", "Schedule", "Timezone", "Suspend", "Active", "Last Schedule", "Age"],
            ["web", "* * * * *", "<none>", "False", 0, "30s", "10m"],
        ),
        (
            "v1",
            "Service",
            {"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30080}]}},
            None,
            ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"],
            ["web", "NodePort", "10.0.0.1", "<none>", "80:30080/TCP", "10m"],
        ),
        (
            "v1",
            "Service",
            {"spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}},
            None,
            ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"],
            ["web", "LoadBalancer", "<none>", "<pending>", "80/TCP", "10m"],
        ),
        (
            "v1",
            "Node",
            {
                "metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}},
                "spec": {"unschedulable": True},
            },
            {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.37.0"}},
            ["Name", "Status", "Roles", "Age", "Version"],
            ["web", "Ready,SchedulingDisabled", "control-plane", "10m", "v1.37.0"],
        ),
        ("v1", "Namespace", {}, None, ["Name", "Status", "Age"], ["web", "Active", "10m"]),
        ("v1", "ConfigMap", {"data": {"a": ""}}, None, ["Name", "Data", "Age"], ["web", 1, "10m"]),
        ("v1", "Secret", {}, None, ["Name", "Type", "Data", "Age"], ["web", "Opaque", 0, "10m"]),
        (
            "v1",
            "Event",
            {
                "type": "Normal",
                "reason": "Pulled",
                "message": "done\n",
                "involvedObject": {"kind": "Pod", "name": "a"},
                "firstTimestamp": "2026-01-01T00:00:00Z",
                "lastTimestamp": "2026-01-01T00:09:55Z",
            },
            None,
            ["Last Seen", "Type", "Reason", "Object", "Message"],
            ["5s", "Normal", "Pulled", "pod/a", "done"],
        ),
        (
            "v1",
            "Endpoints",
            {"subsets": [{"addresses": [{"ip": f"10.0.0.{n}"} for n in range(1, 6)], "ports": [{"port": 80}]}]},
            None,
            ["Name", "Endpoints", "Age"],
            ["web", "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...", "10m"],
        ),
        (
            "v1",
            "PersistentVolume",
            {
                "spec": {
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "claimRef": {"namespace": "default", "name": "c"},
                }
            },
            {"phase": "Bound"},
            [
                "Name",
                "Capacity",
                "Access Modes",
                "Reclaim Policy",
                "Status",
                "Claim",
                "StorageClass",
                "VolumeAttributesClass",
                "Reason",
                "Age",
            ],
            ["web", "1Gi", "RWO", "Retain", "Bound", "default/c", "", "<unset>", "", "10m"],
        ),
        (
            "networking.k8s.io/v1",
            "Ingress",
            {"spec": {"ingressClassName": "nginx", "rules": [{"host": "a.b"}], "tls": [{}]}},
            {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
            ["Name", "Class", "Hosts", "Address", "Ports", "Age"],
            ["web", "nginx", "a.b", "1.2.3.4", "80, 443", "10m"],
        ),
        (
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "a"}, "maxReplicas": 2}},
            None,
            ["Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"],
            ["web", "Deployment/a", "cpu: <unknown>/80%", "1", 2, 0, "10m"],
        ),
        (
            "discovery.k8s.io/v1",
            "EndpointSlice",
            {"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}]},
            None,
            ["Name", "AddressType", "Ports", "Endpoints", "Age"],
            ["web", "IPv4", "80", "10.0.0.1", "10m"],
        ),
    ],
)
def test_how_an_object_is_shown(
    api_version: str,
    kind: str,
    fields: dict[str, Any],
    status: dict[str, Any] | None,
    header: list[str],
    shown: list[Any],
) -> None:
    obj = made(api_version, kind, **copy.deepcopy(fields))
    if status is not None:
        obj["status"] = status
    assert names(api_version, kind) == header
    assert cells(obj) == shown
