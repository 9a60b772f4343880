"""Tells a pod's owner why it has no node: condition PodScheduled, nominated node, event FailedScheduling."""

from __future__ import annotations

import structlog

from pinnace.apis.resources import PODS
from pinnace.client.client import Client
from pinnace.client.transport import STRATEGIC_MERGE_PATCH
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, format_time, utc_now
from pinnace.scheduler.pod import PodInfo

UNSCHEDULABLE = "Unschedulable"
SCHEDULER_ERROR = "SchedulerError"
LONGEST_EVENT = 1024  # characters of an event's message

_log = structlog.get_logger()


def shortened(message: str) -> str:
    """What fits into an event."""
    suffix = " ..."
    return message if len(message) <= LONGEST_EVENT else message[: LONGEST_EVENT - len(suffix)] + suffix


def status_change(pod: PodInfo, reason: str, message: str, nominated: str) -> Obj:
    """The patch of the pod's status; empty when it says all that already."""
    status: Obj = {}
    if pod.condition != ("False", reason, message):
        condition: Obj = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
        if pod.generation is not None:
            condition["observedGeneration"] = pod.generation
        if pod.condition is None or pod.condition[0] != "False":
            condition["lastTransitionTime"] = format_time(utc_now())
        status["conditions"] = [condition]
    if nominated != pod.nominated_node:
        status["nominatedNodeName"] = nominated or None
    return status


async def write_status(client: Client, pod: PodInfo, status: Obj) -> None:
    body = {"metadata": {"uid": pod.uid}, "status": status}
    try:
        await client.patch(
            PODS, pod.name, body, pod.namespace, content_type=STRATEGIC_MERGE_PATCH, subresource="status"
        )
    except ApiError as error:
        _log.debug("status was not written", pod=pod.key, error=error.message)
