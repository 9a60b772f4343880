"""PUT and PATCH: a new state worked out from the old, checked against it, and stored if it is still the old one.

An author who names a `resourceVersion` is refused when another write came first; for one who does not, the change is
made again on the newer state. Status has a path of its own, and each path leaves the other's part alone.
https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-update.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pinnace.apis import warnings
from pinnace.apis.core.pod import PART_RULES
from pinnace.apis.kind import METADATA
from pinnace.apiserver import negotiate
from pinnace.apiserver.admission.chain import Attributes
from pinnace.apiserver.cache import CachedObject
from pinnace.apiserver.call import Call, One, shown, to_storage
from pinnace.apiserver.decode import check_kind, decode, field_validation, own, read_object
from pinnace.apiserver.handlers.create import create_object
from pinnace.apiserver.handlers.managers import check_after_admission, ignore_times, track_change
from pinnace.apiserver.storage import RETRIES
from pinnace.machinery import errors, json, json_patch, merge_patch, strategic_merge
from pinnace.machinery.meta import Obj
from pinnace.store.contract import RevisionConflict

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # which `apply` serves
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)
CUSTOM_PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)

Make = Callable[[CachedObject], Obj]
"""The new state from the old; the result belongs to the caller and may be asked for again on a newer one."""

Restrict = Callable[[Obj, Obj], Obj]
"""`(new, old)`: the new state cut to what the path may change. `old` is read-only, `new` may be changed."""

Track = Callable[[Call, Obj, Obj], Awaitable[None]]
"""`(call, new, old)`: says in `new`, in place, who manages its fields."""

_CREATED_BY_PUT = {("", "events"), ("", "endpoints"), ("", "limitranges"), ("coordination.k8s.io", "leases")}
_UNPINNED = "must be specified for an update"
_WHOLE = ("", "scale")  # paths whose writes are prepared as those of the whole object
_PARTS = ("finalize", "ephemeralcontainers", "resize")
_NEVER_COUNTED = ("metadata", "apiVersion", "kind")
_OWN_PARTS = (*_NEVER_COUNTED, "status")


async def update(call: Call) -> One:
    """PUT of an object, or of its status."""
    obj = read_object(call, call.kind.gvk, "UpdateOptions")
    check_address(call, obj)
    if call.cache.get(call.key) is None:
        return await _create_by_put(call, obj)
    if not call.kind.unconditional_update and not obj["metadata"].get("resourceVersion"):
        cause = errors.Cause("FieldValueInvalid", f"Invalid value: 0x0: {_UNPINNED}", "metadata.resourceVersion")
        raise errors.invalid(call.kind.plural, call.info.name, [cause], call.kind.group)
    pinned = bool(obj["metadata"].get("resourceVersion"))

    def make(_: CachedObject) -> Obj:
        return obj if pinned else own(obj)  # one with a version is tried but once

    return await modify(call, make, restriction(call), pinned=pinned)


async def _create_by_put(call: Call, obj: Obj) -> One:
    meta = obj["metadata"]
    kind = call.kind
    if call.info.subresource or (kind.group, kind.plural) not in _CREATED_BY_PUT:
        raise errors.not_found(kind.plural, call.info.name, kind.group)
    if meta.get("resourceVersion") or meta.get("uid"):
        raise errors.modified(kind.plural, call.info.name, kind.group)
    return await create_object(call, obj)


def check_address(call: Call, obj: Obj) -> None:
    """Raise 400 when the object names itself otherwise than its path does; fill in what it leaves out.

    The version 0 is none.
    """
    meta = obj["metadata"]
    if meta.get("resourceVersion") == "0":
        del meta["resourceVersion"]
    name = meta.get("name")
    if not name:
        raise errors.bad_request("name must be provided")
    if name != call.info.name:
        raise errors.bad_request(
            f"the name of the object ({name}) does not match the name on the URL ({call.info.name})"
        )
    if call.kind.namespaced:
        if meta.get("namespace") and meta["namespace"] != call.info.namespace:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        meta["namespace"] = call.info.namespace


async def patch(call: Call) -> One:
    """PATCH of an object, or of its status."""
    return await patch_with(call, restriction(call))


async def patch_with(call: Call, restrict: Restrict) -> One:
    """PATCH, the result cut by `restrict`."""
    apply, pinned = read_patch(call)
    mode = field_validation(call, "PatchOptions")

    def make(old: CachedObject) -> Obj:
        patched = apply(own_view(call, old))
        if not isinstance(patched, dict):
            raise errors.bad_request("the patched document is not an object")
        check_kind(patched, call.kind.gvk)
        decoded = decode(call, patched, call.kind.gvk, mode, [])
        check_address(call, decoded)
        return decoded

    return await modify(call, make, restrict, pinned=pinned)


def own_view(call: Call, old: CachedObject) -> Obj:
    """The stored object as the call's kind shows it, ours to change."""
    kind = call.kind
    if kind.stored_as is None or kind.stored_as == kind.gvr:
        return old.fresh()
    return own(shown(kind, old))  # type: ignore[no-any-return]


def read_patch(call: Call) -> tuple[Callable[[Obj], Any], bool]:
    """The patch in the body as a function of the object, and whether it names a resourceVersion.

    Raises 415 for a type of patch that is not served, 400 for a body that is no such patch.
    """
    media_type = negotiate.media_type_of(call.content_type)
    served = CUSTOM_PATCH_TYPES if call.kind.custom else PATCH_TYPES
    if media_type not in served:
        raise errors.unsupported_media_type(media_type, served)
    if call.request is None:
        document: Any = own(call.document)
    else:
        try:
            document = json.loads(call.request.body)
        except json.JsonError as error:
            raise errors.bad_request(f"error decoding patch: {error}") from None
    if media_type == JSON_PATCH:
        json_patch.check(document)
        return lambda obj: json_patch.apply(obj, document), False
    if not isinstance(document, dict):
        what = "array" if isinstance(document, list) else "value"
        raise errors.bad_request(
            f"error decoding patch: json: cannot unmarshal {what} into Go value of type map[string]interface {{}}"
        )
    meta = document.get("metadata")
    pinned = isinstance(meta, dict) and meta.get("resourceVersion") not in (None, "", "0")
    if media_type == MERGE_PATCH:
        return lambda obj: merge_patch.apply(obj, document), pinned
    schema = call.api.schemas.for_gvk(call.kind.gvk)
    if schema is None:
        raise errors.unsupported_media_type(media_type, (JSON_PATCH, MERGE_PATCH))
    return lambda obj: strategic_merge.apply(obj, document, schema), pinned


def restriction(call: Call) -> Restrict:
    """What the path of the call may change: everything but status, or status and metadata alone."""
    if call.info.subresource == "status":
        leaves = METADATA if call.kind.custom else call.kind.status_leaves
        return only_status if not leaves else lambda new, old: _with_fields_of(old, only_status(new, old), leaves)
    return without_status if call.kind.has_status else unrestricted


def unrestricted(new: Obj, old: Obj) -> Obj:  # noqa: ARG001 - a Restrict
    return new


def without_status(new: Obj, old: Obj) -> Obj:
    """A write to the object itself leaves status alone."""
    if "status" in old:
        new["status"] = own(old["status"])
    else:
        new.pop("status", None)
    return new


def only_status(new: Obj, old: Obj) -> Obj:
    """A write to /status leaves everything but status and metadata alone."""
    kept = own({name: value for name, value in old.items() if name not in ("status", "metadata")})
    kept["metadata"] = new["metadata"]
    if "status" in new:
        kept["status"] = new["status"]
    return kept  # type: ignore[no-any-return]


def _with_fields_of(old: Obj, new: Obj, names: tuple[str, ...]) -> Obj:
    """`new` with these fields of its metadata as they were."""
    before = old["metadata"]
    meta = {name: value for name, value in new["metadata"].items() if name not in names}
    new["metadata"] = meta | {name: own(before[name]) for name in names if name in before}
    return new


async def modify(
    call: Call,
    make: Make | Callable[[CachedObject], Awaitable[Obj]],
    restrict: Restrict,
    *,
    pinned: bool = False,
    track: Track = track_change,
    status: int = 200,
) -> One:
    """Bring the object that the path names from its state to the one that `make` makes of it."""
    kind, cache, storage = call.kind, call.cache, call.api.storage
    dry_run = call.dry_run
    for _ in range(RETRIES):
        stored = call.current()
        old = shown(kind, stored)
        made = make(stored)
        new = restrict(made if isinstance(made, dict) else await made, old)
        _carry_metadata(call, new["metadata"], old["metadata"])
        if kind.default is not None:
            kind.default(new)
        await track(call, new, old)
        entries = new["metadata"].get("managedFields")
        attributes = Attributes(call, "UPDATE", new, old, dry_run)
        await call.api.admission.mutate(attributes)
        check_after_admission(call, new, entries)
        if kind.prepare is not None and call.info.subresource in _WHOLE:
            kind.prepare(new, old)
        _count_generation(call, new, old)
        ignore_times(new, old)
        claim = call.api.reservations.claim(kind, new, old)
        try:
            _validate(call, new, old)
            await call.api.admission.validate(attributes)
            if dry_run:
                return One(new, status, kind=kind)
            if new == old and not (cache.converter is not None and cache.converter.is_stale(stored.key)):
                return One(stored, status, kind=kind)
            if is_finished(new):
                await storage.remove(cache, stored, call.api.reservations.releases(kind, old))
                return One(new, status, kind=kind)
            replaced = await storage.replace(cache, stored, to_storage(kind, new), claim.writes(new))
            return One(replaced, status, kind=kind)
        except RevisionConflict as conflict:
            if pinned and conflict.key == cache.prefix + stored.key:
                raise errors.modified(kind.plural, call.info.name, kind.group) from None
            claim.lose()
        finally:
            claim.release()
    raise errors.modified(kind.plural, call.info.name, kind.group)


def _validate(call: Call, new: Obj, old: Obj) -> None:
    """Raise 422 where rules are broken. What a part may change is not what the whole may: `restrict` has seen to it."""
    kind = call.kind
    causes = []
    rule = PART_RULES.get(call.info.subresource)
    if rule is not None:
        causes = rule(new, old)
    elif call.info.subresource in _PARTS:
        causes = kind.validate(new) if kind.validate is not None else []
    elif kind.validate_update is not None:
        causes = kind.validate_update(new, old)
    if causes:
        raise errors.invalid(kind.kind, call.info.name, causes, kind.group)
    if call.request is not None and not call.info.subresource:
        call.warnings += warnings.on_update(kind.group, kind.kind, new, old)


def _carry_metadata(call: Call, meta: Obj, old: Obj) -> None:
    """Check what identifies the old state, and keep what only the server sets."""
    revision = meta.get("resourceVersion")
    kind = call.kind
    if revision:
        if not (isinstance(revision, str) and revision.isdigit()):
            cause = errors.invalid_value("metadata.resourceVersion", revision, "must be an unsigned integer")
            raise errors.invalid(kind.kind, call.info.name, [cause], kind.group)
        if revision != old["resourceVersion"]:
            raise errors.modified(kind.plural, call.info.name, kind.group)
    meta["resourceVersion"] = old["resourceVersion"]
    if meta.get("uid") and meta["uid"] != old.get("uid"):
        why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {old.get('uid', '')}"
        raise errors.conflict(kind.plural, call.info.name, why, kind.group)
    for name in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName"):
        if name in old and not (name == "creationTimestamp" and meta.get(name)):
            meta[name] = old[name]
        elif name.startswith("deletion"):
            meta.pop(name, None)
    meta.pop("selfLink", None)
    if "generation" in old:
        meta["generation"] = old["generation"]
    else:
        meta.pop("generation", None)


def _count_generation(call: Call, new: Obj, old: Obj) -> None:
    if not call.kind.has_generation:
        return
    parts = _OWN_PARTS if call.kind.has_status or not call.kind.custom else _NEVER_COUNTED
    changed = any(new.get(part) != old.get(part) for part in {*new, *old} if part not in parts)
    generation = old["metadata"].get("generation", 0)
    new["metadata"]["generation"] = generation + 1 if changed else generation or 1


def is_finished(obj: Obj) -> bool:
    """Whether an object whose deletion has begun has nothing left to wait for."""
    meta = obj["metadata"]
    if not meta.get("deletionTimestamp") or meta.get("finalizers") or meta.get("deletionGracePeriodSeconds"):
        return False
    return not (obj.get("kind") == "Namespace" and (obj.get("spec") or {}).get("finalizers"))
