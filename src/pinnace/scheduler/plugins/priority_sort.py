"""Queues pods by priority, among equals by time."""

from __future__ import annotations

from pinnace.scheduler.pod import PodInfo


class PrioritySort:
    name = "PrioritySort"

    def sort_key(self, pod: PodInfo, queued: float) -> tuple[int, float]:
        return -pod.priority, queued
