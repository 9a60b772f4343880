"""Webhooks and policies."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

from typing import Any

from tests.apis.tables.table import GONE, Cases, Table

API = "admissionregistration.k8s.io/v1"
RULE = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
HOOK: dict[str, Any] = {
    "name": "a.example.com",
    "clientConfig": {"service": {"name": "s", "namespace": "n"}},
    "rules": [RULE],
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
}
WHOLE_HOOK = {
    **HOOK,
    "clientConfig": {"service": {"name": "s", "namespace": "n", "port": 443}},
    "rules": [{**RULE, "scope": "*"}],
    "failurePolicy": "Fail",
    "matchPolicy": "Equivalent",
    "timeoutSeconds": 10,
    "namespaceSelector": {},
    "objectSelector": {},
}
H = "webhooks[0]"
FORM = "desired format: https://host[/path]"

BAD_HOOKS: Cases = [
    (
        {f"{H}.name": "a"},
        [f'{H}.name: Invalid value: "a": should be a domain with at least three segments separated by dots'],
    ),
    ({"webhooks[1]": HOOK}, ['webhooks[1].name: Duplicate value: "a.example.com"']),
    ({f"{H}.sideEffects": GONE}, [f"{H}.sideEffects: Required value: must specify one of None, NoneOnDryRun"]),
    (
        {f"{H}.sideEffects": "Some"},
        [f'{H}.sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"'],
    ),
    (
        {f"{H}.failurePolicy": "Some"},
        [f'{H}.failurePolicy: Unsupported value: "Some": supported values: "Fail", "Ignore"'],
    ),
    (
        {f"{H}.matchPolicy": "Some"},
        [f'{H}.matchPolicy: Unsupported value: "Some": supported values: "Equivalent", "Exact"'],
    ),
    (
        {f"{H}.timeoutSeconds": 31},
        [f"{H}.timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds"],
    ),
    (
        {f"{H}.admissionReviewVersions": []},
        [f"{H}.admissionReviewVersions: Required value: must specify one of v1, v1beta1"],
    ),
    (
        {f"{H}.admissionReviewVersions": ["v2"]},
        [f'{H}.admissionReviewVersions: Invalid value: ["v2"]: must include at least one of v1, v1beta1'],
    ),
    ({f"{H}.clientConfig": {}}, [f"{H}.clientConfig: Required value: exactly one of url or service is required"]),
    (
        {f"{H}.clientConfig": {"url": "http://a"}},
        [f"{H}.clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; {FORM}"],
    ),
    (
        {f"{H}.clientConfig": {"url": "https://"}},
        [f'{H}.clientConfig.url: Invalid value: "": host must be specified; {FORM}'],
    ),
    (
        {f"{H}.clientConfig": {"url": "https://u@a?q#f"}},
        [
            f'{H}.clientConfig.url: Invalid value: "u": user information is not permitted in the URL',
            f'{H}.clientConfig.url: Invalid value: "f": fragments are not permitted in the URL',
            f'{H}.clientConfig.url: Invalid value: "q": query parameters are not permitted in the URL',
        ],
    ),
    (
        {f"{H}.clientConfig.service": {"path": "a", "port": 70000}},
        [
            f"{H}.clientConfig.service.name: Required value: service name is required",
            f"{H}.clientConfig.service.namespace: Required value: service namespace is required",
            f"{H}.clientConfig.service.path: Invalid value: \"a\": must start with a '/'",
            f"{H}.clientConfig.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive",
        ],
    ),
    ({f"{H}.rules[0].operations": []}, [f"{H}.rules[0].operations: Required value"]),
    (
        {f"{H}.rules[0].operations": ["*", "CREATE"]},
        [
            f'{H}.rules[0].operations: Invalid value: ["*","CREATE"]: if \'*\' is present, must not specify other operations'
        ],
    ),
    (
        {f"{H}.rules[0].apiGroups": ["*", "apps"]},
        [
            f'{H}.rules[0].apiGroups: Invalid value: ["*","apps"]: if \'*\' is present, must not specify other API groups'
        ],
    ),
    (
        {f"{H}.rules[0].scope": "Some"},
        [f'{H}.rules[0].scope: Unsupported value: "Some": supported values: "*", "Cluster", "Namespaced"'],
    ),
]


def webhooks(kind: str, more: dict[str, Any], bad: Cases) -> Table:
    return Table(
        API,
        kind,
        minimal={"webhooks": [HOOK]},
        defaulted={"webhooks": [{**WHOLE_HOOK, **more}]},
        full={
            "webhooks": [
                {
                    **HOOK,
                    "clientConfig": {"url": "https://example.com/x", "caBundle": "YQ=="},
                    "failurePolicy": "Ignore",
                    "matchPolicy": "Exact",
                    "sideEffects": "NoneOnDryRun",
                    "timeoutSeconds": 30,
                    "objectSelector": {"matchLabels": {"a": "b"}},
                    "matchConditions": [{"name": "c", "expression": "object.metadata.name != 'x'"}],
                }
            ]
        },
        invalid=[*BAD_HOOKS, *bad],
        updates=[({f"{H}.timeoutSeconds": 5}, []), ({"webhooks": []}, [])],
        columns=["Name", "Webhooks", "Age"],
        cells=["web", 1, "10m"],
    )


MATCH = {"resourceRules": [RULE]}
WHOLE_MATCH = {
    "matchPolicy": "Equivalent",
    "namespaceSelector": {},
    "objectSelector": {},
    "resourceRules": [{**RULE, "scope": "*"}],
}
BAD_POLICIES: Cases = [
    ({"spec.matchConstraints": GONE}, ["spec.matchConstraints: Required value"]),
    ({"spec.matchConstraints.resourceRules": []}, ["spec.matchConstraints.resourceRules: Required value"]),
    (
        {"spec.failurePolicy": "Some"},
        ['spec.failurePolicy: Unsupported value: "Some": supported values: "Fail", "Ignore"'],
    ),
    ({"spec.paramKind": {"kind": "K"}}, ["spec.paramKind.apiVersion: Required value"]),
]

VALIDATING_POLICY = Table(
    API,
    "ValidatingAdmissionPolicy",
    minimal={"spec": {"matchConstraints": MATCH, "validations": [{"expression": "true"}]}},
    defaulted={
        "spec": {"matchConstraints": WHOLE_MATCH, "validations": [{"expression": "true"}], "failurePolicy": "Fail"},
        "status": {},
    },
    full={
        "spec": {
            "failurePolicy": "Ignore",
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConstraints": {**MATCH, "excludeResourceRules": [RULE]},
            "matchConditions": [{"name": "c", "expression": "true"}],
            "variables": [{"name": "n", "expression": "object.metadata.name"}],
            "validations": [
                {"expression": "variables.n != 'x'", "message": "no x", "reason": "Invalid"},
                {"expression": "params != null", "messageExpression": "'no ' + variables.n"},
            ],
            "auditAnnotations": [{"key": "k", "valueExpression": "string(variables.n)"}],
        }
    },
    invalid=[
        *BAD_POLICIES,
        (
            {"spec.validations": []},
            [
                "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
            ],
        ),
    ],
    updates=[({"spec.validations": [{"expression": "false"}]}, [])],
    columns=["Name", "Validations", "ParamKind", "Age"],
    cells=["web", 2, "v1/ConfigMap", "10m"],
)

MUTATION = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}

MUTATING_POLICY = Table(
    API,
    "MutatingAdmissionPolicy",
    minimal={"spec": {"matchConstraints": MATCH, "mutations": [MUTATION], "reinvocationPolicy": "IfNeeded"}},
    defaulted={
        "spec": {
            "matchConstraints": WHOLE_MATCH,
            "mutations": [MUTATION],
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
        }
    },
    invalid=[
        *BAD_POLICIES,
        ({"spec.mutations": []}, ["spec.mutations: Required value: mutations must contain at least one item"]),
        (
            {"spec.reinvocationPolicy": "Some"},
            ['spec.reinvocationPolicy: Unsupported value: "Some": supported values: "IfNeeded", "Never"'],
        ),
    ],
    updates=[({"spec.failurePolicy": "Ignore"}, [])],
    columns=["Name", "Mutations", "ParamKind", "Age"],
    cells=["web", 1, "<unset>", "10m"],
)

BAD_BINDINGS: Cases = [
    ({"spec.policyName": GONE}, ["spec.policyName: Required value"]),
    (
        {"spec.paramRef": {"name": "p"}},
        ["spec.paramRef.parameterNotFoundAction: Required value"],
    ),
]

VALIDATING_BINDING = Table(
    API,
    "ValidatingAdmissionPolicyBinding",
    minimal={"spec": {"policyName": "p", "validationActions": ["Deny"]}},
    defaulted={"spec": {"policyName": "p", "validationActions": ["Deny"]}},
    full={
        "spec": {
            "policyName": "p",
            "validationActions": ["Warn", "Audit"],
            "paramRef": {"name": "c", "namespace": "n", "parameterNotFoundAction": "Allow"},
            "matchResources": MATCH,
        }
    },
    invalid=[
        *BAD_BINDINGS,
        (
            {"spec.validationActions": []},
            ["spec.validationActions: Required value: at least one validation action is required"],
        ),
        (
            {"spec.validationActions": ["Some"]},
            ['spec.validationActions[0]: Unsupported value: "Some": supported values: "Audit", "Deny", "Warn"'],
        ),
        (
            {"spec.validationActions": ["Deny", "Warn"]},
            [
                (
                    "spec.validationActions: Forbidden: must not contain both Deny and Warn (repeating the same validation "
                    "failure information in the API response and headers serves no purpose)"
                )
            ],
        ),
    ],
    updates=[({"spec.validationActions": ["Audit"]}, [])],
    columns=["Name", "PolicyName", "ParamRef", "Age"],
    cells=["web", "p", "n/c", "10m"],
)

MUTATING_BINDING = Table(
    API,
    "MutatingAdmissionPolicyBinding",
    minimal={"spec": {"policyName": "p"}},
    defaulted={"spec": {"policyName": "p"}},
    invalid=BAD_BINDINGS,
    updates=[({"spec.policyName": "q"}, [])],
    columns=["Name", "PolicyName", "ParamRef", "Age"],
    cells=["web", "p", "<unset>", "10m"],
)

TABLES = [
    webhooks("ValidatingWebhookConfiguration", {}, []),
    webhooks(
        "MutatingWebhookConfiguration",
        {"reinvocationPolicy": "Never"},
        [
            (
                {f"{H}.reinvocationPolicy": "Some"},
                [f'{H}.reinvocationPolicy: Unsupported value: "Some": supported values: "IfNeeded", "Never"'],
            )
        ],
    ),
    VALIDATING_POLICY,
    MUTATING_POLICY,
    VALIDATING_BINDING,
    MUTATING_BINDING,
]
