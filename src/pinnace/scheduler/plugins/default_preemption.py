"""Says whether pods of lower priority could make room for one that fits nowhere.

The words are those of https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/ as the default
scheduler puts them behind its reasons. No pod is evicted here.
"""

from __future__ import annotations

from collections.abc import Mapping

from pinnace.scheduler.cache import Cache
from pinnace.scheduler.diagnosis import count_reasons
from pinnace.scheduler.framework import PostFilterResult, Rejection
from pinnace.scheduler.pod import PodInfo

NOT_HELPFUL = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"


class DefaultPreemption:
    name = "DefaultPreemption"

    def post_filter(self, pod: PodInfo, rejections: Mapping[str, Rejection], cache: Cache) -> PostFilterResult:
        if pod.never_preempts:
            return PostFilterResult("", "preemption: not eligible due to preemptionPolicy=Never.")
        reasons = [(NO_VICTIMS if rejection.resolvable else NOT_HELPFUL,) for rejection in rejections.values()]
        return PostFilterResult("", f"preemption: {count_reasons(len(cache.nodes), reasons)}")
