"""DELETE of one object or of a collection: at once, after a grace period, or when its finalizers are done.

https://kubernetes.io/docs/concepts/architecture/garbage-collection/ and
https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pinnace.apiserver import negotiate
from pinnace.apiserver.admission.chain import Attributes
from pinnace.apiserver.cache import CachedObject
from pinnace.apiserver.call import Call, Many, One, shown, to_storage
from pinnace.apiserver.decode import own
from pinnace.apiserver.handlers.read import list_objects
from pinnace.apiserver.handlers.update import is_finished, own_view
from pinnace.apiserver.storage import RETRIES
from pinnace.machinery import errors
from pinnace.machinery.meta import GVK, Obj, format_time, utc_now
from pinnace.store.contract import RevisionConflict

# What DELETE answers with: the object for these, a Status for the rest.
ANSWERS_WITH_OBJECT = {
    ("", "pods"),
    ("", "services"),
    ("", "persistentvolumes"),
    ("", "persistentvolumeclaims"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourceclaimtemplates"),
    ("resource.k8s.io", "resourceslices"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("storage.k8s.io", "volumeattributesclasses"),
}
_DEPENDENT_FINALIZERS = ("orphan", "foregroundDeletion")
_POLICIES = ("Background", "Foreground", "Orphan")
_DEFAULT_GRACE = 30


@dataclass(slots=True)
class Options:
    """DeleteOptions, from the body or the query."""

    grace: int | None = None
    policy: str = ""
    orphan: bool | None = None
    uid: str = ""
    revision: str = ""
    dry_run: bool = False


async def delete(call: Call) -> One:
    """DELETE of one object."""
    options = read_options(call)
    return await delete_object(call, call.key, options)


async def delete_collection(call: Call) -> Many:
    """DELETE of every object that the selectors choose; the answer is the list of them as they were."""
    options = read_options(call)
    found = list_objects(call)
    gone = list(found.items)
    for item in gone:
        try:
            await delete_object(call, item.key, options)
        except errors.ApiError as error:
            if not error.is_not_found:
                raise
    return Many(gone, found.metadata)


async def delete_object(call: Call, key: str, options: Options) -> One:
    """Delete the object at `key` as `options` say."""
    kind, cache, storage = call.kind, call.cache, call.api.storage
    name = key.rpartition("/")[2]
    for _ in range(RETRIES):
        stored = cache.get(key)
        if stored is None:
            raise errors.not_found(kind.plural, name, kind.group)
        check_preconditions(call, stored, options)
        attributes = Attributes(call, "DELETE", None, shown(kind, stored), options.dry_run)
        await call.api.admission.mutate(attributes)
        await call.api.admission.validate(attributes)
        try:
            new = begin_deletion(call, stored, options)
            if new is None:
                if not options.dry_run:
                    releases = call.api.reservations.releases(kind, stored.obj())
                    await storage.remove(cache, stored, releases)
                return _answer(call, stored)
            if options.dry_run or new == shown(kind, stored):
                return One(new, kind=kind)
            return One(await storage.replace(cache, stored, to_storage(kind, new)), kind=kind)
        except RevisionConflict:
            continue
    raise errors.modified(kind.plural, name, kind.group)


def begin_deletion(call: Call, stored: CachedObject, options: Options) -> Obj | None:
    """The object marked as being deleted, or None when nothing holds it."""
    kind = call.kind
    new = own_view(call, stored)
    meta = new["metadata"]
    if kind.begin_deletion is not None and not meta.get("deletionTimestamp"):
        kind.begin_deletion(new)
    finalizers = _finalizers(new, options)
    grace = pod_grace(new, options) if (kind.group, kind.plural) == ("", "pods") else 0
    if (kind.group, kind.plural) == ("", "namespaces") and (new.get("spec") or {}).get("finalizers"):
        new["status"] = {**(new.get("status") or {}), "phase": "Terminating"}
        held = True
    else:
        held = bool(finalizers) or grace > 0
    if not held:
        return None
    if meta.get("deletionTimestamp"):
        left = meta.get("deletionGracePeriodSeconds") or 0
        if options.grace is not None and grace < left:  # may be shortened, never put off
            _mark(meta, grace)
    else:
        if meta.get("generation"):
            meta["generation"] += 1
        _mark(meta, grace)
    if finalizers:
        meta["finalizers"] = finalizers
    else:
        meta.pop("finalizers", None)
    return None if is_finished(new) else new


def _mark(meta: Obj, grace: int) -> None:
    meta["deletionTimestamp"] = format_time(utc_now() + timedelta(seconds=grace))
    meta["deletionGracePeriodSeconds"] = grace


def pod_grace(pod: Obj, options: Options) -> int:
    """Seconds that a pod has to end: none for one that no node has, or that has ended."""
    spec, meta = pod.get("spec") or {}, pod["metadata"]
    if not spec.get("nodeName") or (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        return 0
    if options.grace is not None:
        return max(options.grace, 0)
    if meta.get("deletionTimestamp"):
        return int(meta.get("deletionGracePeriodSeconds") or 0)
    wanted = spec.get("terminationGracePeriodSeconds")
    return _DEFAULT_GRACE if wanted is None else max(int(wanted), 1)


def _finalizers(obj: Obj, options: Options) -> list[str]:
    """The object's finalizers, with those that the propagation policy asks for and without those it rules out."""
    found = list(obj["metadata"].get("finalizers") or ())
    policy = options.policy
    if not policy and options.orphan is not None:
        policy = "Orphan" if options.orphan else "Background"
    if not policy:
        return found
    wanted = {"Orphan": "orphan", "Foreground": "foregroundDeletion"}.get(policy)
    found = [name for name in found if name not in _DEPENDENT_FINALIZERS or name == wanted]
    if wanted and wanted not in found:
        found.append(wanted)
    return found


def check_preconditions(call: Call, stored: CachedObject, options: Options) -> None:
    """Raises 409 where the object is not the one that is to go."""
    if not options.uid and not options.revision:
        return
    meta = stored.obj()["metadata"]
    if options.uid and options.uid != meta["uid"]:
        why = f"Precondition failed: UID in precondition: {options.uid}, UID in object meta: {meta['uid']}"
        raise errors.conflict(call.kind.plural, stored.name, why, call.kind.group)
    if options.revision and options.revision != meta["resourceVersion"]:
        why = (
            f"Precondition failed: ResourceVersion in precondition: {options.revision}, "
            f"ResourceVersion in object meta: {meta['resourceVersion']}"
        )
        raise errors.conflict(call.kind.plural, stored.name, why, call.kind.group)


def _answer(call: Call, stored: CachedObject) -> One:
    kind = call.kind
    if (kind.group, kind.plural) in ANSWERS_WITH_OBJECT:
        return One(stored, kind=kind)
    details: Obj = {"name": stored.name}
    if kind.group:
        details["group"] = kind.group
    details["kind"] = kind.plural
    details["uid"] = stored.obj()["metadata"].get("uid", "")
    return One({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})


def read_options(call: Call) -> Options:
    """DeleteOptions in the body, or failing that in the query. Raises 400 and 422."""
    document: Any = None
    if call.has_body:
        if call.request is None:
            document = own(call.document)
        else:
            document, _ = negotiate.load(call.request.body, call.content_type, "DeleteOptions", call.api.schemas)
        schema = call.api.schemas.for_gvk(GVK("", "v1", "DeleteOptions"))
        if schema is not None:
            document, _ = schema.decode(document, False, GVK("", "v1", "DeleteOptions"))
    elif call.params:
        document = _query_options(call)
    options = Options()
    if not document:
        return options
    grace = document.get("gracePeriodSeconds")
    options.grace = grace if isinstance(grace, int) else None
    options.policy = document.get("propagationPolicy") or ""
    options.orphan = document.get("orphanDependents")
    preconditions = document.get("preconditions") or {}
    options.uid = preconditions.get("uid") or ""
    options.revision = preconditions.get("resourceVersion") or ""
    options.dry_run = bool(document.get("dryRun"))
    _check_options(options, document)
    return options


def _query_options(call: Call) -> Obj:
    found: Obj = {}
    grace = call.number("gracePeriodSeconds")
    if grace is not None:
        found["gracePeriodSeconds"] = grace
    if call.params.get("propagationPolicy"):
        found["propagationPolicy"] = call.params["propagationPolicy"]
    if call.params.get("orphanDependents"):
        found["orphanDependents"] = call.flag("orphanDependents")
    if call.params.get("dryRun"):
        found["dryRun"] = [call.params["dryRun"]]
    return found


def _check_options(options: Options, document: Obj) -> None:
    causes = []
    if options.policy and options.orphan is not None:
        why = "orphanDependents and deletionPropagation cannot be both set"
        causes.append(errors.invalid_value("propagationPolicy", options.policy, why))
    if options.policy and options.policy not in _POLICIES:
        causes.append(errors.not_supported("propagationPolicy", options.policy, [*_POLICIES, "nil"]))
    causes += [
        errors.not_supported("dryRun", value, ["All"]) for value in document.get("dryRun") or () if value != "All"
    ]
    if causes:
        raise errors.invalid("DeleteOptions", "", causes, "meta.k8s.io")
