"""Flags of the HorizontalPodAutoscaler."""

from __future__ import annotations

from typing import Any

import click

from pinnace.cli.apiserver_flags.section import section
from pinnace.cli.values import DURATION

_PREFIX = "--horizontal-pod-autoscaler"

options = section(
    click.option(
        f"{_PREFIX}-sync-period", type=DURATION, default="15s", show_default=True,
        help="How often autoscalers look at their metrics.",
    ),
    click.option(
        f"{_PREFIX}-downscale-stabilization", type=DURATION, default="5m0s", show_default=True,
        help="A higher recommendation of so long ago holds back a scale-down.",
    ),
    click.option(
        f"{_PREFIX}-tolerance", type=float, default=0.1, show_default=True,
        help="How far from its target, as a part of it, a metric may be without consequence.",
    ),
    click.option(
        f"{_PREFIX}-cpu-initialization-period", type=DURATION, default="5m0s", show_default=True,
        help="After its start a pod's use of CPU counts only once it is ready for as long as was measured.",
    ),
    click.option(
        f"{_PREFIX}-initial-readiness-delay", type=DURATION, default="30s", show_default=True,
        help="A pod that turned unready so soon after its start counts as never having been ready.",
    ),
)  # fmt: skip


def read(flags: dict[str, Any]) -> dict[str, Any]:
    from pinnace.controllers.hpa_replicas import Settings

    names = (
        "sync_period",
        "downscale_stabilization",
        "tolerance",
        "cpu_initialization_period",
        "initial_readiness_delay",
    )
    return {"autoscaling": Settings(**{name: flags[f"horizontal_pod_autoscaler_{name}"] for name in names})}
