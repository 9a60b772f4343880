"""/scale: the replicas of a workload, shown and set the same way for every kind that has them.

https://kubernetes.io/docs/reference/kubernetes-api/autoscaling-resources/scale-v1/
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from pinnace.apis.fields import AGE, NAME, age, column, name
from pinnace.apis.kind import Kind, ScalePaths
from pinnace.apiserver.cache import CachedObject
from pinnace.apiserver.call import Call, One, shown
from pinnace.apiserver.decode import decode, field_validation, own, read_object
from pinnace.apiserver.handlers.update import check_address, modify, read_patch, unrestricted
from pinnace.machinery import errors
from pinnace.machinery.meta import GVK, Obj, get_in
from pinnace.machinery.selectors import LabelSelector

SCALE = GVK("autoscaling", "v1", "Scale")


def _row(scale: Obj, now: datetime) -> list[Any]:
    return [name(scale), scale["spec"]["replicas"], scale["status"]["replicas"], age(scale, now)]


_KIND = Kind(
    group=SCALE.group,
    version=SCALE.version,
    kind=SCALE.kind,
    plural="scales",
    singular="scale",
    columns=(NAME, column("Desired", "integer"), column("Available", "integer"), AGE),
    row=_row,
)


def get(call: Call) -> One:
    return answer(call, call.current())


def answer(call: Call, obj: CachedObject | Obj) -> One:
    """The scale of an object."""
    return One(scale_of(call, shown(call.kind, obj)), kind=_KIND)


async def update(call: Call) -> One:
    scale = read_object(call, SCALE, "UpdateOptions")
    check_address(call, scale)
    return await _set(call, lambda _: scale, bool(scale["metadata"].get("resourceVersion")))


async def patch(call: Call) -> One:
    as_scale = replace(call.kind, group=SCALE.group, version=SCALE.version, kind=SCALE.kind)
    apply, pinned = read_patch(replace(call, kind=as_scale))
    mode = field_validation(call, "PatchOptions")

    def change(scale: Obj) -> Obj:
        patched = decode(call, apply(scale), SCALE, mode, [])
        check_address(call, patched)
        return patched

    return await _set(call, change, pinned)


async def _set(call: Call, change: Any, pinned: bool) -> One:
    """Give the object the replicas that `change` makes of its scale."""

    def make(old: CachedObject) -> Obj:
        scale = change(scale_of(call, shown(call.kind, old)))
        wanted = get_in(scale, "spec", "replicas", default=0)
        check_replicas(call, wanted)
        new: Obj = own(shown(call.kind, old))
        meta = scale["metadata"]
        if meta.get("resourceVersion"):
            new["metadata"]["resourceVersion"] = meta["resourceVersion"]
        set_replicas(call, new, wanted)
        return new

    done = await modify(call, make, unrestricted, pinned=pinned)
    return answer(call, done.obj)


def set_replicas(call: Call, obj: Obj, wanted: int) -> None:
    """Write the replicas where the kind keeps them, in place."""
    place: Any = obj
    *parents, last = _paths(call).spec_replicas.split(".")
    for step in parents:
        place = place.setdefault(step, {})
    place[last] = wanted


def check_replicas(call: Call, wanted: int) -> None:
    """Raise 422 for fewer replicas than none."""
    if wanted < 0:
        cause = errors.invalid_value("spec.replicas", wanted, "must be greater than or equal to 0")
        raise errors.invalid("Scale", call.info.name, [cause], "autoscaling")


def _paths(call: Call) -> ScalePaths:
    if call.kind.scale is None:
        raise errors.no_such_path()
    return call.kind.scale


def scale_of(call: Call, obj: Obj) -> Obj:
    """The Scale of an object."""
    paths = _paths(call)
    meta = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Obj = {"replicas": get_in(obj, *paths.status_replicas.split("."), default=0)}
    if call.kind.custom and get_in(obj, *paths.spec_replicas.split(".")) is None:
        raise errors.internal(f'the spec replicas field ".{paths.spec_replicas}" does not exist')
    selector = get_in(obj, *paths.selector.split(".")) if paths.selector else None
    if isinstance(selector, str) and selector:  # how custom resources write it
        status["selector"] = selector
    elif selector:
        structured = "matchLabels" in selector or "matchExpressions" in selector
        parsed = LabelSelector.from_json(selector) if structured else LabelSelector.from_labels(selector)
        status["selector"] = str(parsed)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {field: meta[field] for field in kept if field in meta},
        "spec": {"replicas": get_in(obj, *paths.spec_replicas.split("."), default=0)},
        "status": status,
    }
