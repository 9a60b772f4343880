"""CustomResourceDefinitions."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

from typing import Any

from tests.apis.tables.table import GONE, Cases, Table

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}, "image": {"type": "string"}}}
    },
}
V1: dict[str, Any] = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}}
MINIMAL: dict[str, Any] = {
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "crontabs", "kind": "CronTab"},
        "versions": [V1],
    }
}
NAMES = {"plural": "crontabs", "kind": "CronTab", "singular": "crontab", "listKind": "CronTabList"}
STATUS = {"conditions": [], "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": ["v1"]}
CLIENT = {"service": {"namespace": "n", "name": "s", "port": 443}}
FULL: dict[str, Any] = {
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {**NAMES, "shortNames": ["ct"], "categories": ["all"]},
        "versions": [
            {
                **V1,
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas",
                        "labelSelectorPath": ".status.selector",
                    },
                },
                "additionalPrinterColumns": [
                    {"name": "Image", "type": "string", "jsonPath": ".spec.image", "format": "date", "priority": 1}
                ],
                "selectableFields": [{"jsonPath": ".spec.image"}],
            },
            {
                **V1,
                "name": "v1beta1",
                "storage": False,
                "deprecated": True,
                "deprecationWarning": "old",
                "schema": {"openAPIV3Schema": {"type": "object"}},
            },
        ],
        "conversion": {
            "strategy": "Webhook",
            "webhook": {"clientConfig": CLIENT, "conversionReviewVersions": ["v1", "v1beta1"]},
        },
    }
}
LABEL = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and "
    "end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
WHY_NAME = 'must be spec.names.plural+"."+spec.group'
V, W, HOOK = "spec.versions[0]", "spec.versions[1]", "spec.conversion.webhookClientConfig"
SPEC = f"{V}.schema.openAPIV3Schema.properties.spec"
TOLD = "spec.validation.openAPIV3Schema.properties[spec]"

RULE = '{"Rule":"self.none","Message":"","MessageExpression":"","Reason":null,"FieldPath":"","OptionalOldSelf":null}'

INVALID: Cases = [
    ({"metadata.name": "other"}, [f'metadata.name: Invalid value: "other": {WHY_NAME}']),
    (
        {"metadata.name": "crontabs.plain", "spec.group": "plain"},
        ['spec.group: Invalid value: "plain": should be a domain with at least one dot'],
    ),
    ({"spec.scope": GONE}, ["spec.scope: Required value"]),
    ({"spec.scope": "All"}, ['spec.scope: Unsupported value: "All": supported values: "Cluster", "Namespaced"']),
    ({"spec.names.kind": "Cron_Tab"}, [
        f'spec.names.singular: Invalid value: "cron_tab": {LABEL}',
        f'spec.names.kind: Invalid value: "Cron_Tab": may have mixed case, but should otherwise match: {LABEL}',
        f'spec.names.listKind: Invalid value: "Cron_TabList": may have mixed case, but should otherwise match: {LABEL}',
    ]),
    (
        {"spec.names.listKind": "CronTab"},
        ['spec.names.listKind: Invalid value: "CronTab": kind and listKind may not be the same'],
    ),
    ({"spec.names.shortNames": ["C"]}, [f'spec.names.shortNames[0]: Invalid value: "C": {LABEL}']),
    ({"spec.names.categories": ["A"]}, [f'spec.names.categories[0]: Invalid value: "A": {LABEL}']),
    ({f"{V}.name": "V1"}, [f'spec.versions[0].name: Invalid value: "V1": {LABEL}']),
    (
        {f"{V}.deprecationWarning": "x"},
        ['spec.versions[0].deprecationWarning: Invalid value: "x": can only be set for deprecated versions'],
    ),
    (
        {f"{V}.deprecated": True, f"{V}.deprecationWarning": "x" * 257},
        [f'spec.versions[0].deprecationWarning: Invalid value: "{"x" * 257}": must be <= 256 characters long'],
    ),
    ({f"{V}.schema": GONE}, ["spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"]),
    ({f"{SPEC}.type": GONE}, [f"{TOLD}.type: Required value: must not be empty for specified object fields"]),
    ({f"{SPEC}.$ref": "#/x"}, [f"{TOLD}.$ref: Forbidden: $ref is not supported"]),
    (
        {f"{SPEC}.properties.replicas.default": "x"},
        [
            f'{TOLD}.properties[replicas].default: Invalid value: "string": {TOLD}.properties[replicas].default in body must be of type integer: "string"'
        ],
    ),
    (
        {f"{SPEC}.x-kubernetes-validations": [{"rule": "self.none"}]},
        [
            f'{TOLD}.x-kubernetes-validations[0].rule: Invalid value: {RULE}: compilation failed: ERROR: <input>:1:5: undefined field \'none\'\n | self.none\n | ....^'
        ],
    ),
    (
        {f"{V}.schema.openAPIV3Schema.nullable": True},
        ["spec.validation.openAPIV3Schema.nullable: Forbidden: nullable cannot be true at the root"],
    ),
    (
        {f"{V}.additionalPrinterColumns": [{"jsonPath": "spec"}]},
        [
            "spec.additionalPrinterColumns[0].name: Required value",
            "spec.additionalPrinterColumns[0].type: Required value: must be one of boolean,date,integer,number,string",
            'spec.additionalPrinterColumns[0].JSONPath: Invalid value: "spec": must be a simple json path starting with .',
        ],
    ),
    (
        {f"{V}.subresources.scale": {"specReplicasPath": ".status.a", "labelSelectorPath": ".x"}},
        [
            'spec.subresources.scale.specReplicasPath: Invalid value: ".status.a": should be a json path under .spec',
            "spec.subresources.scale.statusReplicasPath: Required value",
            'spec.subresources.scale.labelSelectorPath: Invalid value: ".x": should be a json path under either .spec or .status',
        ],
    ),
    (
        {f"{V}.selectableFields": [{"jsonPath": ".metadata.name"}, {"jsonPath": ".spec"}]},
        [
            'spec.selectableFields[0].jsonPath: Invalid value: ".metadata.name": must not point to fields in metadata',
            'spec.selectableFields[1].jsonPath: Invalid value: ".spec": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.',
        ],
    ),
    (
        {"spec.conversion.webhook": {"clientConfig": CLIENT, "conversionReviewVersions": ["v1"]}},
        [
            f"{HOOK}: Forbidden: should not be set when strategy is not set to Webhook",
            "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to Webhook",
        ],
    ),
    ({"spec.conversion.strategy": "Magic"}, [
        'spec.conversion.strategy: Unsupported value: "Magic": supported values: "None", "Webhook"'
    ]),
]  # fmt: skip

INVALID_FULL: Cases = [
    (
        {"spec.conversion.webhook.clientConfig.url": "https://x"},
        [f"{HOOK}: Required value: exactly one of url or service is required"],
    ),
    (
        {"spec.conversion.webhook.clientConfig": {"url": "http://x"}},
        [
            f"{HOOK}.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[:port]/path"
        ],
    ),
    (
        {"spec.conversion.webhook.clientConfig.service": {}},
        [
            f"{HOOK}.service.name: Required value: service name is required",
            f"{HOOK}.service.namespace: Required value: service namespace is required",
        ],
    ),
    (
        {"spec.conversion.webhook.conversionReviewVersions": ["v3", "v3"]},
        [
            'spec.conversion.conversionReviewVersions[1]: Invalid value: "v3": duplicate version',
            'spec.conversion.conversionReviewVersions: Invalid value: ["v3","v3"]: must include at least one of v1, v1beta1',
        ],
    ),
    (
        {f"{W}.schema.openAPIV3Schema.type": "string"},
        ['spec.versions[1].schema.openAPIV3Schema.type: Invalid value: "string": must be object at the root'],
    ),
]

UPDATES: Cases = [
    ({f"{SPEC}.properties.more": {"type": "string"}}, []),
    ({"spec.names.shortNames": ["c"]}, []),
    ({"spec.scope": "Cluster"}, []),  # nobody has accepted it yet
    (
        {"spec.group": "other.com"},
        [
            f'metadata.name: Invalid value: "crontabs.example.com": {WHY_NAME}',
            'spec.group: Invalid value: "other.com": field is immutable',
        ],
    ),
    (
        {"spec.versions[0].name": "v2"},
        [
            'status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions'
        ],
    ),
    (
        {"status.conditions": [{"type": "Established", "status": "True"}], "spec.scope": "Cluster"},
        [],  # what counts is what was
    ),
]

TABLES = [
    Table(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        name="crontabs.example.com",
        minimal=MINIMAL,
        defaulted={
            "spec": {**MINIMAL["spec"], "names": NAMES, "conversion": {"strategy": "None"}},
            "status": STATUS,
        },
        full=FULL,
        invalid=INVALID,
        invalid_full=INVALID_FULL,
        updates=UPDATES,
        columns=["Name", "Created At"],
        cells=["crontabs.example.com", "2026-01-01T00:00:00Z"],
    )
]
