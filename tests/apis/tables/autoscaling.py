"""HorizontalPodAutoscalers."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

from tests.apis.tables.table import Cases, Table

TARGET = {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
SCALER_CASES: Cases = [
    (
        {"spec.maxReplicas": 0},
        [
            "spec.maxReplicas: Invalid value: 0: must be greater than 0",
            "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
        ],
    ),
    ({"spec.minReplicas": -1}, ["spec.minReplicas: Invalid value: -1: must be greater than or equal to 0"]),
    (
        {"spec.minReplicas": 0},
        [
            "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas"
        ],
    ),
    ({"spec.minReplicas": 6}, ["spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`"]),
    (
        {"spec.scaleTargetRef": {}},
        ["spec.scaleTargetRef.kind: Required value", "spec.scaleTargetRef.name: Required value"],
    ),
    ({"spec.scaleTargetRef.kind": ".."}, ["spec.scaleTargetRef.kind: Invalid value: \"..\": may not be '..'"]),
]

AUTOSCALER = Table(
    "autoscaling/v2",
    "HorizontalPodAutoscaler",
    minimal={"spec": {"scaleTargetRef": TARGET, "maxReplicas": 5}},
    defaulted={
        "spec": {"scaleTargetRef": TARGET, "minReplicas": 1, "maxReplicas": 5, "metrics": [CPU]},
        "status": {"desiredReplicas": 0, "currentMetrics": None},
    },
    full={
        "spec": {
            "scaleTargetRef": TARGET,
            "minReplicas": 2,
            "maxReplicas": 5,
            "metrics": [
                CPU,
                {
                    "type": "Pods",
                    "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "1k"}},
                },
                {
                    "type": "Object",
                    "object": {
                        "describedObject": {"kind": "Ingress", "name": "i"},
                        "metric": {"name": "hits"},
                        "target": {"type": "Value", "value": "10"},
                    },
                },
                {
                    "type": "External",
                    "external": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "3"}},
                },
            ],
            "behavior": {
                "scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]},
                "scaleDown": {"selectPolicy": "Disabled"},
            },
        }
    },
    invalid=[
        *SCALER_CASES,
        ({"spec.metrics": [{}]}, ["spec.metrics[0].type: Required value: must specify a metric source type"]),
        (
            {"spec.metrics": [{"type": "Resource"}]},
            ["spec.metrics[0].resource: Required value: must populate information for the given metric source"],
        ),
        (
            {"spec.metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}]},
            [
                (
                    "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value "
                    "or a target utilization"
                )
            ],
        ),
        (
            {"spec.metrics": [{"type": "Pods", "pods": {"metric": {}, "target": {"type": "AverageValue"}}}]},
            [
                "spec.metrics[0].pods.metric.name: Required value: must specify a metric name",
                "spec.metrics[0].pods.target.averageValue: Required value: must specify a positive target averageValue",
            ],
        ),
        (
            {
                "spec.behavior": {
                    "scaleUp": {
                        "stabilizationWindowSeconds": 3601,
                        "policies": [{"type": "X", "value": 0, "periodSeconds": 1801}],
                    }
                }
            },
            [
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
                'spec.behavior.scaleUp.policies[0].type: Unsupported value: "X": supported values: "Percent", "Pods"',
                "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
                "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
            ],
        ),
    ],
    updates=[({"spec.maxReplicas": 9}, [])],
    columns=["Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"],
    cells=["web", "Deployment/d", "cpu: <unknown>/80%, <unknown>/1k + 2 more...", "2", 5, 0, "10m"],
)

AUTOSCALER_V1 = Table(
    "autoscaling/v1",
    "HorizontalPodAutoscaler",
    minimal={"spec": {"scaleTargetRef": TARGET, "maxReplicas": 5}},
    defaulted={
        "spec": {"scaleTargetRef": TARGET, "minReplicas": 1, "maxReplicas": 5},
        "status": {"currentReplicas": 0, "desiredReplicas": 0},
    },
    full={"spec": {"scaleTargetRef": TARGET, "minReplicas": 2, "maxReplicas": 5, "targetCPUUtilizationPercentage": 70}},
    invalid=SCALER_CASES,
    updates=[({"spec.maxReplicas": 9}, [])],
    columns=["Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"],
    cells=["web", "Deployment/d", "cpu: 30%/70%", "2", 5, 3, "10m"],
    status={"currentReplicas": 3, "desiredReplicas": 3, "currentCPUUtilizationPercentage": 30},
)

TABLES = [AUTOSCALER, AUTOSCALER_V1]
