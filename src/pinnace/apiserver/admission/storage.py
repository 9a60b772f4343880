"""What admission does for claims and volumes: the default class, and finalizers that keep what is in use.

https://kubernetes.io/docs/concepts/storage/storage-classes/#default-storageclass and
https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection.
"""

from __future__ import annotations

from pinnace.apis.resources import STORAGE_CLASSES
from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.machinery.meta import annotations_of

_DEFAULT_MARKS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_PROTECTION = {
    "persistentvolumeclaims": "kubernetes.io/pvc-protection",
    "persistentvolumes": "kubernetes.io/pv-protection",
}


class DefaultStorageClass(Plugin):
    """A claim that names no class gets the default one, the newest where several say they are."""

    async def mutate(self, attributes: Attributes) -> None:
        claim = attributes.obj
        if claim is None or attributes.operation != "CREATE" or attributes.subresource:
            return
        if attributes.resource != ("", "persistentvolumeclaims"):
            return
        spec = claim.setdefault("spec", {})
        if "storageClassName" in spec or "volume.beta.kubernetes.io/storage-class" in (annotations_of(claim) or {}):
            return
        defaults = [
            found.obj()["metadata"]
            for found in attributes.call.api.storage.cache(STORAGE_CLASSES).objects.values()
            if b"is-default-class" in found.raw
            and any(annotations_of(found.obj()).get(mark) == "true" for mark in _DEFAULT_MARKS)
        ]
        if defaults:
            newest = min(defaults, key=lambda meta: (_descending(meta["creationTimestamp"]), meta["name"]))
            spec["storageClassName"] = newest["name"]


def _descending(text: str) -> list[int]:
    return [-ord(character) for character in text]


class StorageObjectInUseProtection(Plugin):
    """Claims and volumes are kept by a finalizer while something uses them."""

    async def mutate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if obj is None or attributes.operation != "CREATE" or attributes.subresource or attributes.resource[0]:
            return
        finalizer = _PROTECTION.get(attributes.resource[1])
        if finalizer is not None:
            present = obj["metadata"].get("finalizers") or []
            if finalizer not in present:
                obj["metadata"]["finalizers"] = [*present, finalizer]
