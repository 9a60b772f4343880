"""Evicts pods from devices with NoExecute taints that their claims do not tolerate, or no longer.

Which and when is decided in `device_taints.py`. Specified by
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/#device-taints-and-tolerations.
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.apis.resources import DEVICE_TAINT_RULES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from pinnace.client.controller import Controller
from pinnace.client.store import by_namespace
from pinnace.controllers.device_taints import evicted_at, published_taints, users
from pinnace.controllers.pods import is_finished
from pinnace.controllers.taint_eviction import evict
from pinnace.machinery.meta import Obj, get_in, is_deleting, key_of, namespace_of, utc_now


class DeviceTaintEvictionController(Controller):
    """One key is one claim; taints concern all that are allocated."""

    name = "device-taint-eviction-controller"

    def setup(self) -> None:
        self._marked: set[tuple[str, str]] = set()  # claim and pod for which an eviction is due
        self.claims = self.watch(RESOURCE_CLAIMS)
        self.slices = self.watch(RESOURCE_SLICES, self._allocated)
        self.rules = self.watch(DEVICE_TAINT_RULES, self._allocated)
        self.pods = self.use(PODS)
        self.pods.add_index("namespace", by_namespace)

    def _allocated(self, _: Obj) -> Iterable[str]:
        return [key_of(claim) for claim in self.claims.store.list() if get_in(claim, "status", "allocation")]

    async def reconcile(self, key: str) -> float | None:
        claim = self.claims.store.get(key)
        if claim is None:
            return None
        now = utc_now()
        due = evicted_at(claim, published_taints(self.slices.store.list()), self.rules.store.list(), now)
        everyone = self.pods.store.by_index("namespace", namespace_of(claim))
        concerned = [pod for pod in users(claim, everyone) if not is_deleting(pod) and not is_finished(pod)]
        for pod in concerned:
            self._say(claim, pod, marked=due is not None)
        if due is None or not concerned:
            return None
        left = (due - now).total_seconds()
        if left > 0:
            return left
        for pod in concerned:
            why = "Device Taint manager: deleting due to NoExecute taint"
            await evict(self.client, pod, "DeletionByDeviceTaintManager", why)
        return None

    def _say(self, claim: Obj, pod: Obj, *, marked: bool) -> None:
        """Tell of an eviction once when it becomes due, and once when it is called off."""
        entry = (key_of(claim), key_of(pod))
        if marked and entry not in self._marked:
            self._marked.add(entry)
            self.recorder.event(pod, "Normal", "DeviceTaintManagerEviction", "Marking for deletion")
        elif not marked and entry in self._marked:
            self._marked.discard(entry)
            self.recorder.event(pod, "Normal", "DeviceTaintManagerEviction", "Cancelling deletion")
