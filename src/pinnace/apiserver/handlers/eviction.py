"""Whether a pod may be evicted: its PodDisruptionBudget is asked, and charged.

Specified by https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/ and
https://kubernetes.io/docs/tasks/run-application/configure-pdb/.
"""

from __future__ import annotations

from pinnace.apis.resources import POD_DISRUPTION_BUDGETS
from pinnace.apis.workload import selects
from pinnace.apiserver.cache import CachedObject, Filter
from pinnace.apiserver.call import Call
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, format_time, get_in, is_deleting, labels_of, name_of, utc_now

_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
_MOST_DISRUPTED = 2000  # pods in the status of one budget


async def charge(call: Call, pod: Obj) -> None:
    """Take one disruption from the pod's budget; raises 429 where none is left."""
    from pinnace.apiserver.storage import RETRIES
    from pinnace.store.contract import RevisionConflict

    if get_in(pod, "status", "phase") in ("Succeeded", "Failed", "Pending") or is_deleting(pod):
        return
    cache = call.api.storage.cache(POD_DISRUPTION_BUDGETS)
    for _ in range(RETRIES):
        found = [
            one
            for one in cache.select(Filter(call.info.namespace))
            if selects(one.obj()["spec"].get("selector"), labels_of(pod))
        ]
        if len(found) > 1:
            why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            raise errors.internal(why)
        if not found or _needs_no_leave(found[0].obj(), pod):
            return
        charged = _charged(found[0], pod)
        try:
            await call.api.storage.replace(cache, found[0], charged)
        except RevisionConflict:
            continue
        return
    raise errors.too_many_requests(_REFUSED, 10)


def _needs_no_leave(budget: Obj, pod: Obj) -> bool:
    """Whether the pod is not ready, and its budget does not guard such pods (now)."""
    conditions = get_in(pod, "status", "conditions", default=())
    if any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions):
        return False
    if get_in(budget, "spec", "unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    healthy, desired = (get_in(budget, "status", name, default=0) for name in ("currentHealthy", "desiredHealthy"))
    return bool(healthy >= desired > 0)


def _charged(stored: CachedObject, pod: Obj) -> Obj:
    budget = stored.fresh()
    name, status = name_of(budget), budget.setdefault("status", {})
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        raise _refusal(f"The disruption budget {name} is still being processed by the server.", retry_after=10)
    disrupted = status.get("disruptedPods") or {}
    allowed = status.get("disruptionsAllowed", 0)
    if allowed < 0 or len(disrupted) > _MOST_DISRUPTED:
        why = "pdb disruptions allowed is negative" if allowed < 0 else "DisruptedPods map too big - too many evictions"
        raise errors.forbidden("poddisruptionbudgets", name, why, "policy")
    if allowed == 0:
        desired, healthy = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
        raise _refusal(f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
    status["disruptionsAllowed"] = allowed - 1
    status["disruptedPods"] = {**disrupted, name_of(pod): format_time(utc_now())}
    return budget


def _refusal(why: str, retry_after: int = 0) -> ApiError:
    details: Obj = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    if retry_after:
        details["retryAfterSeconds"] = retry_after
    headers = (("Retry-After", str(retry_after)),) if retry_after else ()
    return ApiError(429, "TooManyRequests", _REFUSED, details=details, headers=headers)
