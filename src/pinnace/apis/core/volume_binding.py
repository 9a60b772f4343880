"""Which volume a claim gets, and what claims and volumes say of each other.

Pure functions. Specified by https://kubernetes.io/docs/concepts/storage/persistent-volumes/#binding and, of classes, by
https://kubernetes.io/docs/concepts/storage/storage-classes/.
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.machinery.meta import Obj, annotations_of, get_in, is_deleting, labels_of, name_of, namespace_of, uid_of
from pinnace.machinery.quantity import ZERO, Quantity
from pinnace.machinery.selectors import LabelSelector

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
MIGRATED_TO = "pv.kubernetes.io/migrated-to"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
BETA_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_MARKS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


def class_of(obj: Obj) -> str:
    """The storage class of a claim or a volume; empty where it has none."""
    old_way = annotations_of(obj).get(_BETA_CLASS)
    return old_way if old_way is not None else get_in(obj, "spec", "storageClassName") or ""


def wants_a_class(claim: Obj) -> bool:
    """Whether it takes the default class, as it says nothing of one, not even that it wants none."""
    return get_in(claim, "spec", "storageClassName") is None and _BETA_CLASS not in annotations_of(claim)


def default_class(classes: Iterable[Obj]) -> Obj | None:
    """The default StorageClass; of several, the newest."""
    marked = [one for one in classes if any(annotations_of(one).get(mark) == "true" for mark in _DEFAULT_MARKS)]
    by_name = sorted(marked, key=name_of)
    return max(by_name, key=lambda one: one["metadata"].get("creationTimestamp", ""), default=None)


def mode_of(obj: Obj) -> str:
    return get_in(obj, "spec", "volumeMode") or "Filesystem"


def size_of(volume: Obj) -> Quantity:
    return Quantity.parse(get_in(volume, "spec", "capacity", "storage", default="0"))


def request_of(claim: Obj) -> Quantity:
    return Quantity.parse(get_in(claim, "spec", "resources", "requests", "storage", default="0"))


def is_meant_for(volume: Obj, claim: Obj) -> bool:
    """Whether the volume's claimRef names this claim: this very one, or whatever is made under its name."""
    reference = get_in(volume, "spec", "claimRef")
    if not reference:
        return False
    if (reference.get("namespace"), reference.get("name")) != (namespace_of(claim), name_of(claim)):
        return False
    return reference.get("uid", "") in ("", uid_of(claim))


def mismatch(volume: Obj, claim: Obj) -> str:
    """Why a claim cannot have the volume that it names; empty if it can."""
    if size_of(volume) < request_of(claim):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if _attributes(volume) != _attributes(claim):
        return "volumeAttributesClassName does not match"
    if mode_of(volume) != mode_of(claim):
        return "incompatible volumeMode"
    if not _modes(claim) <= _modes(volume):
        return "incompatible accessMode"
    return ""


def find_volume(claim: Obj, volumes: Iterable[Obj], *, delayed: bool) -> Obj | None:
    """The volume that the claim gets: one that was kept for it, or the smallest that will do.

    With `delayed` the scheduler chooses among those that are kept for nobody.
    """
    wanted = request_of(claim)
    usable = [
        volume
        for volume in volumes
        if not is_deleting(volume)
        and mode_of(volume) == mode_of(claim)
        and _attributes(volume) == _attributes(claim)
        and _modes(claim) <= _modes(volume)
        and size_of(volume) >= wanted
    ]
    for volume in usable:
        if is_meant_for(volume, claim):
            return volume
    if delayed:
        return None
    selector = get_in(claim, "spec", "selector")
    picks = LabelSelector.from_json(selector) if selector is not None else None
    free = [
        volume
        for volume in usable
        if get_in(volume, "status", "phase") == "Available"
        and not get_in(volume, "spec", "claimRef")
        and class_of(volume) == class_of(claim)
        and (picks is None or picks.matches(labels_of(volume)))
    ]
    return min(free, key=lambda volume: (len(_modes(volume)), size_of(volume), name_of(volume)), default=None)


def _modes(obj: Obj) -> set[str]:
    return set(get_in(obj, "spec", "accessModes") or ())


def _attributes(obj: Obj) -> str:
    return get_in(obj, "spec", "volumeAttributesClassName") or ""


def is_delayed(storage_class: Obj | None) -> bool:
    """Whether claims of the class wait until a pod that uses them has a node."""
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


# What binding writes.


def with_annotations(obj: Obj, added: dict[str, str], removed: Iterable[str] = ()) -> Obj:
    """The object with other annotations."""
    gone = set(removed)
    kept = {name: value for name, value in annotations_of(obj).items() if name not in gone}
    return {**obj, "metadata": {**obj["metadata"], "annotations": {**kept, **added}}}


def bound_volume(volume: Obj, claim: Obj) -> Obj:
    """The volume as it says that it belongs to the claim."""
    reference = get_in(volume, "spec", "claimRef") or {}
    if reference.get("uid") == uid_of(claim):
        return volume
    fresh = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": namespace_of(claim),
        "name": name_of(claim),
        "uid": uid_of(claim),
        "resourceVersion": claim["metadata"].get("resourceVersion", ""),
    }
    bound = {**volume, "spec": {**volume["spec"], "claimRef": fresh}}
    return bound if is_meant_for(volume, claim) else with_annotations(bound, {BOUND_BY_CONTROLLER: "yes"})


def released_volume(volume: Obj) -> Obj:
    """The volume as it belongs to nobody; who kept it for a claim by hand goes on keeping it for that name."""
    spec = dict(volume["spec"])
    if BOUND_BY_CONTROLLER in annotations_of(volume):
        del spec["claimRef"]
        return with_annotations({**volume, "spec": spec}, {}, [BOUND_BY_CONTROLLER])
    spec["claimRef"] = {key: value for key, value in spec["claimRef"].items() if key not in ("uid", "resourceVersion")}
    return {**volume, "spec": spec}


def bound_claim(claim: Obj, volume: Obj) -> Obj:
    """The claim as it says which volume it has."""
    added = {}
    if get_in(claim, "spec", "volumeName") != name_of(volume):
        claim = {**claim, "spec": {**claim["spec"], "volumeName": name_of(volume)}}
        added[BOUND_BY_CONTROLLER] = "yes"
    if BIND_COMPLETED not in annotations_of(claim):
        added[BIND_COMPLETED] = "yes"
    return with_annotations(claim, added) if added else claim


def bound_claim_status(claim: Obj, volume: Obj) -> Obj:
    """The status of a claim that has its volume. Once bound, what grows its capacity is an expansion."""
    old = claim.get("status") or {}
    status = {**old, "phase": "Bound", "accessModes": get_in(volume, "spec", "accessModes", default=[])}
    if old.get("phase") != "Bound" or Quantity.parse(get_in(old, "capacity", "storage", default="0")) == ZERO:
        status["capacity"] = get_in(volume, "spec", "capacity", default={})
    if attributes := _attributes(volume):
        status["currentVolumeAttributesClassName"] = attributes
    return status
