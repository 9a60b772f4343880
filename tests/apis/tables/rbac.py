"""Roles and their bindings."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

from typing import Any

from tests.apis.tables.table import Cases, Table

API = "rbac.authorization.k8s.io"
RULE = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
URLS = {"verbs": ["get"], "nonResourceURLs": ["/healthz"]}

BAD_RULES: Cases = [
    ({"rules": [{**RULE, "verbs": []}]}, ["rules[0].verbs: Required value: verbs must contain at least one value"]),
    (
        {"rules": [{"verbs": ["get"]}]},
        [
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ],
    ),
    ({"metadata.name": "a/b"}, ["metadata.name: Invalid value: \"a/b\": may not contain '/'"]),
    ({"metadata.name": "a%"}, ["metadata.name: Invalid value: \"a%\": may not contain '%'"]),
]

ROLE = Table(
    f"{API}/v1",
    "Role",
    minimal={},
    defaulted={},
    full={"rules": [RULE, {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*/scale"], "resourceNames": ["a"]}]},
    invalid=[
        *BAD_RULES,
        (
            {"rules": [URLS]},
            [
                'rules[0].nonResourceURLs: Invalid value: ["/healthz"]: namespaced rules cannot apply to non-resource URLs'
            ],
        ),
    ],
    updates=[({"rules": [RULE]}, [])],
    columns=["Name", "Created At"],
    cells=["system:a", "2026-01-01T00:00:00Z"],
    name="system:a",
)

CLUSTER_ROLE = Table(
    f"{API}/v1",
    "ClusterRole",
    minimal={"rules": [RULE, URLS]},
    defaulted={"rules": [RULE, URLS]},
    full={"rules": [RULE], "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}},
    invalid=[
        *BAD_RULES,
        (
            {"rules": [{**RULE, **URLS}]},
            [
                'rules[0].nonResourceURLs: Invalid value: ["/healthz"]: rules cannot apply to both regular resources and non-resource URLs'
            ],
        ),
        (
            {"aggregationRule": {}},
            [
                (
                    "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if "
                    "aggregationRule is non-nil"
                )
            ],
        ),
    ],
    updates=[({"rules": []}, [])],
    columns=["Name", "Created At"],
    cells=["web", "2026-01-01T00:00:00Z"],
)

USER = {"kind": "User", "apiGroup": API, "name": "me"}
GROUP = {"kind": "Group", "apiGroup": API, "name": "us"}
ACCOUNT = {"kind": "ServiceAccount", "name": "sa", "namespace": "default"}


def reference(kind: str) -> dict[str, Any]:
    return {"apiGroup": API, "kind": kind, "name": "r"}


BAD_SUBJECTS: Cases = [
    ({"subjects": [{**USER, "name": ""}]}, ["subjects[0].name: Required value"]),
    (
        {"subjects": [{"kind": "Robot", "name": "r"}]},
        ['subjects[0].kind: Unsupported value: "Robot": supported values: "Group", "ServiceAccount", "User"'],
    ),
    (
        {"subjects": [{**ACCOUNT, "apiGroup": "x"}]},
        ['subjects[0].apiGroup: Unsupported value: "x": supported values: ""'],
    ),
    ({"roleRef.name": ""}, ["roleRef.name: Required value"]),
    ({"roleRef.apiGroup": "x"}, [f'roleRef.apiGroup: Unsupported value: "x": supported values: "{API}"']),
]

ROLE_BINDING = Table(
    f"{API}/v1",
    "RoleBinding",
    minimal={"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "me"}]},
    defaulted={"roleRef": reference("Role"), "subjects": [USER]},
    full={"roleRef": reference("ClusterRole"), "subjects": [USER, GROUP, ACCOUNT]},
    invalid=[
        *BAD_SUBJECTS,
        (
            {"roleRef.kind": "Rule"},
            ['roleRef.kind: Unsupported value: "Rule": supported values: "ClusterRole", "Role"'],
        ),
    ],
    updates=[
        ({"subjects": [GROUP]}, []),
        (
            {"roleRef.name": "s"},
            [f'roleRef: Invalid value: {{"apiGroup":"{API}","kind":"Role","name":"s"}}: cannot change roleRef'],
        ),
    ],
    columns=["Name", "Role", "Age", "Users*", "Groups*", "ServiceAccounts*"],
    cells=["web", "ClusterRole/r", "10m", "me", "us", "default/sa"],
)

CLUSTER_ROLE_BINDING = Table(
    f"{API}/v1",
    "ClusterRoleBinding",
    minimal={"roleRef": {"kind": "ClusterRole", "name": "r"}},
    defaulted={"roleRef": reference("ClusterRole")},
    full={"roleRef": reference("ClusterRole"), "subjects": [USER, USER, ACCOUNT]},
    invalid=[
        *BAD_SUBJECTS,
        ({"roleRef.kind": "Role"}, ['roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"']),
        ({"subjects": [{"kind": "ServiceAccount", "name": "a"}]}, ["subjects[0].namespace: Required value"]),
    ],
    updates=[
        ({"subjects": [GROUP]}, []),
        (
            {"roleRef.name": "s"},
            [f'roleRef: Invalid value: {{"apiGroup":"{API}","kind":"ClusterRole","name":"s"}}: cannot change roleRef'],
        ),
    ],
    columns=["Name", "Role", "Age", "Users*", "Groups*", "ServiceAccounts*"],
    cells=["web", "ClusterRole/r", "10m", "me, me", "", "default/sa"],
)

TABLES = [ROLE, CLUSTER_ROLE, ROLE_BINDING, CLUSTER_ROLE_BINDING]
