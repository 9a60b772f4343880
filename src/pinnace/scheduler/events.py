"""What happens in a cluster, as far as it can give a pod that waits new hope; plugins say what could help theirs.

Specified by https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/#queueinghint.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Flag, auto
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pinnace.scheduler.pod import PodInfo


class Action(Flag):
    """What became of an object."""

    NONE = 0
    ADD = auto()
    DELETE = auto()
    UPDATE_ALLOCATABLE = auto()  # of a node
    UPDATE_LABEL = auto()
    UPDATE_TAINT = auto()  # of a node, or whether it is cordoned
    UPDATE_SCALE_DOWN = auto()  # a pod requests less
    UPDATE = auto()  # anything else


class Change(NamedTuple):
    """Something that happened; `Pod` means pods that have a node."""

    resource: str  # the kind
    action: Action
    subject: Any  # PodInfo, NodeInfo or, for other kinds, the object: as it is now, or was when it went

    def __repr__(self) -> str:
        return f"{self.resource} {self.action.name}"


class Hint(NamedTuple):
    """Changes after which a plugin may judge a pod anew; `helps` tells of one more closely, for a pod it rejected."""

    resource: str
    action: Action
    helps: Callable[[PodInfo, Change], bool] | None = None

    def concerns(self, pod: PodInfo, change: Change) -> bool:
        if self.resource != change.resource or not self.action & change.action:
            return False
        return self.helps is None or self.helps(pod, change)
