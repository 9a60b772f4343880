"""Storage classes, drivers, capacities, attachments."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

from tests.apis.tables.core import IMMUTABLE, NOT_A_SUBDOMAIN
from tests.apis.tables.table import GONE, Table

NOT_QUALIFIED = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)

STORAGE_CLASS = Table(
    "storage.k8s.io/v1",
    "StorageClass",
    minimal={"provisioner": "example.com/p"},
    defaulted={"provisioner": "example.com/p", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"},
    full={
        "metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "p",
        "parameters": {"a": "b"},
        "reclaimPolicy": "Retain",
        "mountOptions": ["ro"],
        "allowVolumeExpansion": True,
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": ["a", "b"]}]}],
    },
    invalid=[
        ({"provisioner": GONE}, ["provisioner: Required value"]),
        ({"provisioner": "a b"}, [f'provisioner: Invalid value: "a b": {NOT_QUALIFIED}']),
        ({"reclaimPolicy": "Keep"}, ['reclaimPolicy: Unsupported value: "Keep": supported values: "Delete", "Retain"']),
        (
            {"volumeBindingMode": "Later"},
            ['volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer"'],
        ),
        ({"parameters": {"": "a"}}, ['parameters: Invalid value: "": field can not be empty.']),
        ({"parameters": {"a": "x" * (256 << 10)}}, ["parameters: Too long: may not be more than 262144 bytes"]),
        (
            {"allowedTopologies": [{"matchLabelExpressions": [{"key": "z"}]}]},
            ["allowedTopologies[0].matchLabelExpressions[0].values: Required value"],
        ),
        (
            {"allowedTopologies": [{"matchLabelExpressions": [{"key": "z", "values": ["a", "a"]}]}]},
            ['allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: "a"'],
        ),
    ],
    updates=[
        ({"parameters": {"a": "b"}}, ["parameters: Forbidden: updates to parameters are forbidden."]),
        ({"provisioner": "other"}, ["provisioner: Forbidden: updates to provisioner are forbidden."]),
        ({"reclaimPolicy": "Retain"}, ["reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden."]),
        (
            {"volumeBindingMode": "WaitForFirstConsumer"},
            [f'volumeBindingMode: Invalid value: "WaitForFirstConsumer": {IMMUTABLE}'],
        ),
        ({"allowVolumeExpansion": True}, []),
    ],
    columns=["Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"],
    cells=["web (default)", "p", "Retain", "WaitForFirstConsumer", True, "10m"],
)

VOLUME_ATTRIBUTES_CLASS = Table(
    "storage.k8s.io/v1",
    "VolumeAttributesClass",
    minimal={"driverName": "d", "parameters": {"iops": "1"}},
    defaulted={"driverName": "d", "parameters": {"iops": "1"}},
    invalid=[
        ({"driverName": GONE}, ["driverName: Required value"]),
        ({"parameters": GONE}, ["parameters: Required value: must contain at least one key/value pair"]),
    ],
    updates=[
        ({"driverName": "e"}, ["driverName: Forbidden: updates to driverName are forbidden."]),
        ({"parameters.iops": "2"}, ["parameters: Forbidden: updates to parameters are forbidden."]),
    ],
    columns=["Name", "DriverName", "Age"],
    cells=["web", "d", "10m"],
)

CSI_DRIVER = Table(
    "storage.k8s.io/v1",
    "CSIDriver",
    minimal={"spec": {}},
    defaulted={
        "spec": {
            "attachRequired": True,
            "podInfoOnMount": False,
            "volumeLifecycleModes": ["Persistent"],
            "storageCapacity": False,
            "fsGroupPolicy": "ReadWriteOnceWithFSType",
            "requiresRepublish": False,
            "seLinuxMount": False,
        }
    },
    full={
        "spec": {
            "attachRequired": False,
            "podInfoOnMount": True,
            "volumeLifecycleModes": ["Persistent", "Ephemeral"],
            "storageCapacity": True,
            "fsGroupPolicy": "File",
            "tokenRequests": [{"audience": "a"}, {"audience": "", "expirationSeconds": 3600}],
            "requiresRepublish": True,
        }
    },
    invalid=[
        (
            {"spec.volumeLifecycleModes": ["Once"]},
            ['spec.volumeLifecycleModes: Unsupported value: "Once": supported values: "Ephemeral", "Persistent"'],
        ),
        (
            {"spec.fsGroupPolicy": "All"},
            [
                'spec.fsGroupPolicy: Unsupported value: "All": supported values: "File", "None", "ReadWriteOnceWithFSType"'
            ],
        ),
        (
            {"spec.tokenRequests": [{"audience": "a"}, {"audience": "a", "expirationSeconds": 60}]},
            [
                'spec.tokenRequests[1].audience: Duplicate value: "a"',
                "spec.tokenRequests[1].expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes",
            ],
        ),
        ({"metadata.name": "a" * 64}, ["metadata.name: Too long: may not be more than 63 bytes"]),
    ],
    updates=[
        ({"spec.attachRequired": False}, [f"spec.attachedRequired: Invalid value: false: {IMMUTABLE}"]),
        (
            {"spec.volumeLifecycleModes": ["Ephemeral"]},
            [f'spec.volumeLifecycleModes: Invalid value: ["Ephemeral"]: {IMMUTABLE}'],
        ),
        ({"spec.podInfoOnMount": True}, []),
    ],
    columns=[
        "Name",
        "AttachRequired",
        "PodInfoOnMount",
        "StorageCapacity",
        "TokenRequests",
        "RequiresRepublish",
        "Modes",
        "Age",
    ],
    cells=["web", False, True, True, "a,", True, "Persistent,Ephemeral", "10m"],
)

DRIVER = {"name": "d.example.com", "nodeID": "n"}

CSI_NODE = Table(
    "storage.k8s.io/v1",
    "CSINode",
    minimal={"spec": {"drivers": []}},
    defaulted={"spec": {"drivers": []}},
    full={"spec": {"drivers": [{**DRIVER, "topologyKeys": ["zone"], "allocatable": {"count": 3}}]}},
    invalid=[
        ({"spec.drivers": [{"name": "d"}]}, ["spec.drivers[0].nodeID: Required value"]),
        ({"spec.drivers": [{"nodeID": "n"}]}, ["spec.drivers[0].name: Required value"]),
        ({"spec.drivers": [DRIVER, DRIVER]}, ['spec.drivers[1].name: Duplicate value: "d.example.com"']),
        (
            {"spec.drivers": [{**DRIVER, "allocatable": {"count": -1}}]},
            ["spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0"],
        ),
    ],
    updates=[({"spec.drivers": [DRIVER]}, [])],
    updates_full=[
        ({"spec.drivers[0].allocatable.count": 5}, []),
        ({"spec.drivers": []}, []),
        (
            {"spec.drivers": [DRIVER]},
            [f'CSINodeDriver: Invalid value: [{{"name":"d.example.com","nodeID":"n"}}]: {IMMUTABLE}'],
        ),
    ],
    columns=["Name", "Drivers", "Age"],
    cells=["web", 1, "10m"],
)

CSI_STORAGE_CAPACITY = Table(
    "storage.k8s.io/v1",
    "CSIStorageCapacity",
    minimal={"storageClassName": "fast"},
    defaulted={"storageClassName": "fast"},
    full={
        "storageClassName": "fast",
        "nodeTopology": {"matchLabels": {"a": "b"}},
        "capacity": "1Gi",
        "maximumVolumeSize": "1Mi",
    },
    invalid=[
        ({"storageClassName": "A"}, [f'storageClassName: Invalid value: "A": {NOT_A_SUBDOMAIN}']),
        ({"capacity": "-1"}, ['capacity: Invalid value: "-1": must be greater than or equal to 0']),
    ],
    updates=[
        ({"storageClassName": "slow"}, [f'storageClassName: Invalid value: "slow": {IMMUTABLE}']),
        ({"capacity": "2Gi"}, []),
    ],
    columns=["Name", "StorageClassName", "Capacity"],
    cells=["web", "fast", "1Gi"],
)

ONE_SOURCE = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"

VOLUME_ATTACHMENT = Table(
    "storage.k8s.io/v1",
    "VolumeAttachment",
    minimal={"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}},
    defaulted={
        "spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}},
        "status": {"attached": False},
    },
    invalid=[
        ({"spec.attacher": ""}, ["spec.attacher: Required value"]),
        ({"spec.source": {}}, [f"spec.source: Required value: {ONE_SOURCE}"]),
        ({"spec.source.inlineVolumeSpec": {}}, [f"spec.source: Forbidden: {ONE_SOURCE}"]),
        ({"spec.nodeName": "N"}, [f'spec.nodeName: Invalid value: "N": {NOT_A_SUBDOMAIN}']),
    ],
    updates=[
        (
            {"spec.nodeName": "m"},
            [
                (
                    'spec: Invalid value: {"attacher":"a","nodeName":"m","source":{"persistentVolumeName":"v"}}: '
                    f"{IMMUTABLE}"
                )
            ],
        ),
        ({"metadata.labels[a]": "b"}, []),
    ],
    columns=["Name", "Attacher", "PV", "Node", "Attached", "Age"],
    cells=["web", "a", "v", "n", False, "10m"],
)

TABLES = [STORAGE_CLASS, VOLUME_ATTRIBUTES_CLASS, CSI_DRIVER, CSI_NODE, CSI_STORAGE_CAPACITY, VOLUME_ATTACHMENT]
