"""Which objects a controller's object owns: those it made, those it may adopt, and those it must let go.

An owner adopts what its selector picks and nobody controls; it lets go of what its selector no longer picks. See
https://kubernetes.io/docs/concepts/architecture/garbage-collection/ and the ReplicaSet documentation.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from pinnace.client.client import Client
from pinnace.client.store import ObjectStore
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    GVR,
    Obj,
    controller_of,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    owner_reference,
    uid_of,
)
from pinnace.machinery.selectors import LabelSelector


class Claim(Enum):
    """What an owner does about one object."""

    KEEP = "keep"
    ADOPT = "adopt"
    RELEASE = "release"
    IGNORE = "ignore"


def by_claim(obj: Obj) -> Iterable[str]:
    """Index function: the uid of the controlling owner, or the namespace where there is none."""
    owner = controller_of(obj)
    return (owner["uid"] if owner else f"{namespace_of(obj)}/",)


def claimable(store: ObjectStore, owner: Obj) -> list[Obj]:
    """What the owner owns or might adopt, of a store with the index `claim` (`by_claim`)."""
    return [*store.by_index("claim", uid_of(owner)), *store.by_index("claim", f"{namespace_of(owner)}/")]


def claim(owner: Obj, selector: LabelSelector, obj: Obj) -> Claim:
    """What the owner does about `obj`."""
    current = controller_of(obj)
    matches = selector.matches(labels_of(obj))
    if current is not None:
        if current["uid"] != uid_of(owner):
            return Claim.IGNORE
        if matches:
            return Claim.KEEP
        return Claim.IGNORE if is_deleting(owner) else Claim.RELEASE
    if not matches or is_deleting(owner) or is_deleting(obj):
        return Claim.IGNORE
    return Claim.ADOPT


async def claim_all(
    client: Client,
    owner_resource: GVR,
    owner: Obj,
    selector: LabelSelector,
    resource: GVR,
    objs: Iterable[Obj],
    finalizer: str = "",
) -> list[Obj]:
    """The objects that are the owner's, after adopting and releasing what it must.

    What is owned carries `finalizer`, if there is one, and what is not does not.
    """
    owned: list[Obj] = []
    may_adopt = False
    for obj in objs:
        decision = claim(owner, selector, obj)
        if decision is Claim.KEEP:
            owned.append(obj)
        elif decision is Claim.RELEASE:
            await _release(client, owner, resource, obj, finalizer)
        elif decision is Claim.ADOPT:
            if not may_adopt:
                await _check_alive(client, owner_resource, owner)
                may_adopt = True
            adopted = await _adopt(client, owner, resource, obj, finalizer)
            if adopted is not None:
                owned.append(adopted)
    return owned


async def _check_alive(client: Client, resource: GVR, owner: Obj) -> None:
    """The cache may be behind: an owner that is gone, or another of its name, must adopt nothing."""
    fresh = await client.get(resource, name_of(owner), namespace_of(owner))
    if uid_of(fresh) != uid_of(owner) or is_deleting(fresh):
        kind, name = owner["kind"], name_of(owner)
        raise ApiError(409, "Conflict", f"original {kind} {namespace_of(owner)}/{name} is gone or being deleted")


async def _adopt(client: Client, owner: Obj, resource: GVR, obj: Obj, finalizer: str) -> Obj | None:
    metadata: Obj = {"ownerReferences": [*(obj["metadata"].get("ownerReferences") or ()), owner_reference(owner)]}
    kept = obj["metadata"].get("finalizers") or []
    if finalizer and finalizer not in kept:
        metadata["finalizers"] = [*kept, finalizer]
    return await _set(client, resource, obj, metadata)


async def _release(client: Client, owner: Obj, resource: GVR, obj: Obj, finalizer: str) -> None:
    references = [ref for ref in obj["metadata"]["ownerReferences"] if ref["uid"] != uid_of(owner)]
    metadata: Obj = {"ownerReferences": references or None}
    finalizers = obj["metadata"].get("finalizers") or []
    if finalizer in finalizers:
        metadata["finalizers"] = [one for one in finalizers if one != finalizer] or None
    await _set(client, resource, obj, metadata)


async def _set(client: Client, resource: GVR, obj: Obj, metadata: Obj) -> Obj | None:
    """Set these fields of the metadata of exactly this version of `obj`; None if it is gone."""
    pinned = {"uid": uid_of(obj), "resourceVersion": obj["metadata"]["resourceVersion"], **metadata}
    try:
        return await client.patch(resource, name_of(obj), {"metadata": pinned}, namespace_of(obj))
    except ApiError as error:
        if error.is_not_found:
            return None
        raise
