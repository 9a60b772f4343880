"""Workloads that run forever, and the templates of their pods."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

from tests.apis.tables.core import IMMUTABLE
from tests.apis.tables.table import GONE, Cases, Table
from tests.apis.tables.templates import LABELS, NEGATIVE, SELECTOR, TEMPLATE, WHOLE_TEMPLATE


def of_apps(word: str, template_word: str) -> Cases:
    """What holds for all workloads whose pods run forever."""
    return [
        ({"spec.selector": GONE}, ["spec.selector: Required value"]),
        ({"spec.selector": {}}, [f"spec.selector: Invalid value: {{}}: empty selector is invalid for {word}"]),
        (
            {"spec.selector": {"matchLabels": {"a": "b"}}},
            [
                'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`'
            ],
        ),
        ({"spec.template.spec.containers": []}, ["spec.template.spec.containers: Required value"]),
        ({"spec.template.spec.containers[0].image": ""}, ["spec.template.spec.containers[0].image: Required value"]),
        (
            {"spec.template.spec.restartPolicy": "Never"},
            ['spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'],
        ),
        (
            {"spec.template.spec.activeDeadlineSeconds": 5},
            [
                f"spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in {template_word} is not Supported"
            ],
        ),
    ]


OTHER_SELECTOR = {"spec.selector": {"matchLabels": {"a": "b"}}, "spec.template.metadata.labels": {"a": "b"}}
SELECTOR_IS_FIXED = [f'spec.selector: Invalid value: {{"matchLabels":{{"a":"b"}}}}: {IMMUTABLE}']

DEPLOYMENT = Table(
    "apps/v1",
    "Deployment",
    minimal={"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    defaulted={
        "spec": {
            "replicas": 1,
            "selector": SELECTOR,
            "template": WHOLE_TEMPLATE,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
        },
        "status": {},
    },
    full={
        "spec": {
            "replicas": 0,
            "selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]},
            "template": TEMPLATE,
            "strategy": {"type": "Recreate"},
            "minReadySeconds": 5,
            "revisionHistoryLimit": 0,
            "paused": True,
            "progressDeadlineSeconds": 6,
        }
    },
    invalid=[
        ({"spec.replicas": -1}, [f"spec.replicas: Invalid value: -1: {NEGATIVE}"]),
        *of_apps("deployment", "ReplicaSet"),
        (
            {"spec.strategy": {"type": "Recreate", "rollingUpdate": {}}},
            ["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
        ),
        (
            {"spec.strategy": {"type": "Some"}},
            ['spec.strategy: Unsupported value: {"type":"Some"}: supported values: "Recreate", "RollingUpdate"'],
        ),
        (
            {"spec.strategy.rollingUpdate": {"maxUnavailable": 0, "maxSurge": 0}},
            ["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"],
        ),
        (
            {"spec.strategy.rollingUpdate.maxUnavailable": "101%"},
            ['spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%'],
        ),
        (
            {"spec.strategy.rollingUpdate.maxSurge": "x"},
            [
                (
                    'spec.strategy.rollingUpdate.maxSurge: Invalid value: "x": a valid percent string must be a numeric '
                    "string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
                )
            ],
        ),
        ({"spec.minReadySeconds": -1}, [f"spec.minReadySeconds: Invalid value: -1: {NEGATIVE}"]),
        (
            {"spec.progressDeadlineSeconds": 5, "spec.minReadySeconds": 5},
            ["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"],
        ),
    ],
    updates=[
        ({"spec.replicas": 5}, []),
        ({"spec.template.spec.containers[0].image": "nginx:2"}, []),
        (OTHER_SELECTOR, SELECTOR_IS_FIXED),
    ],
    columns=["Name", "Ready", "Up-to-date", "Available", "Age", "Containers*", "Images*", "Selector*"],
    cells=["web", "0/0", 0, 0, "10m", "c", "nginx:1", "app in (web)"],
)

REPLICA_SET = Table(
    "apps/v1",
    "ReplicaSet",
    minimal={"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    defaulted={"spec": {"replicas": 1, "selector": SELECTOR, "template": WHOLE_TEMPLATE}, "status": {"replicas": 0}},
    invalid=[
        ({"spec.replicas": -1}, [f"spec.replicas: Invalid value: -1: {NEGATIVE}"]),
        *of_apps("deployment", "ReplicaSet"),
    ],
    updates=[({"spec.replicas": 0}, []), (OTHER_SELECTOR, SELECTOR_IS_FIXED)],
    columns=["Name", "Desired", "Current", "Ready", "Age", "Containers*", "Images*", "Selector*"],
    status={"replicas": 3, "readyReplicas": 2},
    cells=["web", 1, 3, 2, "10m", "c", "nginx:1", "app=web"],
)

REPLICATION_CONTROLLER = Table(
    "v1",
    "ReplicationController",
    minimal={"spec": {"template": TEMPLATE}},
    defaulted={"spec": {"replicas": 1, "selector": LABELS, "template": WHOLE_TEMPLATE}, "status": {"replicas": 0}},
    invalid=[
        ({"spec.replicas": -1}, [f"spec.replicas: Invalid value: -1: {NEGATIVE}"]),
        ({"spec.minReadySeconds": -1}, [f"spec.minReadySeconds: Invalid value: -1: {NEGATIVE}"]),
        ({"spec.template": GONE}, ["spec.selector: Required value", "spec.template: Required value"]),
        (
            {"spec.selector": {"a": "b"}},
            [
                'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`'
            ],
        ),
        (
            {"spec.template.spec.restartPolicy": "Never"},
            ['spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'],
        ),
    ],
    updates=[
        ({"spec.replicas": 2}, []),
        ({"spec.selector": {"a": "b"}, "spec.template.metadata.labels": {"a": "b"}}, []),
    ],
    columns=["Name", "Desired", "Current", "Ready", "Age", "Containers*", "Images*", "Selector*"],
    cells=["web", 1, 0, 0, "10m", "c", "nginx:1", "app=web"],
)

DAEMON_SET = Table(
    "apps/v1",
    "DaemonSet",
    minimal={"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    defaulted={
        "spec": {
            "selector": SELECTOR,
            "template": WHOLE_TEMPLATE,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "revisionHistoryLimit": 10,
        },
        "status": {
            "currentNumberScheduled": 0,
            "numberMisscheduled": 0,
            "desiredNumberScheduled": 0,
            "numberReady": 0,
        },
    },
    full={
        "spec": {
            "selector": SELECTOR,
            "template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "nodeSelector": {"disk": "ssd"}}},
            "updateStrategy": {"type": "OnDelete"},
            "minReadySeconds": 1,
        }
    },
    invalid=[
        *of_apps("daemonset", "DaemonSet"),
        (
            {"spec.updateStrategy": {"type": "Some"}},
            ['spec.updateStrategy: Unsupported value: {"type":"Some"}: supported values: "OnDelete", "RollingUpdate"'],
        ),
        (
            {"spec.updateStrategy.rollingUpdate": {"maxUnavailable": 1, "maxSurge": 1}},
            [
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"
            ],
        ),
        (
            {"spec.updateStrategy.rollingUpdate": {"maxUnavailable": 0}},
            ["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"],
        ),
    ],
    updates=[({"spec.template.spec.containers[0].image": "nginx:2"}, []), (OTHER_SELECTOR, SELECTOR_IS_FIXED)],
    columns=[
        "Name",
        "Desired",
        "Current",
        "Ready",
        "Up-to-date",
        "Available",
        "Node Selector",
        "Age",
        "Containers*",
        "Images*",
        "Selector*",
    ],
    cells=["web", 0, 0, 0, 0, 0, "disk=ssd", "10m", "c", "nginx:1", "app=web"],
)

CONTROLLER_REVISION = Table(
    "apps/v1",
    "ControllerRevision",
    minimal={"data": {"a": 1}, "revision": 1},
    defaulted={"data": {"a": 1}, "revision": 1},
    full={
        "metadata": {
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u", "controller": True}
            ]
        },
        "data": {"a": 1},
        "revision": 2,
    },
    invalid=[
        ({"data": GONE}, ["data: Required value: data is mandatory"]),
        ({"revision": -1}, [f"revision: Invalid value: -1: {NEGATIVE}"]),
    ],
    updates=[({"data": {"a": 2}}, [f'data: Invalid value: {{"a":2}}: {IMMUTABLE}']), ({"revision": 3}, [])],
    columns=["Name", "Controller", "Revision", "Age"],
    cells=["web", "daemonset.apps/d", 2, "10m"],
)

POD_TEMPLATE = Table(
    "v1",
    "PodTemplate",
    minimal={"template": TEMPLATE},
    defaulted={"template": WHOLE_TEMPLATE},
    invalid=[
        ({"template.spec.containers": []}, ["template.spec.containers: Required value"]),
        (
            {"template.metadata.labels": {"a b": ""}},
            [
                (
                    "template.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', "
                    "and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex "
                    "used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
                )
            ],
        ),
    ],
    updates=[({"template.spec.containers[0].image": "x"}, [])],
    columns=["Name", "Containers", "Images", "Pod Labels"],
    cells=["web", "c", "nginx:1", "app=web"],
)

TABLES = [DEPLOYMENT, REPLICA_SET, REPLICATION_CONTROLLER, DAEMON_SET, CONTROLLER_REVISION, POD_TEMPLATE]
