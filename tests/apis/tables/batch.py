"""Jobs and CronJobs."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

from tests.apis.tables.core import IMMUTABLE
from tests.apis.tables.table import GONE, Table
from tests.apis.tables.templates import CONTAINER, NEGATIVE, WHOLE_SPEC

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

TABLES = [JOB, CRON_JOB]
