"""Leases, runtime classes, priorities, flow control, disruption budgets."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

from tests.apis.tables.core import IMMUTABLE, NOT_A_LABEL
from tests.apis.tables.table import Table

LEASE = Table(
    "coordination.k8s.io/v1",
    "Lease",
    minimal={"spec": {}},
    defaulted={"spec": {}},
    full={
        "spec": {
            "holderIdentity": "me",
            "leaseDurationSeconds": 15,
            "acquireTime": "2026-01-01T00:00:00.000000Z",
            "renewTime": "2026-01-01T00:00:00.000000Z",
            "leaseTransitions": 1,
            "strategy": "OldestEmulationVersion",
            "preferredHolder": "you",
        }
    },
    invalid=[
        ({"spec.leaseDurationSeconds": 0}, ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"]),
        (
            {"spec.leaseTransitions": -1},
            ["spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"],
        ),
        ({"spec.holderIdentity": ""}, ['spec.holderIdentity: Invalid value: "": must not be empty']),
        (
            {"spec.preferredHolder": "you"},
            ["spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"],
        ),
    ],
    updates=[({"spec.holderIdentity": "you"}, [])],
    columns=["Name", "Holder", "Age"],
    cells=["web", "me", "10m"],
)

RUNTIME_CLASS = Table(
    "node.k8s.io/v1",
    "RuntimeClass",
    minimal={"handler": "runc"},
    defaulted={"handler": "runc"},
    full={
        "handler": "kata",
        "overhead": {"podFixed": {"cpu": "10m"}},
        "scheduling": {
            "nodeSelector": {"a": "b"},
            "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoSchedule"}],
        },
    },
    invalid=[
        ({"handler": "K"}, [f'handler: Invalid value: "K": {NOT_A_LABEL}']),
        (
            {"scheduling.tolerations": [{"operator": "Equal"}]},
            [
                (
                    'scheduling.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is '
                    'empty, which means "match all values and all keys"'
                )
            ],
        ),
    ],
    updates=[({"handler": "kata"}, [f'handler: Invalid value: "kata": {IMMUTABLE}']), ({"scheduling": {}}, [])],
    columns=["Name", "Handler", "Age"],
    cells=["web", "kata", "10m"],
)

PRIORITY_CLASS = Table(
    "scheduling.k8s.io/v1",
    "PriorityClass",
    minimal={"value": 5},
    defaulted={"value": 5, "preemptionPolicy": "PreemptLowerPriority"},
    full={"value": -5, "globalDefault": True, "preemptionPolicy": "Never", "description": "low"},
    invalid=[
        (
            {"value": 1_000_000_001},
            ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
        ),
        (
            {"metadata.name": "system-mine"},
            [
                (
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. "
                    "error: system-mine is not a known system priority class"
                )
            ],
        ),
        (
            {"preemptionPolicy": "Maybe"},
            ['preemptionPolicy: Unsupported value: "Maybe": supported values: "Never", "PreemptLowerPriority"'],
        ),
    ],
    updates=[
        ({"value": 6}, ["value: Forbidden: may not be changed in an update."]),
        ({"preemptionPolicy": "Never"}, [f'preemptionPolicy: Invalid value: "Never": {IMMUTABLE}']),
        ({"globalDefault": True}, []),
        ({"description": "x"}, []),
    ],
    columns=["Name", "Value", "Global-Default", "Age", "PreemptionPolicy"],
    cells=["web", -5, True, "10m", "Never"],
)

POD_DISRUPTION_BUDGET = Table(
    "policy/v1",
    "PodDisruptionBudget",
    minimal={"spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}},
    defaulted={
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}},
        "status": {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0},
    },
    full={
        "spec": {
            "maxUnavailable": "50%",
            "selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        }
    },
    invalid=[
        (
            {"spec": {"minAvailable": 1, "maxUnavailable": 1}},
            [
                (
                    'spec: Invalid value: {"maxUnavailable":1,"minAvailable":1}: minAvailable and maxUnavailable cannot be '
                    "both set"
                )
            ],
        ),
        ({"spec.minAvailable": -1}, ["spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"]),
        ({"spec.minAvailable": "101%"}, ['spec.minAvailable: Invalid value: "101%": must not be greater than 100%']),
        (
            {"spec.unhealthyPodEvictionPolicy": "Never"},
            [
                (
                    'spec.unhealthyPodEvictionPolicy: Unsupported value: "Never": supported values: "AlwaysAllow", '
                    '"IfHealthyBudget"'
                )
            ],
        ),
        (
            {"spec.selector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}},
            ['spec.selector.matchExpressions[0].operator: Invalid value: "Like": not a valid selector operator'],
        ),
    ],
    updates=[({"spec.minAvailable": 2}, []), ({"spec.selector": {"matchLabels": {"c": "d"}}}, [])],
    columns=["Name", "Min Available", "Max Unavailable", "Allowed Disruptions", "Age"],
    cells=["web", "N/A", "50%", 0, "10m"],
)

FLOW_RULES = [
    {
        "subjects": [{"kind": "User", "user": {"name": "me"}}],
        "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]}],
    }
]

FLOW_SCHEMA = Table(
    "flowcontrol.apiserver.k8s.io/v1",
    "FlowSchema",
    minimal={"spec": {"priorityLevelConfiguration": {"name": "global-default"}}},
    defaulted={
        "spec": {"priorityLevelConfiguration": {"name": "global-default"}, "matchingPrecedence": 1000},
        "status": {},
    },
    full={
        "spec": {
            "priorityLevelConfiguration": {"name": "catch-all"},
            "matchingPrecedence": 500,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": FLOW_RULES,
        }
    },
    invalid=[
        (
            {"spec.matchingPrecedence": 10001},
            ["spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000"],
        ),
        ({"spec.matchingPrecedence": -1}, ["spec.matchingPrecedence: Invalid value: -1: must be a positive value"]),
        (
            {"spec.priorityLevelConfiguration": {}},
            ["spec.priorityLevelConfiguration.name: Required value: must reference a priority level"],
        ),
        (
            {"spec.distinguisherMethod": {"type": "ByHost"}},
            ['spec.distinguisherMethod.type: Unsupported value: "ByHost": supported values: "ByNamespace", "ByUser"'],
        ),
        (
            {"spec.rules": [{}]},
            [
                "spec.rules[0].subjects: Required value: subjects must contain at least one value",
                "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
            ],
        ),
        (
            {
                "spec.rules": [{**FLOW_RULES[0], "resourceRules": [{"verbs": ["*", "get"]}]}],
                "spec.priorityLevelConfiguration": {"name": "x"},
            },
            [
                'spec.rules[0].resourceRules[0].verbs: Invalid value: ["*","get"]: if \'*\' is present, must not specify other verbs',
                "spec.rules[0].resourceRules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "spec.rules[0].resourceRules[0].resources: Required value: resource rules must supply at least one resource",
                "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
            ],
        ),
    ],
    updates=[({"spec.matchingPrecedence": 5}, [])],
    columns=["Name", "PriorityLevel", "MatchingPrecedence", "DistinguisherMethod", "Age", "MissingPL"],
    cells=["web", "catch-all", 500, "ByUser", "10m", "False"],
    status={"conditions": [{"type": "Dangling", "status": "False"}]},
)

LIMITED = {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}

PRIORITY_LEVEL = Table(
    "flowcontrol.apiserver.k8s.io/v1",
    "PriorityLevelConfiguration",
    minimal={"spec": LIMITED},
    defaulted={
        "spec": {
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 30,
                "lendablePercent": 0,
                "limitResponse": {
                    "type": "Queue",
                    "queuing": {"queues": 64, "handSize": 8, "queueLengthLimit": 50},
                },
            },
        },
        "status": {},
    },
    full={
        "spec": {
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 5,
                "lendablePercent": 50,
                "borrowingLimitPercent": 10,
                "limitResponse": {"type": "Reject"},
            },
        }
    },
    invalid=[
        ({"spec": {"type": "Limited"}}, ["spec.limited: Required value: must not be empty when type is Limited"]),
        (
            {"spec.type": "Some"},
            ['spec.type: Unsupported value: "Some": supported values: "Exempt", "Limited"'],
        ),
        (
            {"spec.exempt": {}},
            ["spec.exempt: Forbidden: must be nil if the type is Limited"],
        ),
        (
            {"spec.limited.nominalConcurrencyShares": -1},
            ["spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer"],
        ),
        (
            {"spec.limited.lendablePercent": 101},
            ["spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive"],
        ),
        (
            {"spec.limited.limitResponse.queuing": {"queues": 2, "handSize": 4}},
            ["spec.limited.limitResponse.queuing.handSize: Invalid value: 4: should not be greater than queues (2)"],
        ),
        (
            {"spec.limited.limitResponse": {"type": "Drop"}},
            ['spec.limited.limitResponse.type: Unsupported value: "Drop": supported values: "Queue", "Reject"'],
        ),
        (
            {"spec.limited.limitResponse": {"type": "Queue"}},
            [
                "spec.limited.limitResponse.queuing: Required value: must not be empty if limited.limitResponse.type is Limited"
            ],
        ),
    ],
    updates=[({"spec.limited.nominalConcurrencyShares": 5}, [])],
    columns=["Name", "Type", "NominalConcurrencyShares", "Queues", "HandSize", "QueueLengthLimit", "Age"],
    cells=["web", "Limited", 5, "<none>", "<none>", "<none>", "10m"],
)

TABLES = [LEASE, RUNTIME_CLASS, PRIORITY_CLASS, POD_DISRUPTION_BUDGET, FLOW_SCHEMA, PRIORITY_LEVEL]
