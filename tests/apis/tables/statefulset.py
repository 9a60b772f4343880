"""StatefulSets."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

from tests.apis.tables.table import GONE, Table
from tests.apis.tables.templates import NEGATIVE, SELECTOR, TEMPLATE, WHOLE_TEMPLATE
from tests.apis.tables.workloads import OTHER_SELECTOR, of_apps

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

TABLES = [STATEFUL_SET]
