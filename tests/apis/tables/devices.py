"""Devices, certificates and the migration of stored objects."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

import base64

from tests.apis.tables.core import IMMUTABLE, NOT_A_LABEL, NOT_A_SUBDOMAIN
from tests.apis.tables.storage import NOT_QUALIFIED
from tests.apis.tables.table import GONE, Cases, Table

REQUEST = {"name": "r", "exactly": {"deviceClassName": "gpu"}}
WHOLE_REQUEST = {"name": "r", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}}


def of_requests(path: str) -> Cases:
    """What a claim may not ask for; `path` is that of its requests."""
    return [
        ({f"{path}[0].name": GONE}, [f"{path}[0].name: Required value"]),
        ({f"{path}[0].name": "R"}, [f'{path}[0].name: Invalid value: "R": {NOT_A_LABEL}']),
        (
            {f"{path}[0].exactly": GONE},
            [f"{path}[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"],
        ),
        ({f"{path}[0].exactly": {}}, [f"{path}[0].exactly.deviceClassName: Required value"]),
        (
            {f"{path}[0].exactly.deviceClassName": "G"},
            [f'{path}[0].exactly.deviceClassName: Invalid value: "G": {NOT_A_SUBDOMAIN}'],
        ),
        ({f"{path}[0].exactly.count": -1}, [f"{path}[0].exactly.count: Invalid value: -1: must be greater than zero"]),
        (
            {f"{path}[0].exactly.allocationMode": "Some"},
            [f'{path}[0].exactly.allocationMode: Unsupported value: "Some": supported values: "All", "ExactCount"'],
        ),
        ({f"{path}[1]": REQUEST}, [f'{path}[1].name: Duplicate value: "r"']),
        ({f"{path}[0].exactly.selectors": [{}]}, [f"{path}[0].exactly.selectors[0].cel: Required value"]),
    ]


RESOURCE_CLAIM = Table(
    "resource.k8s.io/v1",
    "ResourceClaim",
    minimal={"spec": {"devices": {"requests": [REQUEST]}}},
    defaulted={"spec": {"devices": {"requests": [WHOLE_REQUEST]}}, "status": {}},
    full={
        "spec": {
            "devices": {
                "requests": [
                    {"name": "all", "exactly": {"deviceClassName": "gpu", "allocationMode": "All"}},
                    {
                        "name": "any",
                        "firstAvailable": [
                            {"name": "a", "deviceClassName": "big", "selectors": [{"cel": {"expression": "true"}}]},
                            {"name": "b", "deviceClassName": "small", "count": 2},
                        ],
                    },
                ]
            }
        }
    },
    invalid=of_requests("spec.devices.requests"),
    updates=[
        (
            {"spec.devices.requests[0].exactly.count": 2},
            [
                (
                    'spec: Invalid value: {"devices":{"requests":[{"exactly":{"allocationMode":"ExactCount","count":2,'
                    f'"deviceClassName":"gpu"}},"name":"r"}}]}}}}: {IMMUTABLE}'
                )
            ],
        ),
        ({"metadata.labels[a]": "b"}, []),
    ],
    columns=["Name", "State", "Age"],
    cells=["web", "allocated,reserved", "10m"],
    status={"allocation": {}, "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]},
)

RESOURCE_CLAIM_TEMPLATE = Table(
    "resource.k8s.io/v1",
    "ResourceClaimTemplate",
    minimal={"spec": {"spec": {"devices": {"requests": [REQUEST]}}}},
    defaulted={"spec": {"spec": {"devices": {"requests": [WHOLE_REQUEST]}}}},
    invalid=of_requests("spec.spec.devices.requests"),
    updates=[
        (
            {"spec.spec": {}},
            [f'spec: Invalid value: {{"spec":{{}}}}: {IMMUTABLE}'],
        )
    ],
    columns=["Name", "Age"],
)

DEVICE_CLASS = Table(
    "resource.k8s.io/v1",
    "DeviceClass",
    minimal={"spec": {}},
    defaulted={"spec": {}},
    full={"spec": {"selectors": [{"cel": {"expression": "device.driver == 'd'"}}]}},
    invalid=[
        ({"spec.selectors": [{}]}, ["spec.selectors[0].cel: Required value"]),
        ({"spec.selectors": [{"cel": {}}]}, ["spec.selectors[0].cel.expression: Required value"]),
    ],
    updates=[({"spec.selectors": [{"cel": {"expression": "true"}}]}, [])],
    columns=["Name", "Age"],
)

ONE_OF = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
POOL = {"name": "p", "generation": 1, "resourceSliceCount": 1}

RESOURCE_SLICE = Table(
    "resource.k8s.io/v1",
    "ResourceSlice",
    minimal={"spec": {"driver": "d", "pool": POOL, "nodeName": "n"}},
    defaulted={"spec": {"driver": "d", "pool": POOL, "nodeName": "n"}},
    full={
        "spec": {
            "driver": "d",
            "pool": POOL,
            "allNodes": True,
            "devices": [{"name": "a", "attributes": {"x": {"int": 1}}, "capacity": {"memory": {"value": "1Gi"}}}],
        }
    },
    invalid=[
        ({"spec.driver": GONE}, ["spec.driver: Required value"]),
        ({"spec.pool.name": GONE}, ["spec.pool.name: Required value"]),
        (
            {"spec.pool.resourceSliceCount": 0},
            ["spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero"],
        ),
        ({"spec.nodeName": GONE}, [f"spec: Required value: {ONE_OF}"]),
        (
            {"spec.allNodes": True},
            [f'spec: Invalid value: "{{`nodeName`, `allNodes`}}": {ONE_OF}, but multiple fields are set'],
        ),
        ({"spec.devices": [{"name": "a"}, {"name": "a"}]}, ['spec.devices[1].name: Duplicate value: "a"']),
    ],
    updates=[
        ({"spec.devices": [{"name": "a"}]}, []),
        ({"spec.driver": "e"}, [f'spec.driver: Invalid value: "e": {IMMUTABLE}']),
        ({"spec.pool.name": "q"}, [f'spec.pool.name: Invalid value: "q": {IMMUTABLE}']),
        ({"spec.nodeName": "m"}, [f'spec.nodeName: Invalid value: "m": {IMMUTABLE}']),
    ],
    columns=["Name", "Node", "Driver", "Pool", "Age"],
    cells=["web", "<all>", "d", "p", "10m"],
)

DEVICE_TAINT_RULE = Table(
    "resource.k8s.io/v1",
    "DeviceTaintRule",
    minimal={"spec": {"taint": {"key": "broken", "effect": "NoSchedule"}}},
    defaulted={"spec": {"taint": {"key": "broken", "effect": "NoSchedule"}}, "status": {}},
    invalid=[
        ({"spec.taint.effect": GONE}, ["spec.taint.effect: Required value"]),
        ({"spec.taint.key": "a b"}, [f'spec.taint.key: Invalid value: "a b": {NOT_QUALIFIED}']),
        (
            {"spec.taint.effect": "Some"},
            ['spec.taint.effect: Unsupported value: "Some": supported values: "NoExecute", "NoSchedule", "None"'],
        ),
    ],
    updates=[({"spec.taint.effect": "NoExecute"}, [])],
    columns=["Name", "Age"],
)

PEM = base64.b64encode(b"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n").decode()
SIGNER = "example.com/signer"

APPROVED = {"type": "Approved", "status": "True"}

SIGNING_REQUEST = Table(
    "certificates.k8s.io/v1",
    "CertificateSigningRequest",
    minimal={"spec": {"request": PEM, "signerName": SIGNER, "usages": ["client auth"]}},
    defaulted={"spec": {"request": PEM, "signerName": SIGNER, "usages": ["client auth"]}, "status": {}},
    full={
        "spec": {
            "request": PEM,
            "signerName": SIGNER,
            "usages": ["digital signature", "key encipherment", "client auth"],
            "expirationSeconds": 3600,
            "username": "me",
        }
    },
    invalid=[
        ({"spec.request": "YQ=="}, ['spec.request: Invalid value: "YQ==": PEM block type must be CERTIFICATE REQUEST']),
        ({"spec.usages": []}, ["spec.usages: Required value"]),
        ({"spec.signerName": GONE}, ["spec.signerName: Required value"]),
        (
            {"spec.signerName": "signer"},
            [
                (
                    'spec.signerName: Invalid value: "signer": must be a fully qualified domain and path of the form '
                    '"example.com/signer-name"'
                )
            ],
        ),
        (
            {"spec.expirationSeconds": 60},
            [
                "spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 600 seconds (10 minutes)"
            ],
        ),
        ({"spec.usages": ["client auth", "client auth"]}, ['spec.usages[1]: Duplicate value: "client auth"']),
    ],
    updates=[
        ({"spec.signerName": "example.com/other"}, []),
        ({"metadata.labels[a]": "b"}, []),
        ({"status.conditions": [APPROVED]}, []),
        (
            {"status.conditions": [APPROVED, {"type": "Denied", "status": "True"}]},
            [
                'status.conditions[1].type: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive'
            ],
        ),
        (
            {"status.conditions": [{"type": "Approved", "status": "False"}]},
            ['status.conditions[0].status: Unsupported value: "False": supported values: "True"'],
        ),
    ],
    columns=["Name", "Age", "SignerName", "Requestor", "RequestedDuration", "Condition"],
    cells=["web", "10m", SIGNER, "me", "60m", "Approved,Issued"],
    status={"conditions": [{"type": "Approved", "status": "True"}], "certificate": "YQ=="},
)

BUNDLE = "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n"

TRUST_BUNDLE = Table(
    "certificates.k8s.io/v1",
    "ClusterTrustBundle",
    minimal={"spec": {"trustBundle": BUNDLE}},
    defaulted={"spec": {"trustBundle": BUNDLE}},
    full={"metadata": {"name": "example.com:signer:a"}, "spec": {"signerName": SIGNER, "trustBundle": BUNDLE}},
    invalid=[
        (
            {"spec.trustBundle": "x"},
            ['spec.trustBundle: Invalid value: "<value omitted>": at least one trust anchor must be provided'],
        ),
        (
            {"spec.signerName": SIGNER},
            [
                (
                    'metadata.name: Invalid value: "web": ClusterTrustBundle for signerName example.com/signer must be named '
                    "with prefix example.com:signer:"
                )
            ],
        ),
    ],
    updates_full=[
        ({"spec.trustBundle": BUNDLE * 2}, []),
        (
            {"spec.signerName": GONE, "metadata.name": "example.com:signer:a"},
            [
                f'metadata.name: Invalid value: "example.com:signer:a": {NOT_A_SUBDOMAIN}',
                f"spec.signerName: Invalid value: null: {IMMUTABLE}",
            ],
        ),
    ],
    columns=["Name", "SignerName"],
    cells=["example.com:signer:a", SIGNER],
)

POD_REQUEST = {
    "signerName": SIGNER,
    "podName": "p",
    "podUID": "1",
    "serviceAccountName": "s",
    "serviceAccountUID": "2",
    "nodeName": "n",
    "nodeUID": "3",
    "pkixPublicKey": "YQ==",
    "proofOfPossession": "YQ==",
}

POD_CERTIFICATE_REQUEST = Table(
    "certificates.k8s.io/v1",
    "PodCertificateRequest",
    minimal={"spec": POD_REQUEST},
    defaulted={"spec": {**POD_REQUEST, "maxExpirationSeconds": 86400}, "status": {}},
    invalid=[
        ({"spec.podName": GONE}, ["spec.podName: Required value"]),
        ({"spec.signerName": GONE}, ["spec.signerName: Required value"]),
        (
            {"spec.maxExpirationSeconds": 60},
            ["spec.maxExpirationSeconds: Invalid value: 60: must be in the range [3600, 7862400]"],
        ),
    ],
    updates=[({"metadata.labels[a]": "b"}, [])],
    columns=["Name", "Age"],
)

MIGRATION = Table(
    "storagemigration.k8s.io/v1",
    "StorageVersionMigration",
    minimal={"spec": {"resource": {"group": "apps", "resource": "deployments"}}},
    defaulted={"spec": {"resource": {"group": "apps", "resource": "deployments"}}, "status": {}},
    invalid=[({"spec": {}}, ["spec.resource.resource: Required value: resource is required"])],
    updates=[
        (
            {"spec.resource.resource": "replicasets"},
            [f'spec: Invalid value: {{"resource":{{"group":"apps","resource":"replicasets"}}}}: {IMMUTABLE}'],
        )
    ],
    columns=["Name", "Age"],
)

TABLES = [
    RESOURCE_CLAIM,
    RESOURCE_CLAIM_TEMPLATE,
    DEVICE_CLASS,
    RESOURCE_SLICE,
    DEVICE_TAINT_RULE,
    SIGNING_REQUEST,
    TRUST_BUNDLE,
    POD_CERTIFICATE_REQUEST,
    MIGRATION,
]
