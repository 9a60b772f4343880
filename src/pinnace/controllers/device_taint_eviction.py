"""Evicts pods from devices with NoExecute taints that their claims do not tolerate, or no longer.

Which and when is decided in `device_taints.py`. Specified by
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/#device-taints-and-tolerations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pinnace.apis.resources import DEVICE_TAINT_RULES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from pinnace.client.controller import Controller
from pinnace.client.store import by_namespace
from pinnace.controllers.conditions import find, put_condition
from pinnace.controllers.device_taints import evicted_at, pending, progress, published_taints, selected, users
from pinnace.controllers.pods import is_finished
from pinnace.controllers.taint_eviction import evict
from pinnace.machinery.meta import (
    Obj,
    get_in,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    replace_in,
    uid_of,
    utc_now,
)

_RULE = "rule:"  # before the names of rules
_SETTLE = 1.0  # seconds in which evictions are gathered into one change of a rule's status


class DeviceTaintEvictionController(Controller):
    """One key is one claim, for taints concern all that are allocated; or, after `rule:`, one rule, for its status."""

    name = "device-taint-eviction-controller"

    def setup(self) -> None:
        self._marked: set[tuple[str, str]] = set()  # claim and pod for which an eviction is due
        self._evicted: Counter[str] = Counter()  # pods because of each rule, by its uid
        self.claims = self.watch(RESOURCE_CLAIMS)
        self.slices = self.watch(RESOURCE_SLICES, self._allocated)
        self.rules = self.watch(DEVICE_TAINT_RULES, self._of_rule)
        self.pods = self.use(PODS)
        self.pods.add_index("namespace", by_namespace)

    def _allocated(self, _: Obj) -> Iterable[str]:
        return [key_of(claim) for claim in self.claims.store.list() if get_in(claim, "status", "allocation")]

    def _of_rule(self, rule: Obj) -> Iterable[str]:
        return [f"{_RULE}{name_of(rule)}", *self._allocated(rule)]

    async def reconcile(self, key: str) -> float | None:
        if key.startswith(_RULE):
            await self._write_status(key.removeprefix(_RULE))
            return None
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
        rules = [rule for rule in self.rules.store.list() if pending(rule, [claim], self._by_namespace(claim), now)]
        for rule in rules:
            self.queue.add_after(f"{_RULE}{name_of(rule)}", _SETTLE)
        left = (due - now).total_seconds()
        if left > 0:
            return left
        for pod in concerned:
            why = "Device Taint manager: deleting due to NoExecute taint"
            await evict(self.client, pod, "DeletionByDeviceTaintManager", why)
            self._evicted.update(uid_of(rule) for rule in rules if rule["spec"]["taint"].get("effect") == "NoExecute")
        return None

    def _by_namespace(self, *claims: Obj) -> dict[str, list[Obj]]:
        spaces = {namespace_of(claim) for claim in claims}
        return {space: self.pods.store.by_index("namespace", space) for space in spaces}

    async def _write_status(self, name: str) -> None:
        """Say in a rule's status how far the eviction is."""
        rule = self.rules.store.get(name)
        if rule is None:
            return
        now, claims = utc_now(), self.claims.store.list()
        to_go = pending(rule, claims, self._by_namespace(*claims), now)
        counts = selected(rule, self.slices.store.list(), claims)
        fresh = progress(rule, to_go, self._evicted[uid_of(rule)], counts, now)
        conditions = get_in(rule, "status", "conditions") or []
        old = find(conditions, fresh["type"])
        if old is not None and {**old, "lastTransitionTime": ""} == {**fresh, "lastTransitionTime": ""}:
            return
        told = ("NoEffect", fresh["observedGeneration"])
        if old is not None and fresh["reason"] == "NoEffect" and (old["reason"], old.get("observedGeneration")) == told:
            return  # what would happen is told once for each change of the rule
        changed = replace_in(rule, put_condition(conditions, fresh), "status", "conditions")
        await self.client.update_status(DEVICE_TAINT_RULES, changed)

    def _say(self, claim: Obj, pod: Obj, *, marked: bool) -> None:
        """Tell of an eviction once when it becomes due, and once when it is called off."""
        entry = (key_of(claim), key_of(pod))
        if marked and entry not in self._marked:
            self._marked.add(entry)
            self.recorder.event(pod, "Normal", "DeviceTaintManagerEviction", "Marking for deletion")
        elif not marked and entry in self._marked:
            self._marked.discard(entry)
            self.recorder.event(pod, "Normal", "DeviceTaintManagerEviction", "Cancelling deletion")
