"""What is done to pods besides reading and writing them: binding, eviction, ephemeral containers, resizing.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Operations
"""

from __future__ import annotations

from dataclasses import replace

from pinnace.apis.resources import PODS
from pinnace.apiserver.admission.topology import topology_labels
from pinnace.apiserver.cache import CachedObject
from pinnace.apiserver.call import Call, One
from pinnace.apiserver.decode import own, read_object
from pinnace.apiserver.handlers import delete as deletion
from pinnace.apiserver.handlers import update as updating
from pinnace.apiserver.handlers.eviction import charge
from pinnace.machinery import errors
from pinnace.machinery.meta import GVK, Obj, annotations_of, format_time, labels_of, utc_now

BINDING = GVK("", "v1", "Binding")
EVICTION = GVK("policy", "v1", "Eviction")


async def bind(call: Call) -> One:
    """POST to pods/binding: put the pod on a node."""
    return await _bind(call, read_object(call, BINDING))


async def bind_named(call: Call) -> One:
    """POST to /bindings: the pod is the one that the Binding is named after."""
    binding = read_object(call, BINDING)
    name = binding["metadata"].get("name", "")
    kind = call.api.registry.by_gvr(PODS)
    assert kind is not None
    info = call.info._replace(resource="pods", name=name, subresource="binding")
    return await _bind(replace(call, kind=kind, info=info), binding)


async def _bind(call: Call, binding: Obj) -> One:
    name, meta = call.info.name, binding["metadata"]
    target = binding.get("target") or {}
    causes = []
    if target.get("kind") not in (None, "", "Node"):
        causes.append(errors.not_supported("target.kind", target["kind"], ["Node", "<empty>"]))
    if not target.get("name"):
        causes.append(errors.required("target.name"))
    if meta.get("name") and meta["name"] != name:
        raise errors.bad_request(f"name in URL does not match name in Binding object: {name} != {meta['name']}")
    if causes:
        raise errors.invalid("Binding", name, causes)
    await call.api.admission.admit_part(call, binding)
    node = target["name"]
    annotations, labels = annotations_of(binding) or {}, topology_labels(call.api, node)
    clears = call.api.registry.features.enabled("ClearingNominatedNodeNameAfterBinding")

    def make(old: CachedObject) -> Obj:
        pod = old.fresh()
        if meta.get("uid") and meta["uid"] != pod["metadata"]["uid"]:
            why = (
                f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {pod['metadata']['uid']}"
            )
            raise errors.conflict("pods/binding", name, why)
        if pod["metadata"].get("deletionTimestamp"):
            raise errors.conflict("pods/binding", name, f"pod {name} is being deleted, cannot be assigned to a host")
        spec = pod["spec"]
        if spec.get("nodeName"):
            why = f'pod {name} is already assigned to node "{spec["nodeName"]}"'
            raise errors.conflict("pods/binding", name, why)
        if spec.get("schedulingGates"):
            raise errors.conflict("pods/binding", name, f"pod {name} has non-empty .spec.schedulingGates")
        spec["nodeName"] = node
        if annotations:
            pod["metadata"]["annotations"] = {**annotations_of(pod), **annotations}
        if labels:
            pod["metadata"]["labels"] = {**labels_of(pod), **labels}
        _set_condition(pod, "PodScheduled")
        if clears:  # it has come to a node, whichever it was nominated to
            pod["status"].pop("nominatedNodeName", None)
        return pod

    await _change_pod(call, make)
    return One({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)


def _set_condition(pod: Obj, kind: str, **why: str) -> None:
    status = pod.setdefault("status", {})
    others = [condition for condition in status.get("conditions") or () if condition.get("type") != kind]
    now = format_time(utc_now())
    status["conditions"] = [
        *others,
        {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": now, **why},
    ]


async def _change_pod(call: Call, make: updating.Make) -> CachedObject:
    """Write what `make` makes of the pod, past the rules for authors: a pod's node is not theirs to set."""
    from pinnace.apiserver.storage import RETRIES
    from pinnace.store.contract import RevisionConflict

    for _ in range(RETRIES):
        stored = call.current()
        new = make(stored)
        if call.dry_run:
            return stored
        try:
            return await call.api.storage.replace(call.cache, stored, new)
        except RevisionConflict:
            continue
    raise errors.modified("pods", call.info.name)


async def evict(call: Call) -> One:
    """POST to pods/eviction: delete the pod as its author asked, with its grace."""
    eviction = read_object(call, EVICTION)
    name = eviction["metadata"].get("name")
    if name and name != call.info.name:
        raise errors.bad_request(f"name in URL does not match name in Eviction object: {call.info.name} != {name}")
    await call.api.admission.admit_part(call, eviction)
    asked = eviction.get("deleteOptions") or {}
    preconditions = asked.get("preconditions") or {}
    options = deletion.Options(
        grace=asked.get("gracePeriodSeconds"),
        policy=asked.get("propagationPolicy") or "",
        uid=preconditions.get("uid") or "",
        revision=preconditions.get("resourceVersion") or "",
        dry_run=bool(asked.get("dryRun")) or call.dry_run,
    )
    if not options.dry_run:
        await charge(call, call.current().obj())
        marked = await _mark_disrupted(call, options)
        options = replace(options, revision=str(marked.revision) if options.revision else "")
    await deletion.delete_object(call, call.key, options)
    return One({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)


async def _mark_disrupted(call: Call, options: deletion.Options) -> CachedObject:
    """Say in the pod's status, for who looks at it when it has ended, that it did not end by itself."""

    def make(old: CachedObject) -> Obj:
        deletion.check_preconditions(call, old, options)
        pod = old.fresh()
        _set_condition(pod, "DisruptionTarget", reason="EvictionByEvictionAPI", message="Eviction API: evicting")
        return pod

    return await _change_pod(call, make)


def restrict_ephemeral_containers(new: Obj, old: Obj) -> Obj:
    """A write to pods/ephemeralcontainers changes those alone."""
    kept: Obj = own(old)
    kept["metadata"]["resourceVersion"] = new["metadata"].get("resourceVersion", "")
    added = (new.get("spec") or {}).get("ephemeralContainers")
    if added:
        kept["spec"]["ephemeralContainers"] = added
    return kept


def restrict_resize(new: Obj, old: Obj) -> Obj:
    """A write to pods/resize changes resources alone. Containers that were renamed or moved are left to be refused."""
    kept: Obj = own(old)
    kept["metadata"]["resourceVersion"] = new["metadata"].get("resourceVersion", "")
    spec = new.get("spec") or {}
    if "resources" in spec:
        kept["spec"]["resources"] = spec["resources"]
    for part in ("containers", "initContainers"):
        wanted, there = spec.get(part) or [], kept["spec"].get(part) or []
        if [one.get("name") for one in wanted] != [one["name"] for one in there]:
            kept["spec"][part] = wanted
            continue
        for source, container in zip(wanted, there, strict=True):
            for field in ("resources", "resizePolicy"):
                if field in source:
                    container[field] = source[field]
    return kept


async def update_part(call: Call, restrict: updating.Restrict) -> One:
    """PUT of a part of an object, as `restrict` cuts it."""
    obj = read_object(call, call.kind.gvk, "UpdateOptions")
    updating.check_address(call, obj)
    pinned = bool(obj["metadata"].get("resourceVersion"))
    return await updating.modify(call, lambda _: own(obj), restrict, pinned=pinned)
