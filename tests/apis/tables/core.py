"""Configuration, namespaces and what limits them."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

from tests.apis.tables.table import GONE, Table

NOT_A_KEY = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' "
    "(e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
NOT_A_SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
NOT_A_LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
FROZEN = "Forbidden: field is immutable when `immutable` is set"
IMMUTABLE = "field is immutable"

CONFIG_MAP = Table(
    "v1",
    "ConfigMap",
    minimal={},
    defaulted={},
    full={"data": {"a": "1", "b.c_d-e": ""}, "binaryData": {"f": "AAE="}, "immutable": True},
    invalid=[
        ({"data": {"a/b": "1"}}, [f'data[a/b]: Invalid value: "a/b": {NOT_A_KEY}']),
        (
            {"data": {"a": ""}, "binaryData": {"a": ""}},
            ['data[a]: Invalid value: "a": duplicate of key present in binaryData'],
        ),
        (
            {"data": {"a": "x" * (1 << 20)}, "binaryData": {"b": "AA=="}},
            ["[]: Too long: may not be more than 1048576 bytes"],
        ),
        ({"metadata.name": "A"}, [f'metadata.name: Invalid value: "A": {NOT_A_SUBDOMAIN}']),
    ],
    updates=[({"data": {"a": "1"}}, []), ({"immutable": True}, [])],
    updates_full=[
        ({"data.a": "2"}, [f"data: {FROZEN}"]),
        ({"binaryData": {}}, [f"binaryData: {FROZEN}"]),
        ({"immutable": GONE}, [f"immutable: {FROZEN}"]),
        ({"metadata.labels": {"a": "b"}}, []),
    ],
    columns=["Name", "Data", "Age"],
    cells=["web", 3, "10m"],
)

SECRET = Table(
    "v1",
    "Secret",
    minimal={"stringData": {"a": "hello"}},
    defaulted={"type": "Opaque", "data": {"a": "aGVsbG8="}},
    full={"type": "kubernetes.io/tls", "data": {"tls.crt": "YQ==", "tls.key": "Yg=="}, "immutable": True},
    invalid=[
        ({"type": "kubernetes.io/tls"}, ["data[tls.crt]: Required value", "data[tls.key]: Required value"]),
        ({"type": "kubernetes.io/ssh-auth"}, ["data[ssh-privatekey]: Required value"]),
        (
            {"type": "kubernetes.io/basic-auth"},
            ["data[username]: Required value", "data[password]: Required value"],
        ),
        ({"type": "kubernetes.io/dockercfg"}, ["data[.dockercfg]: Required value"]),
        ({"type": "kubernetes.io/dockerconfigjson"}, ["data[.dockerconfigjson]: Required value"]),
        (
            {"type": "kubernetes.io/service-account-token"},
            ["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        ),
        ({"data": {"a/b": ""}}, [f'data[a/b]: Invalid value: "a/b": {NOT_A_KEY}']),
        ({"data": {"b": "AAAA" * 400_000}}, ["data: Too long: may not be more than 1048576 bytes"]),
    ],
    updates=[
        ({"data.b": "YQ=="}, []),
        ({"type": "example.com/mine"}, [f'type: Invalid value: "example.com/mine": {IMMUTABLE}']),
    ],
    updates_full=[({"data[tls.key]": "YQ=="}, [f"data: {FROZEN}"]), ({"immutable": False}, [f"immutable: {FROZEN}"])],
    columns=["Name", "Type", "Data", "Age"],
    cells=["web", "kubernetes.io/tls", 2, "10m"],
)

NAMESPACE = Table(
    "v1",
    "Namespace",
    minimal={},
    defaulted={"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
    full={"metadata": {"labels": {"a": "b"}, "annotations": {"c/d": "e"}}, "spec": {"finalizers": ["example.com/f"]}},
    invalid=[
        (
            {"metadata.name": "a.b", "metadata.labels": {}},
            ['metadata.name: Invalid value: "a.b": must not contain dots'],
        ),
        (
            {"metadata.name": "a" * 64},
            [
                'metadata.name: Invalid value: "' + "a" * 64 + '": must be no more than 63 bytes',
                'metadata.labels: Invalid value: "' + "a" * 64 + '": must be no more than 63 bytes',
            ],
        ),
    ],
    updates=[
        ({"metadata.labels[x]": "y"}, []),
        ({"spec": {}}, []),
    ],
    columns=["Name", "Status", "Age"],
    cells=["web", "Active", "10m"],
)

SERVICE_ACCOUNT = Table(
    "v1",
    "ServiceAccount",
    minimal={},
    defaulted={},
    full={
        "secrets": [{"name": "a"}],
        "imagePullSecrets": [{"name": "b"}],
        "automountServiceAccountToken": False,
    },
    invalid=[({"metadata.name": "A"}, [f'metadata.name: Invalid value: "A": {NOT_A_SUBDOMAIN}'])],
    updates=[({"imagePullSecrets": [{"name": "b"}]}, [])],
    columns=["Name", "Secrets", "Age"],
    cells=["web", 1, "10m"],
)

LIMIT_RANGE = Table(
    "v1",
    "LimitRange",
    minimal={"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}},
    defaulted={
        "spec": {
            "limits": [
                {
                    "type": "Container",
                    "max": {"cpu": "2"},
                    "min": {"memory": "1Mi"},
                    "default": {"cpu": "2"},
                    "defaultRequest": {"cpu": "2", "memory": "1Mi"},
                }
            ]
        }
    },
    full={
        "spec": {
            "limits": [
                {
                    "type": "Container",
                    "max": {"cpu": "2"},
                    "min": {"cpu": "100m"},
                    "default": {"cpu": "500m"},
                    "defaultRequest": {"cpu": "200m"},
                    "maxLimitRequestRatio": {"cpu": "10"},
                },
                {"type": "Pod", "max": {"cpu": "4", "example.com/x": "1"}},
                {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "10Gi"}},
                {"type": "example.com/other", "max": {"anything": "1"}},
            ]
        }
    },
    invalid=[
        (
            {"spec.limits[0].type": "Thing"},
            ['spec.limits[0].type: Invalid value: "Thing": must be a standard limit type or fully qualified'],
        ),
        (
            {
                "spec.limits[0].max.pods": "1",
                "spec.limits[0].default": {},
                "spec.limits[0].defaultRequest": {"cpu": "1"},
            },
            [
                'spec.limits[0].max[pods]: Invalid value: "pods": must be a standard resource for containers',
                'spec.limits[0].default[pods]: Invalid value: "pods": must be a standard resource for containers',
                (
                    'spec.limits[0].defaultRequest[pods]: Invalid value: "pods": must be a standard resource for '
                    "containers"
                ),
            ],
        ),
        (
            {"spec.limits[1]": {"type": "Container"}},
            ['spec.limits[1].type: Duplicate value: "Container"'],
        ),
        (
            {"spec.limits[1]": {"type": "PersistentVolumeClaim"}},
            [
                (
                    "spec.limits[1].limits: Required value: either minimum or maximum storage value is required, "
                    "but neither was provided"
                )
            ],
        ),
        (
            {"spec.limits[1]": {"type": "Pod", "default": {"cpu": "1"}}},
            ["spec.limits[1].default: Forbidden: may not be specified when `type` is 'Pod'"],
        ),
    ],
    invalid_full=[
        (
            {"spec.limits[0].min": {"cpu": "3"}},
            [
                'spec.limits[0].min[cpu]: Invalid value: "3": min value 3 is greater than max value 2',
                (
                    'spec.limits[0].defaultRequest[cpu]: Invalid value: "200m": min value 3 is greater than default '
                    "request value 200m"
                ),
                'spec.limits[0].default[cpu]: Invalid value: "3": min value 3 is greater than default value 500m',
                (
                    'spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "10": ratio 10 is greater than max/min = '
                    "0.666667"
                ),
            ],
        ),
        (
            {"spec.limits[0].defaultRequest": {"cpu": "3"}},
            [
                (
                    'spec.limits[0].defaultRequest[cpu]: Invalid value: "3": default request value 3 is greater than max '
                    "value 2"
                ),
                (
                    'spec.limits[0].defaultRequest[cpu]: Invalid value: "3": default request value 3 is greater than '
                    "default limit value 500m"
                ),
            ],
        ),
        (
            {"spec.limits[0].default": {"cpu": "3"}},
            ['spec.limits[0].default[cpu]: Invalid value: "2": default value 3 is greater than max value 2'],
        ),
        (
            {"spec.limits[0].maxLimitRequestRatio": {"cpu": "500m"}},
            ['spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1'],
        ),
    ],
    updates=[({"spec.limits[0].max": {"cpu": "4"}}, [])],
    columns=["Name", "Created At"],
    cells=["web", "2026-01-01T00:00:00Z"],
)

ONLY_EXISTS = (
    "must be 'Exist' only operator when scope is any of ResourceQuotaScopeTerminating, "
    "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or "
    "ResourceQuotaScopeCrossNamespacePodAffinity"
)
SELECTOR = "spec.scopeSelector.matchExpressions"

RESOURCE_QUOTA = Table(
    "v1",
    "ResourceQuota",
    minimal={"spec": {"hard": {"pods": "2"}}},
    defaulted={"spec": {"hard": {"pods": "2"}}, "status": {}},
    full={
        "spec": {
            "hard": {"pods": "2", "requests.cpu": "1", "limits.cpu": "2", "count/jobs.batch": "3"},
            "scopes": ["NotTerminating"],
            "scopeSelector": {
                "matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]
            },
        }
    },
    invalid=[
        (
            {"spec.hard": {"apples": "1"}},
            ['spec.hard[apples]: Invalid value: "apples": must be a standard resource for quotas'],
        ),
        ({"spec.hard.pods": "1500m"}, ['spec.hard[pods]: Invalid value: "1500m": must be an integer']),
        ({"spec.hard.pods": "-1"}, ['spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0']),
        ({"spec.scopes": ["Never"]}, ['spec.scopes: Invalid value: ["Never"]: unsupported scope']),
        (
            {"spec.hard": {"services": "1"}, "spec.scopes": ["Terminating"]},
            ['spec.scopes: Invalid value: ["Terminating"]: unsupported scope applied to resource'],
        ),
        (
            {"spec.scopes": ["BestEffort", "NotBestEffort"]},
            ['spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes'],
        ),
        (
            {SELECTOR: [{"scopeName": "BestEffort", "operator": "DoesNotExist"}]},
            [f'{SELECTOR}.operator: Invalid value: "DoesNotExist": {ONLY_EXISTS}'],
        ),
        (
            {SELECTOR: [{"scopeName": "PriorityClass", "operator": "In"}]},
            [
                (
                    f"{SELECTOR}.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' "
                    "for scope selector"
                )
            ],
        ),
        (
            {SELECTOR: [{"scopeName": "PriorityClass", "operator": "Exists", "values": ["a"]}]},
            [
                (
                    f"{SELECTOR}.values: Invalid value: [\"a\"]: must be no value when `operator` is 'Exist' or "
                    "'DoesNotExist' for scope selector"
                )
            ],
        ),
        (
            {SELECTOR: [{"scopeName": "PriorityClass", "operator": "Is"}]},
            [f'{SELECTOR}.operator: Invalid value: "Is": not a valid selector operator'],
        ),
    ],
    updates=[
        ({"spec.hard.pods": "5"}, []),
        ({"spec.scopes": ["Terminating"]}, [f'spec.scopes: Invalid value: ["Terminating"]: {IMMUTABLE}']),
    ],
    columns=["Name", "Request", "Limit", "Age"],
    status={"hard": {"pods": "2", "requests.cpu": "1", "limits.cpu": "2"}, "used": {"pods": "1", "limits.cpu": "1"}},
    cells=["web", "pods: 1/2, requests.cpu: 0/1", "limits.cpu: 1/2", "10m"],
)

TABLES = [CONFIG_MAP, SECRET, NAMESPACE, SERVICE_ACCOUNT, LIMIT_RANGE, RESOURCE_QUOTA]
