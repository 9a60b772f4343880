"""POST of a new object: decoded, defaulted, admitted, prepared, validated, stored.

https://kubernetes.io/docs/reference/using-api/api-concepts/#generated-values says how names are generated.
"""

from __future__ import annotations

import random

from pinnace.apis import warnings
from pinnace.apiserver.admission.chain import Attributes
from pinnace.apiserver.allocation.reservations import Claim
from pinnace.apiserver.cache import CachedObject
from pinnace.apiserver.call import Call, One, shown, to_storage
from pinnace.apiserver.decode import read_object
from pinnace.apiserver.handlers.managers import check_after_admission, track_new
from pinnace.apiserver.storage import RETRIES
from pinnace.apiserver.uids import fresh_uid
from pinnace.machinery import errors
from pinnace.machinery.meta import Obj, format_time, utc_now
from pinnace.store.contract import RevisionConflict

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_BASE_LENGTH = 58  # of a generated name, which has 63 characters at most
_NAME_TRIES = 8

KEEPS_STATUS = {("", "nodes")}  # a kubelet registers its Node with what it knows already


async def create(call: Call) -> One:
    """POST to a collection."""
    obj = read_object(call, call.kind.gvk)
    return await create_object(call, obj)


async def create_object(call: Call, obj: Obj, *, tracked: bool = False) -> One:
    """Store `obj`, which belongs to us, as a new object of the call's kind; `tracked` if its managers are known."""
    meta = obj["metadata"]
    fix_namespace(call, meta)
    if meta.get("resourceVersion"):
        raise errors.bad_request("resourceVersion should not be set on objects to be created")
    dry_run = call.dry_run
    generated = bool(meta.get("generateName")) and not meta.get("name")
    tries = _NAME_TRIES if generated else 1
    _fill_metadata(call, meta)
    if call.kind.has_status and (call.kind.group, call.kind.plural) not in KEEPS_STATUS:
        obj.pop("status", None)
    if call.kind.default is not None:
        call.kind.default(obj)
    if not tracked:
        track_new(call, obj, "UpdateOptions" if call.info.verb == "update" else "CreateOptions")
    entries = meta.get("managedFields")
    if generated:
        meta["name"] = generate_name(meta["generateName"])
    attributes = Attributes(call, "CREATE", obj, None, dry_run)
    await call.api.admission.mutate(attributes)
    check_after_admission(call, obj, entries)
    if call.kind.prepare is not None:
        call.kind.prepare(obj, None)
    for _ in range(RETRIES):
        claim = call.api.reservations.claim(call.kind, obj, None)
        try:
            validate_create(call, obj)
            await call.api.admission.validate(attributes)
            if dry_run:
                return One(_check_free(call, obj), 201, kind=call.kind)
            return One(await _store(call, obj, tries, claim), 201, kind=call.kind)
        except RevisionConflict:  # another server was first to what it was to get
            claim.lose()
        finally:
            claim.release()
    raise errors.modified(call.kind.plural, meta.get("name", ""), call.kind.group)


def fix_namespace(call: Call, meta: Obj) -> None:
    """Give the object the namespace of its path; raises 400 when it names another."""
    namespace = call.info.namespace
    if not call.kind.namespaced:
        return
    if meta.get("namespace") and meta["namespace"] != namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    meta["namespace"] = namespace


def generate_name(base: str) -> str:
    return base[:_BASE_LENGTH] + "".join(random.choices(_ALPHABET, k=5))


def _fill_metadata(call: Call, meta: Obj) -> None:
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"):
        meta.pop(name, None)
    meta["uid"] = fresh_uid()
    meta["creationTimestamp"] = format_time(utc_now())
    if call.kind.has_generation:
        meta["generation"] = 1


def validate_create(call: Call, obj: Obj) -> None:
    """Raise 422 for an object that breaks rules of its kind."""
    kind = call.kind
    if kind.validate is not None:
        causes = kind.validate(obj)
        if causes:
            raise errors.invalid(kind.kind, obj["metadata"].get("name", ""), causes, kind.group)
    if call.request is not None:
        call.warnings += warnings.on_create(kind.group, kind.kind, obj)


def _key(obj: Obj) -> str:
    meta = obj["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])


def _check_free(call: Call, obj: Obj) -> Obj:
    if call.cache.get(_key(obj)) is not None:
        raise errors.already_exists(call.kind.plural, obj["metadata"]["name"], call.kind.group)
    return obj


async def _store(call: Call, obj: Obj, tries: int, claim: Claim) -> CachedObject:
    api, cache = call.api, call.cache
    while True:
        tries -= 1
        try:
            if cache.get(_key(obj)) is not None:  # cheaper than to find out at the store
                _check_free(call, obj)
            return await api.storage.create(cache, _key(obj), to_storage(call.kind, obj), claim.writes(obj))
        except errors.ApiError as error:
            if not error.is_already_exists or tries <= 0:
                raise
        obj["metadata"]["name"] = generate_name(obj["metadata"]["generateName"])


def answer(call: Call, stored: CachedObject) -> Obj:
    """The stored object as the call's kind shows it."""
    return shown(call.kind, stored)
