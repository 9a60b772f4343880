"""Whether the volumes of a pod can be had on a node: those it has, those it could get, those that could be made.

Pure functions over PersistentVolumeClaims, PersistentVolumes and StorageClasses. Specified by
https://kubernetes.io/docs/concepts/storage/storage-classes/#volume-binding-mode and
https://kubernetes.io/docs/concepts/storage/storage-capacity/.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from pinnace.apis.core.node_selection import term_matches
from pinnace.apis.core.volume_binding import (
    BIND_COMPLETED,
    SELECTED_NODE,
    class_of,
    find_volume,
    is_delayed,
    request_of,
)
from pinnace.machinery.meta import Obj, annotations_of, get_in, is_deleting, key_of, name_of
from pinnace.machinery.quantity import ZERO, Quantity
from pinnace.machinery.selectors import LabelSelector
from pinnace.scheduler.pod import HOSTNAME

NO_PROVISIONER = "kubernetes.io/no-provisioner"

UNBOUND_IMMEDIATE = "pod has unbound immediate PersistentVolumeClaims"
NOTHING_TO_BIND = "node(s) didn't find available persistent volumes to bind"
ELSEWHERE = "node(s) didn't match PersistentVolume's node affinity"
NO_SPACE = "node(s) did not have enough free storage"
VOLUME_GONE = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"

Find = Callable[[str], Obj | None]
"""An object by its key."""


@dataclass(slots=True)
class Claims:
    """The claims of a pod, by what is to become of them."""

    bound: list[Obj] = field(default_factory=list)
    delayed: list[Obj] = field(default_factory=list)  # they wait for the pod's node


@dataclass(slots=True)
class Plan:
    """What is to be done for a pod that goes to a node."""

    bindings: list[tuple[Obj, Obj]] = field(default_factory=list)  # claim and volume
    provisions: list[Obj] = field(default_factory=list)  # claims


class Storage:
    """What there is of storage; volumes that one node alone can use are found by it."""

    def __init__(
        self,
        volumes: Iterable[Obj] = (),
        classes: Iterable[Obj] = (),
        drivers: Iterable[Obj] = (),
        capacities: Iterable[Obj] = (),
    ) -> None:
        self.volumes = {name_of(volume): volume for volume in volumes}
        self.classes = {name_of(one): one for one in classes}
        self.drivers = {name_of(driver): driver for driver in drivers}  # CSIDriver
        self.capacities = list(capacities)  # CSIStorageCapacity
        self._at: dict[tuple[str, str], list[Obj]] = {}  # by class and host name; the latter empty for the others
        for volume in self.volumes.values():
            for host in _hosts(volume) or ("",):
                self._at.setdefault((class_of(volume), host), []).append(volume)

    def near(self, class_name: str, labels: Mapping[str, str]) -> list[Obj]:
        """The volumes of a class that a node of these labels may be able to use."""
        return [*self._at.get((class_name, labels.get(HOSTNAME) or " "), ()), *self._at.get((class_name, ""), ())]


def _hosts(volume: Obj) -> list[str]:
    """The host names that a volume asks for and nothing else, as local volumes do; empty: it asks otherwise."""
    terms: list[Obj] = get_in(volume, "spec", "nodeAffinity", "required", "nodeSelectorTerms") or []
    if len(terms) != 1 or terms[0].get("matchFields"):
        return []
    for one in terms[0].get("matchExpressions") or ():
        if one["key"] == HOSTNAME and one["operator"] == "In":
            hosts: list[str] = one["values"]
            return hosts
    return []


def is_bound(claim: Obj) -> bool:
    return bool(get_in(claim, "spec", "volumeName")) and BIND_COMPLETED in annotations_of(claim)


def claims_of(keys: Iterable[str], own: Collection[str], claim_of: Find, class_named: Find) -> Claims | str:
    """The claims of these keys, sorted; or why who uses them cannot have a node. `own` are made for the pod alone."""
    found = Claims()
    immediate = False
    for key in keys:
        claim = claim_of(key)
        problem = _problem(claim, key.partition("/")[2], key in own)
        if problem:
            return problem
        assert claim is not None
        if is_bound(claim):
            found.bound.append(claim)
        elif is_delayed(class_named(class_of(claim))) and not get_in(claim, "spec", "volumeName"):
            found.delayed.append(claim)
        else:
            immediate = True
    return UNBOUND_IMMEDIATE if immediate else found


def _problem(claim: Obj | None, name: str, own: bool) -> str:
    if claim is None:
        if own:
            return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
        return f'persistentvolumeclaim "{name}" not found'
    if get_in(claim, "status", "phase") == "Lost":
        return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{claim["spec"]["volumeName"]}"'
    if is_deleting(claim):
        return f'persistentvolumeclaim "{name}" is being deleted'
    return ""


def is_made_for(claim: Obj, pod_uid: str) -> bool:
    """Whether the claim of an ephemeral volume belongs to the pod."""
    return any(
        owner.get("controller") and owner.get("uid") == pod_uid
        for owner in claim["metadata"].get("ownerReferences") or ()
    )


def plan(
    claims: Claims, storage: Storage, taken: Mapping[str, str], node_name: str, labels: Mapping[str, str]
) -> Plan | tuple[str, ...]:
    """How a pod's claims could be met on a node, or why not; `taken` are volumes about to be bound to others."""
    reasons = []
    bound = [storage.volumes.get(claim["spec"]["volumeName"]) for claim in claims.bound]
    if any(volume is not None and not reaches(volume, node_name, labels) for volume in bound):
        reasons.append(ELSEWHERE)
    if None in bound:
        reasons.append(VOLUME_GONE)
    made, obstacle = _plan_delayed(claims.delayed, storage, taken, node_name, labels)
    if obstacle:
        reasons.append(obstacle)
    return tuple(reasons) or made


def _plan_delayed(
    claims: Iterable[Obj], storage: Storage, taken: Mapping[str, str], node_name: str, labels: Mapping[str, str]
) -> tuple[Plan, str]:
    found = Plan()
    chosen: set[str] = set()
    for claim in sorted(claims, key=request_of):  # small ones first, so that they leave the large volumes
        selected = annotations_of(claim).get(SELECTED_NODE, "")
        if selected not in ("", node_name):
            return found, NOTHING_TO_BIND
        volume = None
        if not selected:
            usable = [
                one
                for one in storage.near(class_of(claim), labels)
                if name_of(one) not in chosen
                and taken.get(name_of(one)) in (None, key_of(claim))
                and reaches(one, node_name, labels)
            ]
            volume = find_volume(claim, usable, delayed=False)
        if volume is not None:
            chosen.add(name_of(volume))
            found.bindings.append((claim, volume))
            continue
        obstacle = _cannot_provision(claim, storage, labels)
        if obstacle:
            return found, obstacle
        found.provisions.append(claim)
    return found, ""


def reaches(volume: Obj, node_name: str, labels: Mapping[str, str]) -> bool:
    """Whether a volume can be used on a node."""
    required = get_in(volume, "spec", "nodeAffinity", "required")
    if required is None:
        return True
    return any(term_matches(term, node_name, labels) for term in required.get("nodeSelectorTerms") or ())


def _cannot_provision(claim: Obj, storage: Storage, labels: Mapping[str, str]) -> str:
    """Why no volume can be made for a claim near a node; empty if one can."""
    storage_class = storage.classes.get(class_of(claim))
    provisioner = (storage_class or {}).get("provisioner", "")
    if storage_class is None or provisioner in ("", NO_PROVISIONER):
        return NOTHING_TO_BIND
    terms = storage_class.get("allowedTopologies")
    if terms and not any(_topology_matches(term, labels) for term in terms):
        return NOTHING_TO_BIND
    return "" if _enough_capacity(provisioner, claim, storage, labels) else NO_SPACE


def _topology_matches(term: Obj, labels: Mapping[str, str]) -> bool:
    expressions = term.get("matchLabelExpressions") or ()
    return bool(expressions) and all(labels.get(one["key"]) in one["values"] for one in expressions)


def _enough_capacity(provisioner: str, claim: Obj, storage: Storage, labels: Mapping[str, str]) -> bool:
    """Whether the driver says that there is room; drivers that say nothing are believed to have it."""
    driver = storage.drivers.get(provisioner)
    wanted = request_of(claim)
    if driver is None or not get_in(driver, "spec", "storageCapacity") or wanted == ZERO:
        return True
    return any(
        capacity.get("storageClassName") == class_of(claim)
        and _size_allowed(capacity) >= wanted
        and capacity.get("nodeTopology") is not None
        and LabelSelector.from_json(capacity["nodeTopology"]).matches(labels)
        for capacity in storage.capacities
    )


def _size_allowed(capacity: Obj) -> Quantity:
    return Quantity.parse(capacity.get("maximumVolumeSize") or capacity.get("capacity") or "-1")
