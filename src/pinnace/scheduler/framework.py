"""The scheduling framework: what a plugin may be asked, and in which order.

The extension points are those of https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/. Filters
and scores say what they look at (`Scope`), so that `evaluation.py` asks again only when that has changed: the node
object, the pods on the node, or counts of pods per topology domain (then they are `Rule`s, made once per pod shape).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pinnace.scheduler.events import Hint
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo, PodShape

if TYPE_CHECKING:
    from pinnace.scheduler.cache import Cache

MAX_SCORE = 100


class Rejection(NamedTuple):
    """Why a node is not for a pod."""

    reasons: tuple[str, ...]  # in the words of `FailedScheduling`
    resolvable: bool = True  # whether removing other pods could help


class Scope(Enum):
    """What a filter or score looks at beside the pod's shape."""

    NODE = "the node object"
    PODS = "the node object and the pods on the node"


class Normalization(Enum):
    """How raw scores become 0 … MAX_SCORE over all nodes that are feasible."""

    NONE = "they are that already"
    HIGHEST = "in proportion to the highest"
    HIGHEST_REVERSED = "in proportion to the highest, which becomes 0"


class EnqueueExtensions(Protocol):
    """What a plugin that rejects pods may say beside; one that does not is asked again after every change."""

    name: str

    def events_to_register(self) -> Sequence[Hint]: ...


class PreEnqueuePlugin(Protocol):
    name: str

    def pre_enqueue(self, pod: PodInfo) -> str | None:
        """Why the pod may not be queued yet, or None."""


class QueueSortPlugin(Protocol):
    name: str

    def sort_key(self, pod: PodInfo, queued: float) -> Any:
        """Pods with the smaller key go first; `queued` is when the pod came into the queue."""


class PreFilterPlugin(Protocol):
    name: str

    def pre_filter(self, pod: PodInfo, cache: Cache) -> Rejection | None:
        """Reject the pod on every node before any is looked at."""


class FilterPlugin(Protocol):
    name: str
    scope: Scope

    def concerns(self, shape: PodShape) -> bool:
        """Whether any node could be rejected for pods of that shape."""

    def filter(self, shape: PodShape, node: NodeInfo) -> Rejection | None: ...


class ScorePlugin(Protocol):
    name: str
    scope: Scope
    weight: int
    normalization: Normalization

    def scores(self, shape: PodShape) -> bool:
        """Whether nodes can differ for pods of that shape (preScore)."""

    def score(self, shape: PodShape, node: NodeInfo, cache: Cache) -> int: ...


class Rule(Protocol):
    """One condition about topology domains, for pods of one shape. Rules are equal when they judge alike."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The topology keys it looks at."""

    def filter(self, labels: Mapping[str, str]) -> Rejection | None:
        """Judge the domains that these node labels name."""

    def state(self) -> Hashable:
        """What its judgement of a domain rests on beside the pods in that domain."""


class ScoreRule(Protocol):
    """A preference about the domains of one topology key; those of a plugin are added, then normalised together."""

    @property
    def key(self) -> str: ...

    def score(self, labels: Mapping[str, str]) -> float: ...

    def bounds(self) -> tuple[float, float]:
        """The lowest and highest score of any domain at present."""


class TopologyPlugin(Protocol):
    name: str
    weight: int
    lowest_first: bool  # whether the lowest raw score is the best

    def filter_rules(self, shape: PodShape, cache: Cache) -> Sequence[Rule]: ...

    def score_rules(self, shape: PodShape, cache: Cache) -> Sequence[ScoreRule]: ...


class PostFilterResult(NamedTuple):
    nominated_node: str | None  # where room is being made; empty: nowhere any more; None: as before
    message: str  # put behind the reasons: "preemption: …"


class PostFilterPlugin(Protocol):
    name: str

    def post_filter(self, pod: PodInfo, rejections: Mapping[str, Rejection]) -> PostFilterResult:
        """Try to make room for a pod that fits nowhere."""


class ReservePlugin(Protocol):
    name: str

    def reserve(self, pod: PodInfo, node: NodeInfo) -> str | None:
        """Set something aside for the pod; why that is impossible, or None."""

    def unreserve(self, pod: PodInfo, node: NodeInfo) -> None: ...


class PermitPlugin(Protocol):
    name: str

    async def permit(self, pod: PodInfo, node: NodeInfo) -> str | None:
        """Hold the binding back as long as it takes; why it is refused, or None."""


class BindingFailed(Exception):
    """What a pod needs before it is bound cannot be had; the words are for its event."""


class PreBindPlugin(Protocol):
    name: str

    async def pre_bind(self, pod: PodInfo, node: NodeInfo) -> None:
        """Make ready what the pod needs there; raises BindingFailed or ApiError."""


class BindPlugin(Protocol):
    name: str

    async def bind(self, pod: PodInfo, node: NodeInfo) -> None:
        """Tell the API server; raises ApiError."""


class PostBindPlugin(Protocol):
    name: str

    def post_bind(self, pod: PodInfo, node: NodeInfo) -> None: ...


@dataclass(slots=True)
class Profile:
    """The plugins of one scheduler, in the order they are asked."""

    queue_sort: QueueSortPlugin
    bind: BindPlugin
    pre_enqueue: list[PreEnqueuePlugin] = field(default_factory=list)
    pre_filter: list[PreFilterPlugin] = field(default_factory=list)
    filter: list[FilterPlugin] = field(default_factory=list)
    topology: list[TopologyPlugin] = field(default_factory=list)
    post_filter: list[PostFilterPlugin] = field(default_factory=list)
    score: list[ScorePlugin] = field(default_factory=list)
    reserve: list[ReservePlugin] = field(default_factory=list)
    permit: list[PermitPlugin] = field(default_factory=list)
    pre_bind: list[PreBindPlugin] = field(default_factory=list)
    post_bind: list[PostBindPlugin] = field(default_factory=list)
