"""Holds back pods with `spec.schedulingGates` (KEP-3521)."""

from __future__ import annotations

from pinnace.scheduler.pod import PodInfo


class SchedulingGates:
    name = "SchedulingGates"

    def pre_enqueue(self, pod: PodInfo) -> str | None:
        return "waiting for scheduling gates" if pod.gated else None
