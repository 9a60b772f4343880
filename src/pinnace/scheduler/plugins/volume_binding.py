"""Sends pods where their volumes are or can be, and has claims bound that waited for the pod's node.

Volumes are chosen with the node and set aside; before the pod is bound, the choice is written (the volume's claimRef,
or the claim's selected node, which asks its provisioner for a volume) and the binding awaited. Specified by
https://kubernetes.io/docs/concepts/storage/storage-classes/#volume-binding-mode.
"""

from __future__ import annotations

import asyncio

from pinnace.apis.core.volume_binding import SELECTED_NODE, bound_volume
from pinnace.apis.resources import (
    CSI_DRIVERS,
    CSI_STORAGE_CAPACITIES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
)
from pinnace.machinery.meta import Obj, annotations_of, get_in, key_of, name_of, namespace_of, uid_of
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.events import Action, Change, Hint
from pinnace.scheduler.framework import BindingFailed, Rejection, Scope
from pinnace.scheduler.handle import Handle
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo, PodShape
from pinnace.scheduler.volumes import Claims, Plan, Storage, claims_of, is_bound, is_made_for, plan, reaches


class VolumeBinding:
    name = "VolumeBinding"
    scope = Scope.NODE

    def __init__(self, handle: Handle, *, bind_timeout_seconds: int = 600) -> None:
        self._handle = handle
        self._timeout = bind_timeout_seconds
        self._taken: dict[str, str] = {}  # volumes about to be bound: name → key of the claim
        self._plans: dict[str, Plan] = {}  # of pods that have a node, by pod
        self._storage = Storage()
        self._storage_version = -1
        self._claims: tuple[PodShape | None, int, Claims | str] = None, -1, ""

    def events_to_register(self) -> list[Hint]:
        changed = Action.ADD | Action.UPDATE
        return [
            Hint("PersistentVolumeClaim", changed, _is_used),
            *(Hint(kind, changed) for kind in ("PersistentVolume", "StorageClass", "CSIDriver", "CSIStorageCapacity")),
            Hint("Node", Action.ADD | Action.UPDATE_LABEL),
        ]

    # Choosing.

    def pre_filter(self, pod: PodInfo, cache: Cache) -> Rejection | None:  # noqa: ARG002
        if not pod.shape.claims:
            return None
        claims = self._claims_of(pod.shape)
        if isinstance(claims, str):
            return Rejection((claims,), resolvable=False)
        for claim in (*claims.bound, *claims.delayed):
            if key_of(claim) in pod.shape.own_claims and not is_made_for(claim, pod.uid):
                words = f"PVC {key_of(claim)} was not created for pod {pod.key} (pod is not owner)"
                return Rejection((words,), resolvable=False)
        return None

    def concerns(self, shape: PodShape) -> bool:
        return bool(shape.claims)

    def filter(self, shape: PodShape, node: NodeInfo) -> Rejection | None:
        made = self._plan(shape, node)
        return None if isinstance(made, Plan) else Rejection(made, resolvable=False)

    def _plan(self, shape: PodShape, node: NodeInfo) -> Plan | tuple[str, ...]:
        claims = self._claims_of(shape)
        if isinstance(claims, str):
            return (claims,)
        return plan(claims, self._current_storage(), self._taken, node.name, node.labels)

    def _claims_of(self, shape: PodShape) -> Claims | str:
        """The claims of pods of that shape, sorted; kept until something about storage changes."""
        version = self._handle.cache.storage_version
        known_shape, known_version, claims = self._claims
        if known_shape is not shape or known_version != version:
            stores = self._handle.objects
            claims = claims_of(
                shape.claims, shape.own_claims, stores(PERSISTENT_VOLUME_CLAIMS).get, stores(STORAGE_CLASSES).get
            )
            self._claims = shape, version, claims
        return claims

    def _current_storage(self) -> Storage:
        version = self._handle.cache.storage_version
        if self._storage_version != version:
            resources = PERSISTENT_VOLUMES, STORAGE_CLASSES, CSI_DRIVERS, CSI_STORAGE_CAPACITIES
            self._storage = Storage(*(self._handle.objects(resource).list() for resource in resources))
            self._storage_version = version
        return self._storage

    # Setting aside.

    def reserve(self, pod: PodInfo, node: NodeInfo) -> str | None:
        if not pod.shape.claims:
            return None
        made = self._plan(pod.shape, node)
        if not isinstance(made, Plan):
            return made[0]
        if made.bindings or made.provisions:
            self._plans[pod.key] = made
            self._taken |= {name_of(volume): key_of(claim) for claim, volume in made.bindings}
            self._handle.cache.storage_changed()
        return None

    def unreserve(self, pod: PodInfo, node: NodeInfo) -> None:  # noqa: ARG002
        self._give_back(pod)

    def _give_back(self, pod: PodInfo) -> None:
        made = self._plans.pop(pod.key, None)
        if made is not None:
            for _, volume in made.bindings:
                self._taken.pop(name_of(volume), None)
            self._handle.cache.storage_changed()

    # Binding.

    def prepares(self, pod: PodInfo) -> bool:
        return pod.key in self._plans

    async def pre_bind(self, pod: PodInfo, node: NodeInfo) -> None:
        made = self._plans.get(pod.key)
        if made is None:
            return
        client = self._handle.client
        for claim, volume in made.bindings:
            await client.update(PERSISTENT_VOLUMES, bound_volume(volume, claim))
        for claim in made.provisions:
            if annotations_of(claim).get(SELECTED_NODE) != node.name:
                patch = {"metadata": {"uid": uid_of(claim), "annotations": {SELECTED_NODE: node.name}}}
                await client.patch(PERSISTENT_VOLUME_CLAIMS, name_of(claim), patch, namespace_of(claim))
        started = {key_of(claim) for claim in made.provisions if annotations_of(claim).get(SELECTED_NODE) == node.name}
        try:
            async with asyncio.timeout(self._timeout):
                await self._handle.until(lambda: self._all_bound(made, pod, node, started))
        except TimeoutError:
            raise BindingFailed("binding volumes: context deadline exceeded") from None
        self._give_back(pod)

    def _all_bound(self, made: Plan, pod: PodInfo, node: NodeInfo, started: set[str]) -> bool:
        """Whether all claims have their volumes; `started` are those whose selected node was seen."""
        there = self._handle.objects(PODS).get(pod.key)
        if there is None or uid_of(there) != pod.uid:
            raise BindingFailed("binding volumes: pod does not exist any more")
        claims = self._handle.objects(PERSISTENT_VOLUME_CLAIMS)
        wanted = [claim for claim, _ in made.bindings] + made.provisions
        done = True
        for claim in wanted:
            key, name = key_of(claim), name_of(claim)
            present = claims.get(key)
            if present is None or uid_of(present) != uid_of(claim):
                raise BindingFailed(f'binding volumes: persistentvolumeclaim "{name}" not found')
            if is_bound(present):
                self._check_volume(present, node)
                continue
            done = False
            selected = annotations_of(present).get(SELECTED_NODE, "")
            if selected == node.name:
                started.add(key)
            elif key in started:  # the provisioner took it back: it cannot make the volume there
                raise BindingFailed(f'binding volumes: provisioning failed for PVC "{name}"')
        return done

    def _check_volume(self, claim: Obj, node: NodeInfo) -> None:
        volume = self._handle.objects(PERSISTENT_VOLUMES).get(get_in(claim, "spec", "volumeName"))
        if volume is not None and not reaches(volume, node.name, node.labels):
            raise BindingFailed(
                f'binding volumes: pv "{name_of(volume)}" node affinity doesn\'t match node "{node.name}": '
                "no matching NodeSelectorTerms"
            )


def _is_used(pod: PodInfo, change: Change) -> bool:
    return key_of(change.subject) in pod.shape.claims
