"""Extended resources that devices stand behind: a pod asks for `example.com/gpu: 1`, and gets a device by a claim that
the scheduler makes for it.

Pure, but for the table of classes that is kept until something changes. Specified by
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/#extended-resource and KEP-5004.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from pinnace.apis.core.quota_usage import is_extended
from pinnace.apis.resources import DEVICE_CLASSES, RESOURCE_CLAIMS
from pinnace.client.store import ObjectStore
from pinnace.machinery.meta import GVR, Obj, annotations_of, controller_of, get_in, name_of, namespace_of, uid_of
from pinnace.machinery.quantity import Quantity

MARK = "resource.kubernetes.io/extended-resource-claim"  # annotation of such claims
_OF_CLASS = "deviceclass.resource.kubernetes.io/"  # before the name of a class: a resource that each class has


class Request(NamedTuple):
    """What one container asks for of one resource."""

    name: str  # in the claim: `container-0-request-1`, by the place of the container and that of the resource
    container: str
    resource: str
    devices: int


def requests_of(spec: Obj) -> tuple[Request, ...]:
    """What a pod asks for of resources that devices may stand behind."""
    found = []
    for place, container in enumerate([*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]):
        requests = get_in(container, "resources", "requests") or {}
        for number, resource in enumerate(sorted(requests)):
            if is_extended(resource) or resource.startswith(_OF_CLASS):
                name, count = f"container-{place}-request-{number}", Quantity.parse(requests[resource]).value()
                found += [Request(name, container["name"], resource, count)] if count else []
    return tuple(found)


def classes_by_resource(classes: Iterable[Obj]) -> dict[str, str]:
    """The class whose devices stand behind each resource: of several the latest, then the first by name."""
    found: dict[str, str] = {}
    ordered = sorted(classes, key=name_of, reverse=True)
    for one in sorted(ordered, key=lambda one: one["metadata"].get("creationTimestamp", "")):
        found[_OF_CLASS + name_of(one)] = name_of(one)
        resource = get_in(one, "spec", "extendedResourceName")
        if resource:
            found[resource] = name_of(one)
    return found


class Backing:
    """Which resources devices stand behind at present; `version` changes with the classes."""

    def __init__(self, objects: Callable[[GVR], ObjectStore], version: Callable[[], int]) -> None:
        self._objects = objects
        self._version = version
        self._known = -1
        self._classes: dict[str, str] = {}

    @property
    def classes(self) -> Mapping[str, str]:
        version = self._version()
        if version != self._known:
            self._classes = classes_by_resource(self._objects(DEVICE_CLASSES).list())
            self._known = version
        return self._classes

    def needed(self, requests: Iterable[Request], allocatable: Mapping[str, int]) -> list[Request]:
        """Those that a node can meet by devices alone: its kubelet knows nothing of the resource."""
        return [one for one in requests if one.resource in self.classes and not allocatable.get(one.resource)]


def claim_spec(requests: Iterable[Request], classes: Mapping[str, str]) -> Obj:
    wanted = [
        {
            "name": one.name,
            "exactly": {
                "deviceClassName": classes[one.resource],
                "allocationMode": "ExactCount",
                "count": one.devices,
            },
        }
        for one in sorted(requests)
    ]
    return {"devices": {"requests": wanted}}


def new_claim(pod: Obj, spec: Obj) -> Obj:
    """The claim that is made for a pod; the pod owns it."""
    owner = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": name_of(pod),
        "uid": uid_of(pod),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = {
        "generateName": f"{name_of(pod)}-extended-resources-",
        "namespace": namespace_of(pod),
        "annotations": {MARK: "true"},
        "ownerReferences": [owner],
    }
    return {"apiVersion": RESOURCE_CLAIMS.api_version, "kind": "ResourceClaim", "metadata": metadata, "spec": spec}


def is_claim_of(claim: Obj, pod_uid: str) -> bool:
    owner = controller_of(claim)
    return annotations_of(claim).get(MARK) == "true" and owner is not None and owner["uid"] == pod_uid


def status_for(claim: Obj, requests: Collection[Request]) -> Obj:
    """`status.extendedResourceClaimStatus` of the pod: which container's request which device is for."""
    asked = {one["name"] for one in claim["spec"]["devices"]["requests"]}
    mappings = [
        {"containerName": one.container, "resourceName": one.resource, "requestName": one.name}
        for one in requests
        if one.name in asked
    ]
    return {"resourceClaimName": name_of(claim), "requestMappings": mappings}
