"""What admission does for claims and volumes: the default class, finalizers that keep what is in use, growth.

https://kubernetes.io/docs/concepts/storage/storage-classes/#default-storageclass and
https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection.
"""

from __future__ import annotations

from pinnace.apis.core.pod_resources import amounts
from pinnace.apis.core.quota_usage import class_of
from pinnace.apis.fields import spec_of, status_of
from pinnace.apis.resources import STORAGE_CLASSES
from pinnace.apiserver.admission.chain import Attributes, Plugin, newest_default
from pinnace.machinery.meta import Obj, annotations_of
from pinnace.machinery.quantity import ZERO, Quantity

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

    concerns = frozenset({("", "persistentvolumeclaims")})

    async def mutate(self, attributes: Attributes) -> None:
        claim = attributes.obj
        if claim is None or attributes.operation != "CREATE" or attributes.subresource:
            return
        if attributes.resource != ("", "persistentvolumeclaims"):
            return
        spec = claim.setdefault("spec", {})
        if "storageClassName" in spec or "volume.beta.kubernetes.io/storage-class" in (annotations_of(claim) or {}):
            return
        name = newest_default(attributes.call.api.storage.cache(STORAGE_CLASSES), _DEFAULT_MARKS)
        if name:
            spec["storageClassName"] = name


class StorageObjectInUseProtection(Plugin):
    """Claims and volumes are kept by a finalizer while something uses them."""

    concerns = frozenset(("", plural) for plural in _PROTECTION)

    async def mutate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if obj is None or attributes.operation != "CREATE" or attributes.subresource or attributes.resource[0]:
            return
        finalizer = _PROTECTION.get(attributes.resource[1])
        if finalizer is not None:
            present = obj["metadata"].get("finalizers") or []
            if finalizer not in present:
                obj["metadata"]["finalizers"] = [*present, finalizer]


class PersistentVolumeClaimResize(Plugin):
    """A claim grows when it is bound and its class lets it."""

    concerns = frozenset({("", "persistentvolumeclaims")})

    async def validate(self, attributes: Attributes) -> None:
        claim, old = attributes.obj, attributes.old
        if attributes.resource != ("", "persistentvolumeclaims") or attributes.subresource:
            return
        if claim is None or old is None or not _size(claim) > _size(old):
            return
        if status_of(old).get("phase") != "Bound":
            raise attributes.forbidden("Only bound persistent volume claims can be expanded")
        if not self._may_grow(attributes, claim, old):
            raise attributes.forbidden(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
                "support resize"
            )

    def _may_grow(self, attributes: Attributes, claim: Obj, old: Obj) -> bool:
        name = class_of(claim)
        if not name or name != class_of(old):
            return False
        found = attributes.call.api.storage.cache(STORAGE_CLASSES).get(name)
        return found is not None and bool(found.obj().get("allowVolumeExpansion"))


def _size(claim: Obj) -> Quantity:
    asked = (spec_of(claim).get("resources") or {}).get("requests") or {}
    return amounts(asked).get("storage", ZERO)
