"""Nodes, endpoints, events and storage: what says how the cluster is."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

from tests.apis.tables.core import IMMUTABLE, NOT_A_LABEL
from tests.apis.tables.networking import NOT_A_CIDR, NOT_A_PORT, NOT_AN_IP
from tests.apis.tables.storage import NOT_QUALIFIED
from tests.apis.tables.table import GONE, Table

TAINT = {"key": "k", "value": "v", "effect": "NoSchedule"}

NODE = Table(
    "v1",
    "Node",
    minimal={"spec": {"podCIDR": "10.0.0.0/24"}, "status": {"capacity": {"cpu": "1"}}},
    defaulted={
        "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]},
        "status": {"capacity": {"cpu": "1"}, "allocatable": {"cpu": "1"}},
    },
    full={
        "metadata": {"labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "extra"}},
        "spec": {
            "podCIDRs": ["10.0.0.0/24", "2001:db8::/64"],
            "providerID": "p",
            "unschedulable": True,
            "taints": [TAINT, {**TAINT, "effect": "NoExecute"}],
        },
    },
    invalid=[
        ({"spec.taints": [{"key": "k"}]}, ["spec.taints[0].effect: Required value"]),
        (
            {"spec.taints": [{**TAINT, "effect": "Some"}]},
            [
                'spec.taints[0].effect: Unsupported value: "Some": supported values: "NoExecute", "NoSchedule", "PreferNoSchedule"'
            ],
        ),
        ({"spec.taints": [{**TAINT, "key": "a b"}]}, [f'spec.taints[0].key: Invalid value: "a b": {NOT_QUALIFIED}']),
        (
            {"spec.taints": [TAINT, TAINT]},
            [
                (
                    'spec.taints[1]: Duplicate value: {"effect":"NoSchedule","key":"k","value":"v"}: taints must be unique by key '
                    "and effect pair"
                )
            ],
        ),
        ({"spec.podCIDR": "x"}, [f'spec.podCIDRs[0]: Invalid value: "x": {NOT_A_CIDR}']),
        (
            {"spec": {"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"]}},
            [
                'spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: may specify no more than one CIDR for each IP family'
            ],
        ),
    ],
    updates=[
        ({"spec.taints": [TAINT], "spec.unschedulable": True, "spec.providerID": "p"}, []),
        (
            {"spec": {"podCIDRs": ["10.0.1.0/24"]}},
            ['spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid'],
        ),
    ],
    updates_full=[
        (
            {"spec.providerID": "q"},
            ['spec.providerID: Forbidden: node updates may not change providerID except from "" to valid'],
        )
    ],
    columns=[
        "Name",
        "Status",
        "Roles",
        "Age",
        "Version",
        "Internal-IP*",
        "External-IP*",
        "OS-Image*",
        "Kernel-Version*",
        "Container-Runtime*",
    ],
    cells=[
        "web",
        "NotReady,SchedulingDisabled",
        "control-plane,extra",
        "10m",
        "v1.37.0",
        "10.0.0.1",
        "<none>",
        "Debian",
        "6.1",
        "pinnace://1",
    ],
    status={
        "conditions": [{"type": "Ready", "status": "False"}],
        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
        "nodeInfo": {
            "kubeletVersion": "v1.37.0",
            "osImage": "Debian",
            "kernelVersion": "6.1",
            "containerRuntimeVersion": "pinnace://1",
        },
    },
)

ENDPOINTS = Table(
    "v1",
    "Endpoints",
    minimal={"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]},
    defaulted={"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80, "protocol": "TCP"}]}]},
    full={
        "subsets": [
            {
                "addresses": [
                    {"ip": "10.0.0.1", "hostname": "h", "nodeName": "n", "targetRef": {"kind": "Pod", "name": "p"}}
                ],
                "notReadyAddresses": [{"ip": "2001:db8::1"}],
                "ports": [
                    {"name": "a", "port": 80, "appProtocol": "http"},
                    {"name": "b", "port": 53, "protocol": "UDP"},
                ],
            }
        ]
    },
    invalid=[
        ({"subsets": [{}]}, ["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"]),
        ({"subsets[0].addresses[0].ip": "x"}, [f'subsets[0].addresses[0].ip: Invalid value: "x": {NOT_AN_IP}']),
        (
            {"subsets[0].addresses[0].ip": "169.254.0.1"},
            [
                'subsets[0].addresses[0].ip: Invalid value: "169.254.0.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)'
            ],
        ),
        (
            {"subsets[0].addresses[0].ip": "224.0.0.1"},
            [
                (
                    'subsets[0].addresses[0].ip: Invalid value: "224.0.0.1": may not be in the link-local multicast range '
                    "(224.0.0.0/24, ff02::/10)"
                )
            ],
        ),
        (
            {"subsets[0].addresses[0].hostname": "H"},
            [f'subsets[0].addresses[0].hostname: Invalid value: "H": {NOT_A_LABEL}'],
        ),
        ({"subsets[0].ports[0].port": 0}, [f"subsets[0].ports[0].port: Invalid value: 0: {NOT_A_PORT}"]),
        (
            {"subsets[0].ports": [{"port": 1}, {"name": "b", "port": 2}]},
            ["subsets[0].ports[0].name: Required value"],
        ),
        (
            {"subsets[0].ports[0].protocol": "X"},
            ['subsets[0].ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"'],
        ),
    ],
    updates=[({"subsets": []}, [])],
    columns=["Name", "Endpoints", "Age"],
    cells=["web", "10.0.0.1:80,10.0.0.1:53", "10m"],
)

ABOUT = {"kind": "Pod", "namespace": "default", "name": "p"}
OCCURRED = {
    "eventTime": "2026-01-01T00:00:00.000000Z",
    "reason": "Pulled",
    "action": "Pulling",
    "reportingInstance": "n",
    "type": "Normal",
}

EVENT = Table(
    "v1",
    "Event",
    minimal={"involvedObject": ABOUT},
    defaulted={"involvedObject": ABOUT},
    full={
        "involvedObject": {**ABOUT, "fieldPath": "spec.containers{c}"},
        "reason": "Pulled",
        "message": "Pulled it",
        "source": {"component": "kubelet", "host": "n"},
        "firstTimestamp": "2026-01-01T00:05:00Z",
        "lastTimestamp": "2026-01-01T00:09:00Z",
        "count": 3,
        "type": "Normal",
    },
    invalid=[
        (
            {"involvedObject.namespace": "other"},
            ['involvedObject.namespace: Invalid value: "other": does not match event.namespace'],
        ),
        (
            {"metadata.namespace": "x", "involvedObject.namespace": GONE},
            ['involvedObject.namespace: Invalid value: "": does not match event.namespace'],
        ),
        (
            {"metadata.namespace": "kube-system", "involvedObject.namespace": GONE},
            ['involvedObject.namespace: Invalid value: "": does not match event.namespace'],
        ),
        (
            {"eventTime": OCCURRED["eventTime"], "reason": "x" * 129},
            [
                "reportingComponent: Required value",
                'reportingComponent: Invalid value: "": name part must be non-empty',
                f'reportingComponent: Invalid value: "": {NOT_QUALIFIED}',
                "reportingInstance: Required value",
                "action: Required value",
                'reason: Invalid value: "": can have at most 128 characters',
            ],
        ),
    ],
    updates=[({"count": 5, "message": "again"}, [])],
    columns=[
        "Last Seen",
        "Type",
        "Reason",
        "Object",
        "Subobject*",
        "Source*",
        "Message",
        "First Seen*",
        "Count*",
        "Name*",
    ],
    cells=["60s", "Normal", "Pulled", "pod/p", "spec.containers{c}", "kubelet, n", "Pulled it", "5m", 3, "web"],
)

NEW_EVENT = Table(
    "events.k8s.io/v1",
    "Event",
    minimal={"regarding": ABOUT, "reportingController": "kubelet", **OCCURRED},
    defaulted={"regarding": ABOUT, "reportingController": "kubelet", **OCCURRED},
    full={
        "regarding": ABOUT,
        "reportingController": "kubelet",
        **OCCURRED,
        "note": "done",
        "series": {"count": 2, "lastObservedTime": "2026-01-01T00:08:00.000000Z"},
    },
    invalid=[
        ({"eventTime": GONE}, ["eventTime: Required value"]),
        ({"type": "Some"}, ['type: Invalid value: "": has invalid value: Some']),
        ({"action": GONE}, ["action: Required value"]),
        (
            {"reportingController": GONE},
            [
                "reportingController: Required value",
                'reportingController: Invalid value: "": name part must be non-empty',
                f'reportingController: Invalid value: "": {NOT_QUALIFIED}',
            ],
        ),
        (
            {"metadata.namespace": "x", "regarding.namespace": GONE},
            ['involvedObject.namespace: Invalid value: "": does not match event.namespace'],
        ),
        ({"reportingController": "a b"}, [f'reportingController: Invalid value: "a b": {NOT_QUALIFIED}']),
        ({"deprecatedCount": 1}, ['count: Invalid value: "": needs to be unset']),
        (
            {"series": {"count": 1}},
            ['series.count: Invalid value: "": should be at least 2', "series.lastObservedTime: Required value"],
        ),
        ({"note": "x" * 1025}, ['message: Invalid value: "": can have at most 1024 characters']),
    ],
    updates=[
        ({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:08:00.000000Z"}}, []),
        (
            {"series": {"count": 1}},
            ['series.count: Invalid value: "": should be at least 2', "series.lastObservedTime: Required value"],
        ),
        ({"eventTime": "2026-01-01T00:00:00Z"}, []),
        ({"eventTime": "2026-01-01T01:00:00.0000001+01:00"}, []),
        (
            {"eventTime": "2026-01-01T00:00:00.000001Z"},
            [f'eventTime: Invalid value: "2026-01-01T00:00:00.000001Z": {IMMUTABLE}'],
        ),
        ({"deprecatedSource": {"component": "c"}}, [f'source: Invalid value: {{"component":"c"}}: {IMMUTABLE}']),
        ({"reason": "Other"}, [f'reason: Invalid value: "Other": {IMMUTABLE}']),
        ({"note": "other"}, [f'message: Invalid value: "other": {IMMUTABLE}']),
    ],
    columns=EVENT.columns,
    cells=["2m", "Normal", "Pulled", "pod/p", "", "kubelet, n", "done", "10m", 2, "web"],
)

VOLUME = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"}}

PERSISTENT_VOLUME = Table(
    "v1",
    "PersistentVolume",
    minimal={"spec": VOLUME},
    defaulted={
        "spec": {
            **VOLUME,
            "hostPath": {"path": "/data", "type": ""},
            "persistentVolumeReclaimPolicy": "Retain",
            "volumeMode": "Filesystem",
        },
        "status": {"phase": "Pending"},
    },
    full={
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
            "local": {"path": "/disk"},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]
                }
            },
            "claimRef": {"namespace": "default", "name": "c"},
            "storageClassName": "fast",
            "persistentVolumeReclaimPolicy": "Delete",
            "volumeMode": "Block",
            "mountOptions": ["ro"],
        }
    },
    invalid=[
        ({"spec.accessModes": []}, ["spec.accessModes: Required value"]),
        (
            {"spec.accessModes": ["Some"]},
            [
                (
                    'spec.accessModes: Unsupported value: "Some": supported values: "ReadOnlyMany", "ReadWriteMany", '
                    '"ReadWriteOnce", "ReadWriteOncePod"'
                )
            ],
        ),
        (
            {"spec.capacity": GONE},
            ["spec.capacity: Required value", 'spec.capacity: Unsupported value: {}: supported values: "storage"'],
        ),
        ({"spec.capacity.storage": "0"}, ['spec.capacity[storage]: Invalid value: "0": must be greater than zero']),
        (
            {"spec.persistentVolumeReclaimPolicy": "Some"},
            [
                'spec.persistentVolumeReclaimPolicy: Unsupported value: "Some": supported values: "Delete", "Recycle", "Retain"'
            ],
        ),
        ({"spec.hostPath": GONE}, ["spec: Required value: must specify a volume type"]),
        ({"spec.nfs": {"server": "s", "path": "/"}}, ["spec.nfs: Forbidden: may not specify more than 1 volume type"]),
        (
            {"spec.hostPath.path": "/", "spec.persistentVolumeReclaimPolicy": "Recycle"},
            ["spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"],
        ),
        (
            {"spec.volumeMode": "Some"},
            ['spec.volumeMode: Unsupported value: "Some": supported values: "Block", "Filesystem"'],
        ),
    ],
    invalid_full=[
        ({"spec.nodeAffinity": GONE}, ["spec.nodeAffinity: Required value: Local volume requires node affinity"])
    ],
    updates=[
        ({"spec.capacity.storage": "2Gi", "spec.storageClassName": "x"}, []),
        (
            {"spec.hostPath.path": "/other"},
            ["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"],
        ),
        ({"spec.volumeMode": "Block"}, [f'spec.volumeMode: Invalid value: "Block": {IMMUTABLE}']),
    ],
    columns=[
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
        "VolumeMode*",
    ],
    cells=["web", "1Gi", "RWO,ROX", "Delete", "Bound", "default/c", "fast", "<unset>", "", "10m", "Block"],
    status={"phase": "Bound"},
)

CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
FIXED = (
    "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound "
    "claims\n"
)

PERSISTENT_VOLUME_CLAIM = Table(
    "v1",
    "PersistentVolumeClaim",
    minimal={"spec": CLAIM},
    defaulted={"spec": {**CLAIM, "volumeMode": "Filesystem"}, "status": {"phase": "Pending"}},
    full={
        "spec": {
            **CLAIM,
            "storageClassName": "fast",
            "volumeName": "v",
            "volumeMode": "Block",
            "selector": {"matchLabels": {"a": "b"}},
            "dataSource": {"kind": "PersistentVolumeClaim", "name": "other"},
            "volumeAttributesClassName": "gold",
        }
    },
    invalid=[
        ({"spec.accessModes": []}, ["spec.accessModes: Required value: at least 1 access mode is required"]),
        (
            {"spec.accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]},
            ["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"],
        ),
        ({"spec.resources": GONE}, ["spec.resources[storage]: Required value"]),
        (
            {"spec.resources.requests.storage": "-1"},
            ['spec.resources[storage]: Invalid value: "-1": must be greater than zero'],
        ),
        (
            {"spec.volumeMode": "Some"},
            ['spec.volumeMode: Unsupported value: "Some": supported values: "Block", "Filesystem"'],
        ),
    ],
    updates=[
        ({"spec.volumeName": "v"}, []),
        (
            {"spec.accessModes": ["ReadOnlyMany"]},
            [FIXED + "- accessModes: ['ReadWriteOnce']\n+ accessModes: ['ReadOnlyMany']"],
        ),
        (
            {"spec.resources.requests.storage": "2Gi"},
            [FIXED + "- resources: {'requests': {'storage': '1Gi'}}\n+ resources: {'requests': {'storage': '2Gi'}}"],
        ),
    ],
    columns=[
        "Name",
        "Status",
        "Volume",
        "Capacity",
        "Access Modes",
        "StorageClass",
        "VolumeAttributesClass",
        "Age",
        "VolumeMode*",
    ],
    cells=["web", "Bound", "v", "1Gi", "RWO", "fast", "gold", "10m", "Block"],
    status={"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]},
)

TABLES = [NODE, ENDPOINTS, EVENT, NEW_EVENT, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM]
