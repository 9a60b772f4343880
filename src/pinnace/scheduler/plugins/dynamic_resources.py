"""Sends pods where the devices of their ResourceClaims are, allocates them, and reserves the claims for the pods.

Devices are chosen with the node and set aside; before the pod is bound, the choice is written into the claims' status,
and devices that must be attached first are waited for. Extended resources that devices stand behind are claimed for the
pod. Specified by https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from pinnace.apis.resources import DEVICE_CLASSES, DEVICE_TAINT_RULES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    format_time,
    get_in,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    uid_of,
    utc_now,
)
from pinnace.scheduler import device_binding
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.device_allocation import Allocator, TooManySteps, preference, taken_by
from pinnace.scheduler.devices import Inventory, is_available
from pinnace.scheduler.events import Action, Change, Hint
from pinnace.scheduler.extended_resources import Backing, claim_spec, is_claim_of, new_claim, requests_of, status_for
from pinnace.scheduler.framework import BindingFailed, Normalization, Rejection, Scope
from pinnace.scheduler.handle import Handle
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo, PodShape

FINALIZER = "resource.kubernetes.io/delete-protection"
MOST_CONSUMERS = 256  # pods that one claim is reserved for at most

_ELSEWHERE = Rejection(("resourceclaim not available on the node",))
_NOT_ENOUGH = Rejection(("cannot allocate all claims",))


_STALE = Rejection(("cannot schedule extended resource claim",), resolvable=False)
_EXTENDED = "<extended-resources>"  # the name of a claim that is not made yet


class _Wanted(NamedTuple):
    """The claims of a pod on a node; those without devices by key."""

    allocated: list[Obj]
    pending: dict[str, Obj]


@dataclass(slots=True)
class _Plan:
    """What was chosen for a pod: new allocations by the claim's key."""

    made: dict[str, Obj]
    extended: Obj | None = None  # the spec of the claim that is still to be made for extended resources
    written: set[str] = field(default_factory=set)  # keys of the claims that name the pod now


class DynamicResources:
    name = "DynamicResources"
    scope = Scope.NODE
    weight = 2
    normalization = Normalization.HIGHEST

    def __init__(self, handle: Handle, binding_timeout_seconds: float = 600.0) -> None:
        self._handle = handle
        self._patience = timedelta(seconds=binding_timeout_seconds)
        self._backing = Backing(handle.objects, lambda: handle.cache.storage_version)
        self._assumed: dict[str, Obj] = {}  # allocations about to be written, by the claim's key
        self._plans: dict[str, _Plan] = {}  # of pods that have a node
        self._published: list[str] = []  # versions of the slices and rules in the inventory
        self._inventory = Inventory(())
        self._version = -1  # of what is watched, when the allocator was made
        self._allocator: tuple[tuple[PodShape, tuple[str, ...]], Allocator] | None = None

    def events_to_register(self) -> list[Hint]:
        changed = Action.ADD | Action.UPDATE
        return [
            Hint("ResourceClaim", changed | Action.DELETE),
            Hint("ResourceSlice", changed),
            Hint("DeviceClass", changed),
            Hint("DeviceTaintRule", changed | Action.DELETE),
            Hint("Pod", Action.DELETE, _has_devices),
            Hint("Node", Action.ADD | Action.UPDATE_LABEL),
        ]

    # Choosing.

    def pre_filter(self, pod: PodInfo, cache: Cache) -> Rejection | None:  # noqa: ARG002
        for key in pod.shape.resource_claims:
            problem = self._problem(pod, key)
            if problem:
                return Rejection((problem,), resolvable=False)
        if self._extends(pod.shape) and (stale := self._stale_claim(pod)) is not None:
            self._handle.begin(self._delete(stale))
            return _STALE
        return None

    def _extends(self, shape: PodShape) -> bool:
        """Whether devices stand behind one of the resources that a pod asks for."""
        return bool(shape.extended) and any(one.resource in self._backing.classes for one in shape.extended)

    def _stale_claim(self, pod: PodInfo) -> Obj | None:
        """A claim that an earlier attempt left: its devices may not be right any more."""
        claims = self._handle.objects(RESOURCE_CLAIMS).list()
        return next((claim for claim in claims if is_claim_of(claim, pod.uid)), None)

    def _problem(self, pod: PodInfo, key: str) -> str:
        if not key:
            return f'pod "{pod.key}": ResourceClaim not created yet'
        claim = self._claim(key)
        name = key.partition("/")[2]
        if claim is None:
            return f'resourceclaim.resource.k8s.io "{name}" not found'
        if is_deleting(claim):
            return f'resourceclaim "{name}" is being deleted'
        consumers = get_in(claim, "status", "reservedFor") or ()
        if device_binding.failure(claim) or device_binding.is_overdue(claim, self._patience, utc_now()):
            if all(one.get("uid") == pod.uid for one in consumers):
                self._handle.begin(self._deallocate(claim))
            return "resourceclaim not ready for binding"
        if len(consumers) >= MOST_CONSUMERS and all(one.get("uid") != pod.uid for one in consumers):
            return "resourceclaim in use"
        for request in get_in(claim, "spec", "devices", "requests") or ():
            for wanted in request.get("firstAvailable") or [request.get("exactly") or {}]:
                named = wanted.get("deviceClassName", "")
                if self._handle.objects(DEVICE_CLASSES).get(named) is None:
                    return f"request {request['name']}: device class {named} does not exist"
        return ""

    def concerns(self, shape: PodShape) -> bool:
        return bool(shape.resource_claims) or self._extends(shape)

    def filter(self, shape: PodShape, node: NodeInfo) -> Rejection | None:
        wanted = self._wanted(shape, node)
        for claim in wanted.allocated:
            if not is_available(claim["status"]["allocation"], node.name, node.labels):
                return _ELSEWHERE
        return None if self._allocate(shape, wanted, node) is not None else _NOT_ENOUGH

    def scores(self, shape: PodShape) -> bool:
        """Nodes differ where a claim without devices has alternatives."""
        pending = (claim for key in shape.resource_claims if (claim := self._claim(key)) is not None)
        return any(
            request.get("firstAvailable")
            for claim in pending
            if not get_in(claim, "status", "allocation")
            for request in get_in(claim, "spec", "devices", "requests") or ()
        )

    def score(self, shape: PodShape, node: NodeInfo, cache: Cache) -> int:  # noqa: ARG002
        wanted = self._wanted(shape, node)
        found = self._allocate(shape, wanted, node)
        return preference(wanted.pending.values(), found) if found is not None else 0

    def _claim(self, key: str) -> Obj | None:
        """A claim, as it is about to be."""
        claim = self._handle.objects(RESOURCE_CLAIMS).get(key)
        assumed = self._assumed.get(key)
        if claim is None or assumed is None or get_in(claim, "status", "allocation"):
            return claim
        return {**claim, "status": {**(claim.get("status") or {}), "allocation": assumed}}

    def _wanted(self, shape: PodShape, node: NodeInfo) -> _Wanted:
        found = _Wanted([], {})
        for key in shape.resource_claims:
            claim = self._claim(key)
            if claim is not None and get_in(claim, "status", "allocation"):
                found.allocated.append(claim)
            elif claim is not None:
                found.pending[key] = claim
        if shape.extended and (needed := self._backing.needed(shape.extended, node.allocatable)):
            found.pending[_EXTENDED] = {"spec": claim_spec(needed, self._backing.classes)}
        return found

    def _allocate(self, shape: PodShape, wanted: _Wanted, node: NodeInfo) -> list[Obj] | None:
        """New allocations on a node, one for each pending claim."""
        if not wanted.pending:
            return []
        try:
            found = self._allocator_for(shape, wanted).allocate(self._inventory.on(node.name, node.labels), node.name)
        except TooManySteps:
            return None
        return found

    def _allocator_for(self, shape: PodShape, wanted: _Wanted) -> Allocator:
        """One that nodes alike share, as long as nothing changes."""
        requests = get_in(wanted.pending.get(_EXTENDED, {}), "spec", "devices", "requests") or ()
        whose = shape, tuple(one["name"] for one in requests)
        version = self._handle.cache.storage_version
        if self._allocator is None or self._version != version or self._allocator[0] != whose:
            self._take_stock()
            keys = self._handle.objects(RESOURCE_CLAIMS).keys()
            known = [get_in(self._claim(key), "status", "allocation") for key in keys]
            unmade = [allocation for key, allocation in self._assumed.items() if key.endswith(_EXTENDED)]
            taken = taken_by([*filter(None, known), *unmade])
            classes = {name_of(one): one for one in self._handle.objects(DEVICE_CLASSES).list()}
            left = self._inventory.counters_left(taken.every)
            self._allocator = whose, Allocator(list(wanted.pending.values()), classes, taken, left)
            self._version = version
        return self._allocator[1]

    def _take_stock(self) -> None:
        """Read the devices anew if others are published, or tainted."""
        slices = self._handle.objects(RESOURCE_SLICES).list()
        rules = self._handle.objects(DEVICE_TAINT_RULES).list()
        published = [one["metadata"].get("uid", "") + one["metadata"].get("resourceVersion", "") for one in slices]
        published += [one["metadata"].get("uid", "") + one["metadata"].get("resourceVersion", "") for one in rules]
        if published != self._published:
            self._inventory = Inventory(slices, rules)
            self._published = published

    # Setting aside.

    def reserve(self, pod: PodInfo, node: NodeInfo) -> str | None:
        if not self.concerns(pod.shape):
            return None
        wanted = self._wanted(pod.shape, node)
        found = self._allocate(pod.shape, wanted, node)
        if found is None:
            return _NOT_ENOUGH.reasons[0]
        made = dict(zip(wanted.pending, found, strict=True))
        plan = _Plan(made)
        if _EXTENDED in made:
            plan.extended = wanted.pending[_EXTENDED]["spec"]
            made[f"{pod.key}{_EXTENDED}"] = made.pop(_EXTENDED)
        self._plans[pod.key] = plan
        if made:
            self._assumed |= made
            self._handle.cache.storage_changed()
        return None

    def unreserve(self, pod: PodInfo, node: NodeInfo) -> None:  # noqa: ARG002
        plan = self._plans.pop(pod.key, None)
        if plan is not None:
            self._give_back(plan)
            self._handle.begin(self._release(pod, plan))

    def post_bind(self, pod: PodInfo, node: NodeInfo) -> None:  # noqa: ARG002
        self._plans.pop(pod.key, None)

    def _give_back(self, plan: _Plan) -> None:
        if any(self._assumed.pop(key, None) is not None for key in list(plan.made)):
            self._handle.cache.storage_changed()

    # Writing.

    def prepares(self, pod: PodInfo) -> bool:
        return pod.key in self._plans

    async def pre_bind(self, pod: PodInfo, node: NodeInfo) -> None:  # noqa: ARG002
        plan = self._plans.get(pod.key)
        if plan is None:
            return
        for key in pod.shape.resource_claims:
            namespace, _, name = key.partition("/")
            claim = await self._handle.client.get(RESOURCE_CLAIMS, name, namespace)
            plan.written.add(key)
            await self._reserve_claim(claim, pod, plan.made.get(key))
        if plan.extended is not None:
            await self._claim_extended(pod, plan)
        claims = self._handle.objects(RESOURCE_CLAIMS)
        await self._handle.until(lambda: all(_is_seen(claims.get(key)) for key in plan.written))
        self._give_back(plan)
        await self._await_devices(plan)

    async def _reserve_claim(self, claim: Obj, pod: PodInfo, allocation: Obj | None) -> None:
        status = dict(claim.get("status") or {})
        if allocation is not None and not status.get("allocation"):
            finalizers = claim["metadata"].get("finalizers") or []
            if FINALIZER not in finalizers:
                metadata = {**claim["metadata"], "finalizers": [*finalizers, FINALIZER]}
                claim = await self._handle.client.update(RESOURCE_CLAIMS, {**claim, "metadata": metadata})
            status["allocation"] = {**allocation, "allocationTimestamp": format_time(utc_now())}
        consumers = status.get("reservedFor") or []
        if all(one.get("uid") != pod.uid for one in consumers):
            status["reservedFor"] = [*consumers, {"resource": "pods", "name": pod.name, "uid": pod.uid}]
        await self._handle.client.update_status(RESOURCE_CLAIMS, {**claim, "status": status})

    async def _claim_extended(self, pod: PodInfo, plan: _Plan) -> None:
        """Make the claim for extended resources, and note on the pod what it is for."""
        obj = self._handle.objects(PODS).get(pod.key)
        if obj is None or plan.extended is None:
            raise BindingFailed(f'pod "{pod.key}" does not exist any more')
        claim = await self._handle.client.create(RESOURCE_CLAIMS, new_claim(obj, plan.extended))
        plan.written.add(key_of(claim))
        await self._reserve_claim(claim, pod, plan.made[f"{pod.key}{_EXTENDED}"])
        status = {"extendedResourceClaimStatus": status_for(claim, requests_of(obj["spec"]))}
        patch = {"metadata": {"uid": pod.uid}, "status": status}
        await self._handle.client.patch(PODS, pod.name, patch, pod.namespace, subresource="status")

    async def _await_devices(self, plan: _Plan) -> None:
        """Wait until devices that must be attached are; raises BindingFailed."""
        claims = self._handle.objects(RESOURCE_CLAIMS)
        waiting = [key for key in plan.written if device_binding.must_wait(claims.get(key) or {})]
        if not waiting:
            return

        def ready() -> bool:
            found = [claim for key in waiting if (claim := claims.get(key)) is not None]
            for claim in found:
                if why := device_binding.failure(claim):
                    raise BindingFailed(why)
            return all(map(device_binding.is_ready, found))

        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                await self._handle.until(ready)
        except TimeoutError:
            late = next(key for key in waiting if not device_binding.is_ready(claims.get(key) or {}))
            raise BindingFailed(f"claim {late.partition('/')[2]} binding timeout") from None

    # Taking back.

    async def _release(self, pod: PodInfo, plan: _Plan) -> None:
        """Take back the reservations of a pod that could not be bound."""
        for key in plan.written:
            claim = self._handle.objects(RESOURCE_CLAIMS).get(key)
            if claim is None:
                continue
            if is_claim_of(claim, pod.uid):
                await self._delete(claim)
                continue
            consumers = get_in(claim, "status", "reservedFor") or []
            left = [one for one in consumers if one.get("uid") != pod.uid]
            if len(left) != len(consumers):
                await self._patch_status(claim, {"reservedFor": left or None})

    async def _deallocate(self, claim: Obj) -> None:
        """Give back devices that did not become ready; nobody else uses the claim."""
        await self._patch_status(claim, {"allocation": None, "reservedFor": None, "devices": None})

    async def _delete(self, claim: Obj) -> None:
        """Delete a claim for extended resources; the controller of claims lets it go once it holds nothing."""
        await self._deallocate(claim)
        try:
            await self._handle.client.delete(RESOURCE_CLAIMS, name_of(claim), namespace_of(claim), uid=uid_of(claim))
        except ApiError:
            return  # its pod owns it, and it goes with the pod

    async def _patch_status(self, claim: Obj, status: Mapping[str, object]) -> None:
        patch = {"metadata": {"uid": uid_of(claim)}, "status": dict(status)}
        try:
            await self._handle.client.patch(
                RESOURCE_CLAIMS, name_of(claim), patch, namespace_of(claim), subresource="status"
            )
        except ApiError:
            return  # the controller of claims frees what no pod needs


def _is_seen(claim: Obj | None) -> bool:
    return claim is not None and bool(get_in(claim, "status", "allocation"))


def _has_devices(pod: PodInfo, change: Change) -> bool:  # noqa: ARG001
    gone: PodInfo = change.subject
    return bool(gone.shape.resource_claims or gone.shape.extended)
