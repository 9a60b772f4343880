"""Sends pods where the devices of their ResourceClaims are, allocates them, and reserves the claims for the pods.

Devices are chosen with the node and set aside; before the pod is bound, the choice is written into the claims' status.
Specified by https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/.
"""

from __future__ import annotations

from typing import NamedTuple

from pinnace.apis.resources import DEVICE_CLASSES, RESOURCE_CLAIMS, RESOURCE_SLICES
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, is_deleting, key_of, name_of, namespace_of
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.devices import Allocator, Inventory, TooManySteps, allocated_devices, is_available
from pinnace.scheduler.events import Action, Change, Hint
from pinnace.scheduler.framework import Rejection, Scope
from pinnace.scheduler.handle import Handle
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo, PodShape

FINALIZER = "resource.kubernetes.io/delete-protection"
MOST_CONSUMERS = 256  # pods that one claim is reserved for at most

_ELSEWHERE = Rejection(("resourceclaim not available on the node",))
_NOT_ENOUGH = Rejection(("cannot allocate all claims",))


class _Wanted(NamedTuple):
    """The claims of a pod."""

    allocated: list[Obj]
    pending: list[Obj]


class DynamicResources:
    name = "DynamicResources"
    scope = Scope.NODE

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._assumed: dict[str, Obj] = {}  # allocations about to be written, by the claim's key
        self._plans: dict[str, dict[str, Obj]] = {}  # of pods that have a node: their new allocations by claim
        self._version = -1
        self._inventory = Inventory(())
        self._allocator: tuple[PodShape | None, int, Allocator | None] = None, -1, None

    def events_to_register(self) -> list[Hint]:
        changed = Action.ADD | Action.UPDATE
        return [
            Hint("ResourceClaim", changed | Action.DELETE),
            Hint("ResourceSlice", changed),
            Hint("DeviceClass", changed),
            Hint("Pod", Action.DELETE, _has_devices),
            Hint("Node", Action.ADD | Action.UPDATE_LABEL),
        ]

    # Choosing.

    def pre_filter(self, pod: PodInfo, cache: Cache) -> Rejection | None:  # noqa: ARG002
        for key in pod.shape.resource_claims:
            problem = self._problem(pod, key)
            if problem:
                return Rejection((problem,), resolvable=False)
        return None

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
        if len(consumers) >= MOST_CONSUMERS and all(one.get("uid") != pod.uid for one in consumers):
            return "resourceclaim in use"
        for request in get_in(claim, "spec", "devices", "requests") or ():
            for wanted in request.get("firstAvailable") or [request.get("exactly") or {}]:
                named = wanted.get("deviceClassName", "")
                if self._handle.objects(DEVICE_CLASSES).get(named) is None:
                    return f"request {request['name']}: device class {named} does not exist"
        return ""

    def concerns(self, shape: PodShape) -> bool:
        return bool(shape.resource_claims)

    def filter(self, shape: PodShape, node: NodeInfo) -> Rejection | None:
        wanted = self._wanted(shape)
        for claim in wanted.allocated:
            if not is_available(claim["status"]["allocation"], node.name, node.labels):
                return _ELSEWHERE
        return None if self._allocate(shape, wanted, node) is not None else _NOT_ENOUGH

    def _claim(self, key: str) -> Obj | None:
        """A claim, as it is about to be."""
        claim = self._handle.objects(RESOURCE_CLAIMS).get(key)
        assumed = self._assumed.get(key)
        if claim is None or assumed is None or get_in(claim, "status", "allocation"):
            return claim
        return {**claim, "status": {**(claim.get("status") or {}), "allocation": assumed}}

    def _wanted(self, shape: PodShape) -> _Wanted:
        found = _Wanted([], [])
        for key in shape.resource_claims:
            claim = self._claim(key)
            if claim is not None:
                (found.allocated if get_in(claim, "status", "allocation") else found.pending).append(claim)
        return found

    def _allocate(self, shape: PodShape, wanted: _Wanted, node: NodeInfo) -> list[Obj] | None:
        """New allocations on a node, one for each pending claim."""
        if not wanted.pending:
            return []
        version = self._handle.cache.storage_version
        if self._version != version:
            self._inventory = Inventory(self._handle.objects(RESOURCE_SLICES).list())
            self._version = version
        known_shape, known_version, allocator = self._allocator
        if allocator is None or known_shape is not shape or known_version != version:
            keys = self._handle.objects(RESOURCE_CLAIMS).keys()
            taken = allocated_devices(claim for key in keys if (claim := self._claim(key)) is not None)
            classes = {name_of(one): one for one in self._handle.objects(DEVICE_CLASSES).list()}
            allocator = Allocator(wanted.pending, classes, taken)
            self._allocator = shape, version, allocator
        try:
            return allocator.allocate(self._inventory.on(node.name, node.labels))
        except TooManySteps:
            return None

    # Setting aside.

    def reserve(self, pod: PodInfo, node: NodeInfo) -> str | None:
        if not pod.shape.resource_claims:
            return None
        wanted = self._wanted(pod.shape)
        found = self._allocate(pod.shape, wanted, node)
        if found is None:
            return _NOT_ENOUGH.reasons[0]
        made = {key_of(claim): allocation for claim, allocation in zip(wanted.pending, found, strict=True)}
        self._plans[pod.key] = made
        if made:
            self._assumed |= made
            self._handle.cache.storage_changed()
        return None

    def unreserve(self, pod: PodInfo, node: NodeInfo) -> None:  # noqa: ARG002
        if pod.key in self._plans:
            self._give_back(pod)
            self._handle.begin(self._release(pod))

    def _give_back(self, pod: PodInfo) -> None:
        made = self._plans.pop(pod.key, {})
        for key in made:
            self._assumed.pop(key, None)
        if made:
            self._handle.cache.storage_changed()

    # Writing.

    async def pre_bind(self, pod: PodInfo, node: NodeInfo) -> None:  # noqa: ARG002
        made = self._plans.get(pod.key)
        if made is None:
            return
        for key in pod.shape.resource_claims:
            namespace, _, name = key.partition("/")
            claim = await self._handle.client.get(RESOURCE_CLAIMS, name, namespace)
            await self._reserve_claim(claim, pod, made.get(key))
        claims = self._handle.objects(RESOURCE_CLAIMS)
        await self._handle.until(lambda: all(_is_allocated(claims.get(key)) for key in made))
        self._give_back(pod)

    async def _reserve_claim(self, claim: Obj, pod: PodInfo, allocation: Obj | None) -> None:
        status = dict(claim.get("status") or {})
        if allocation is not None and not status.get("allocation"):
            finalizers = claim["metadata"].get("finalizers") or []
            if FINALIZER not in finalizers:
                metadata = {**claim["metadata"], "finalizers": [*finalizers, FINALIZER]}
                claim = await self._handle.client.update(RESOURCE_CLAIMS, {**claim, "metadata": metadata})
            status["allocation"] = allocation
        consumers = status.get("reservedFor") or []
        if all(one.get("uid") != pod.uid for one in consumers):
            status["reservedFor"] = [*consumers, {"resource": "pods", "name": pod.name, "uid": pod.uid}]
        await self._handle.client.update_status(RESOURCE_CLAIMS, {**claim, "status": status})

    async def _release(self, pod: PodInfo) -> None:
        """Take back the reservations of a pod that could not be bound."""
        for key in pod.shape.resource_claims:
            claim = self._handle.objects(RESOURCE_CLAIMS).get(key)
            consumers = get_in(claim, "status", "reservedFor") or [] if claim is not None else []
            left = [one for one in consumers if one.get("uid") != pod.uid]
            if claim is None or len(left) == len(consumers):
                continue
            patch = {"status": {"reservedFor": left or None}}
            try:
                await self._handle.client.patch(
                    RESOURCE_CLAIMS, name_of(claim), patch, namespace_of(claim), subresource="status"
                )
            except ApiError:
                continue  # the controller of claims frees what no pod needs


def _is_allocated(claim: Obj | None) -> bool:
    return claim is None or bool(get_in(claim, "status", "allocation"))


def _has_devices(pod: PodInfo, change: Change) -> bool:  # noqa: ARG001
    gone: PodInfo = change.subject
    return bool(gone.shape.resource_claims)
