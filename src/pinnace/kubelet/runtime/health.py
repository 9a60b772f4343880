"""Whether the container runtime can be relied on, and what the node's Ready condition says where it cannot.

Pure but for the clock it is given. The thresholds and words are the kubelet's: a runtime that does not answer is down
after half a minute, and one whose pods could not be listed for three minutes is not healthy
(https://kubernetes.io/docs/reference/node/node-status/#condition).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pinnace.cri.api import RuntimeCondition
from pinnace.kubelet.go_words import duration

DOWN_AFTER = 30.0  # seconds without an answer
RELIST_THRESHOLD = 180.0  # seconds without a list of pods
_STEP = 10.0  # seconds: words that tell a time change no more often than a node's status is written


class RuntimeHealth:
    """What the runtime last said, and when."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._conditions: list[RuntimeCondition] = []
        self._answered_at: float | None = None
        self._listed_at: float | None = None

    def answered(self, conditions: list[RuntimeCondition]) -> None:
        """It told its status."""
        self._conditions = conditions
        self._answered_at = self._clock()

    def listed(self) -> None:
        """Its pods were listed."""
        self._listed_at = self._clock()

    def problem(self) -> str:
        """Why the node is not ready; empty when it is."""
        now = self._clock()
        return _joined([*self._silence(now), *_unmet(self._conditions)])

    def _silence(self, now: float) -> Iterable[str]:
        if self._answered_at is None:
            yield "container runtime status check may not have completed yet"
        elif now - self._answered_at > DOWN_AFTER:
            yield "container runtime is down"
        if self._listed_at is None:
            yield "PLEG is not healthy: pleg has yet to be successful"
        elif now - self._listed_at > RELIST_THRESHOLD:
            ago = duration((now - self._listed_at) // _STEP * _STEP)
            yield f"PLEG is not healthy: pleg was last seen active {ago} ago; threshold is {duration(RELIST_THRESHOLD)}"


def _unmet(conditions: list[RuntimeCondition]) -> Iterable[str]:
    """What the runtime itself says is missing; nothing before it said anything."""
    by_type = {condition.type: condition for condition in conditions}
    for kind, words in (
        ("RuntimeReady", "container runtime not ready"),
        ("NetworkReady", "container runtime network not ready"),
    ):
        condition = by_type.get(kind)
        if conditions and (condition is None or not condition.status):
            reason = condition.reason if condition else ""
            message = condition.message if condition else ""
            yield f"{words}: {kind}=false reason:{reason} message:{message}"


def _joined(problems: list[str]) -> str:
    return f"[{', '.join(problems)}]" if len(problems) > 1 else "".join(problems)
