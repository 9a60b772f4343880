"""Workloads: what makes pods, and what makes more or fewer of them."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

from typing import Any

from tests.apis.tables.core import IMMUTABLE
from tests.apis.tables.table import GONE, Cases, Table

CONTAINER = {"name": "c", "image": "nginx:1"}
LABELS = {"app": "web"}
SELECTOR = {"matchLabels": LABELS}
TEMPLATE: dict[str, Any] = {"metadata": {"labels": LABELS}, "spec": {"containers": [CONTAINER]}}
WHOLE_CONTAINER = {
    "name": "c",
    "image": "nginx:1",
    "imagePullPolicy": "IfNotPresent",
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
WHOLE_SPEC = {
    "containers": [WHOLE_CONTAINER],
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}
WHOLE_TEMPLATE = {"metadata": {"labels": LABELS}, "spec": WHOLE_SPEC}
NEGATIVE = "must be greater than or equal to 0"


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

CLAIM = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
SET_IS_FIXED = (
    "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
    "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)

MOUNTING = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
MOUNTING_TEMPLATE = {**TEMPLATE, "spec": {"containers": [{**TEMPLATE["spec"]["containers"][0], **MOUNTING}]}}

STATEFUL_SET = Table(
    "apps/v1",
    "StatefulSet",
    minimal={
        "spec": {"selector": SELECTOR, "template": TEMPLATE, "serviceName": "web", "volumeClaimTemplates": [CLAIM]}
    },
    defaulted={
        "spec": {
            "replicas": 1,
            "selector": SELECTOR,
            "template": WHOLE_TEMPLATE,
            "serviceName": "web",
            "volumeClaimTemplates": [
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": "data"},
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": {"storage": "1Gi"}},
                        "volumeMode": "Filesystem",
                    },
                    "status": {"phase": "Pending"},
                }
            ],
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "revisionHistoryLimit": 10,
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        },
        "status": {"replicas": 0, "availableReplicas": 0},
    },
    full={
        "spec": {
            "replicas": 3,
            "selector": SELECTOR,
            "template": MOUNTING_TEMPLATE,
            "volumeClaimTemplates": [CLAIM],
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"},
            "ordinals": {"start": 5},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
        }
    },
    invalid=[
        *of_apps("statefulset", "StatefulSet"),
        (
            {"spec.podManagementPolicy": "Some"},
            ['spec.podManagementPolicy: Unsupported value: "Some": supported values: "OrderedReady", "Parallel"'],
        ),
        (
            {"spec.updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}},
            [
                (
                    'spec.updateStrategy.rollingUpdate: Invalid value: {"partition":1}: only allowed for updateStrategy '
                    "'RollingUpdate'"
                )
            ],
        ),
        (
            {"spec.updateStrategy.rollingUpdate": {"partition": -1}},
            [f"spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: {NEGATIVE}"],
        ),
        (
            {"spec.persistentVolumeClaimRetentionPolicy": {"whenScaled": "Keep"}},
            [
                (
                    'spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "Keep": supported values: '
                    '"Delete", "Retain"'
                )
            ],
        ),
        ({"spec.ordinals": {"start": -1}}, [f"spec.ordinals.start: Invalid value: -1: {NEGATIVE}"]),
    ],
    updates=[
        (
            {
                "spec.replicas": 5,
                "spec.template.spec.containers[0].image": "i",
                "spec.updateStrategy.type": "OnDelete",
                "spec.updateStrategy.rollingUpdate": GONE,
                "spec.minReadySeconds": 1,
                "spec.revisionHistoryLimit": 1,
            },
            [],
        ),
        ({"spec.serviceName": "other"}, [SET_IS_FIXED]),
        ({"spec.podManagementPolicy": "Parallel"}, [SET_IS_FIXED]),
        ({"spec.volumeClaimTemplates[0].spec.resources.requests.storage": "2Gi"}, [SET_IS_FIXED]),
        (OTHER_SELECTOR, [SET_IS_FIXED]),
    ],
    columns=["Name", "Ready", "Age", "Containers*", "Images*"],
    cells=["web", "0/3", "10m", "c", "nginx:1"],
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

JOB_TEMPLATE = {"spec": {"containers": [CONTAINER], "restartPolicy": "Never"}}
OWN = {
    "controller-uid": "1234",
    "batch.kubernetes.io/controller-uid": "1234",
    "job-name": "web",
    "batch.kubernetes.io/job-name": "web",
}
INDEXED = {"spec.completionMode": "Indexed", "spec.completions": 3}
ONLY_INDEXED = "requires indexed completion mode"

JOB = Table(
    "batch/v1",
    "Job",
    minimal={"spec": {"template": JOB_TEMPLATE}},
    defaulted={
        "spec": {
            "template": {"metadata": {"labels": OWN}, "spec": {**WHOLE_SPEC, "restartPolicy": "Never"}},
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": 6,
            "completionMode": "NonIndexed",
            "suspend": False,
            "manualSelector": False,
            "podReplacementPolicy": "TerminatingOrFailed",
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "1234"}},
        },
        "status": {},
    },
    full={
        "spec": {
            "template": JOB_TEMPLATE,
            "completions": 5,
            "parallelism": 2,
            "completionMode": "Indexed",
            "backoffLimitPerIndex": 1,
            "maxFailedIndexes": 2,
            "activeDeadlineSeconds": 60,
            "ttlSecondsAfterFinished": 0,
            "suspend": True,
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1, 2]}},
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
                ]
            },
            "successPolicy": {"rules": [{"succeededIndexes": "0-1", "succeededCount": 1}]},
            "managedBy": "example.com/c",
        }
    },
    invalid=[
        (
            {"spec.template.spec.restartPolicy": "Always"},
            ['spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'],
        ),
        *[
            ({f"spec.{key}": -1}, [f"spec.{key}: Invalid value: -1: {NEGATIVE}"])
            for key in (
                "parallelism",
                "completions",
                "activeDeadlineSeconds",
                "backoffLimit",
                "ttlSecondsAfterFinished",
            )
        ],
        (
            {"spec.completionMode": "Some"},
            ['spec.completionMode: Unsupported value: "Some": supported values: "Indexed", "NonIndexed"'],
        ),
        (
            {"spec.completionMode": "Indexed", "spec.parallelism": 1},
            ["spec.completions: Required value: when completion mode is Indexed"],
        ),
        (
            {**INDEXED, "spec.parallelism": 100_001},
            [
                "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed"
            ],
        ),
        ({"spec.backoffLimitPerIndex": 1}, [f"spec.backoffLimitPerIndex: Invalid value: 1: {ONLY_INDEXED}"]),
        ({"spec.maxFailedIndexes": 1}, [f"spec.maxFailedIndexes: Invalid value: 1: {ONLY_INDEXED}"]),
        (
            {**INDEXED, "spec.maxFailedIndexes": 4, "spec.backoffLimitPerIndex": 1},
            ["spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions"],
        ),
        (
            {**INDEXED, "spec.successPolicy": {"rules": [{}]}},
            [
                "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified"
            ],
        ),
        (
            {"spec.managedBy": "me"},
            ['spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")'],
        ),
        (
            {"spec.podFailurePolicy": {"rules": [{"action": "Ignore"}]}},
            [
                (
                    'spec.podFailurePolicy.rules[0]: Invalid value: {"action":"Ignore"}: specifying one of OnExitCodes and '
                    "OnPodConditions is required"
                )
            ],
        ),
        (
            {"spec.podReplacementPolicy": "Some"},
            ['spec.podReplacementPolicy: Unsupported value: "Some": supported values: "Failed", "TerminatingOrFailed"'],
        ),
    ],
    updates=[
        ({"spec.parallelism": 3, "spec.suspend": True, "spec.backoffLimit": 1, "spec.ttlSecondsAfterFinished": 1}, []),
        ({"spec.completions": 3}, [f"spec.completions: Invalid value: 3: {IMMUTABLE}"]),
        ({"spec.completionMode": "Indexed"}, [f'spec.completionMode: Invalid value: "Indexed": {IMMUTABLE}']),
        ({"spec.managedBy": "a.b/c"}, [f'spec.managedBy: Invalid value: "a.b/c": {IMMUTABLE}']),
    ],
    updates_full=[
        ({"spec.template.spec.nodeSelector": {"a": "b"}}, []),
        ({"spec.completions": 4, "spec.parallelism": 4}, []),
        ({"spec.backoffLimitPerIndex": 2}, [f"spec.backoffLimitPerIndex: Invalid value: 2: {IMMUTABLE}"]),
    ],
    columns=["Name", "Status", "Completions", "Duration", "Age", "Containers*", "Images*", "Selector*"],
    cells=["web", "Suspended", "1/5", "30s", "10m", "c", "nginx:1", "batch.kubernetes.io/controller-uid=1234"],
    status={
        "conditions": [{"type": "Suspended", "status": "True"}],
        "succeeded": 1,
        "startTime": "2026-01-01T00:09:30Z",
    },
)

CRON_JOB = Table(
    "batch/v1",
    "CronJob",
    minimal={"spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": JOB_TEMPLATE}}}},
    defaulted={
        "spec": {
            "schedule": "@daily",
            "concurrencyPolicy": "Allow",
            "suspend": False,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {
                "metadata": {},
                "spec": {"template": {"metadata": {}, "spec": {**WHOLE_SPEC, "restartPolicy": "Never"}}},
            },
        },
        "status": {},
    },
    full={
        "spec": {
            "schedule": "*/5 0-6 1,15 jan mon-fri",
            "timeZone": "Europe/Berlin",
            "startingDeadlineSeconds": 10,
            "concurrencyPolicy": "Forbid",
            "suspend": True,
            "successfulJobsHistoryLimit": 0,
            "failedJobsHistoryLimit": 0,
            "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": JOB_TEMPLATE}},
        }
    },
    invalid=[
        ({"spec.schedule": GONE}, ["spec.schedule: Required value"]),
        (
            {"spec.schedule": "TZ=UTC @daily"},
            [
                'spec.schedule: Invalid value: "TZ=UTC @daily": cannot use TZ or CRON_TZ in schedule, use timeZone field instead'
            ],
        ),
        (
            {"spec.schedule": "* * *"},
            ['spec.schedule: Invalid value: "* * *": expected exactly 5 fields, found 3: [* * *]'],
        ),
        ({"spec.timeZone": ""}, ['spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string']),
        (
            {"spec.concurrencyPolicy": "Some"},
            ['spec.concurrencyPolicy: Unsupported value: "Some": supported values: "Allow", "Forbid", "Replace"'],
        ),
        (
            {"spec.startingDeadlineSeconds": -1},
            [f"spec.startingDeadlineSeconds: Invalid value: -1: {NEGATIVE}"],
        ),
        (
            {"spec.jobTemplate.spec.template.spec.restartPolicy": "Always"},
            ['spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'],
        ),
        (
            {"spec.jobTemplate.spec.manualSelector": True},
            ['spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false"'],
        ),
        (
            {"metadata.name": "a" * 53},
            ['metadata.name: Invalid value: "' + "a" * 53 + '": must be no more than 52 characters'],
        ),
    ],
    updates=[({"spec.schedule": "@hourly", "spec.suspend": True}, [])],
    columns=[
        "Name",
        "Schedule",
        "Timezone",
        "Suspend",
        "Active",
        "Last Schedule",
        "Age",
        "Containers*",
        "Images*",
        "Selector*",
    ],
    cells=["web", "*/5 0-6 1,15 jan mon-fri", "Europe/Berlin", "True", 0, "<none>", "10m", "c", "nginx:1", "<none>"],
)

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
    ({"spec.minReplicas": 0}, ["spec.minReplicas: Invalid value: 0: must be greater than or equal to 1"]),
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

TABLES = [
    DEPLOYMENT,
    REPLICA_SET,
    REPLICATION_CONTROLLER,
    DAEMON_SET,
    STATEFUL_SET,
    CONTROLLER_REVISION,
    POD_TEMPLATE,
    JOB,
    CRON_JOB,
    AUTOSCALER,
    AUTOSCALER_V1,
]
