"""Flags of how many objects each controller looks at at the same time."""

from __future__ import annotations

from typing import Any

import click

from pinnace.cli.apiserver_flags.section import section

_FLAGS = {  # flag -> the controller it is about
    "concurrent-cron-job-syncs": "cronjob-controller",
    "concurrent-daemonset-syncs": "daemonset-controller",
    "concurrent-deployment-syncs": "deployment-controller",
    "concurrent-endpoint-syncs": "endpoints-controller",
    "concurrent-ephemeralvolume-syncs": "ephemeral-volume-controller",
    "concurrent-gc-syncs": "garbage-collector-controller",
    "concurrent-horizontal-pod-autoscaler-syncs": "horizontal-pod-autoscaler-controller",
    "concurrent-job-syncs": "job-controller",
    "concurrent-namespace-syncs": "namespace-controller",
    "concurrent-rc-syncs": "replicationcontroller-controller",
    "concurrent-replicaset-syncs": "replicaset-controller",
    "concurrent-resource-quota-syncs": "resourcequota-controller",
    "concurrent-service-endpoint-syncs": "endpointslice-controller",
    "concurrent-serviceaccount-token-syncs": "serviceaccount-token-controller",
    "concurrent-statefulset-syncs": "statefulset-controller",
    "concurrent-ttl-after-finished-syncs": "ttl-after-finished-controller",
    "concurrent-validating-admission-policy-status-syncs": "validatingadmissionpolicy-status-controller",
    "mirroring-concurrent-service-endpoint-syncs": "endpointslice-mirroring-controller",
}

options = section(
    *(
        click.option(f"--{flag}", type=click.IntRange(min=1), help=f"Objects that {name} looks at at once.")
        for flag, name in _FLAGS.items()
    )
)


def read(flags: dict[str, Any]) -> dict[str, Any]:
    given = {name: flags[flag.replace("-", "_")] for flag, name in _FLAGS.items()}
    return {"workers": {name: count for name, count in given.items() if count is not None}}
