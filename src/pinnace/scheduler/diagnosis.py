"""Why a pod fits nowhere, in the words of Kubernetes' `FailedScheduling` event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

NO_NODES = "no nodes available to schedule pods"


def count_reasons(nodes: int, reasons: Iterable[tuple[str, ...]]) -> str:
    """`0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`"""
    counted = Counter(reason for several in reasons for reason in several)
    listed = ", ".join(sorted(f"{number} {reason}" for reason, number in counted.items()))
    return f"0/{nodes} nodes are available: {listed}."


def failure_message(nodes: int, reasons: Iterable[tuple[str, ...]], post_filter: str, *, counted: bool = True) -> str:
    """The whole message, with what the post-filter plugins had to say; no count of reasons that are no node's own."""
    if not nodes:
        return NO_NODES
    if counted:
        message = count_reasons(nodes, reasons)
    else:
        listed = ", ".join(reason for several in reasons for reason in several)
        message = f"0/{nodes} nodes are available: {listed}."
    return f"{message} {post_filter}" if post_filter else message
