"""What a write to `pods/resize` may change: CPU and memory of containers and sidecars, and of the pod as a whole.

Specified by https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/ (KEP-1287), for the
pod's own resources by KEP-5419.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pinnace.apis.core.pod_spec import validate_pod_spec
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value
from pinnace.machinery.meta import Obj, annotations_of

RESIZABLE = ("cpu", "memory")
_MIRROR = "kubernetes.io/config.mirror"
_KINDS = ("initContainers", "containers")


def validate_resize(pod: Obj, old: Obj, qos_class: Callable[[Obj], str]) -> list[Cause]:
    """The rules for a write to `pods/resize`; `qos_class` tells a spec's quality of service, which must stay."""
    if _MIRROR in annotations_of(old):
        return [field_forbidden("", "static pods cannot be resized")]
    if (old["spec"].get("os") or {}).get("name") == "windows":
        return [field_forbidden("", "windows pods cannot be resized")]
    spec, before = pod["spec"], old["spec"]
    errors = validate_pod_spec(spec)
    present = (old.get("status") or {}).get("qosClass") or qos_class(before)
    if qos_class(spec) != present:
        errors.append(invalid_value("spec", present, "Pod QOS Class may not change as a result of resizing"))
    reordered = [kind for kind in _KINDS if _names(spec, kind) != _names(before, kind)]
    if reordered:
        why = "may not be renamed or reordered on resize"
        return [*errors, *(field_forbidden("spec", f"{kind} {why}") for kind in reordered)]
    errors += _removed(spec, before)
    errors += _fixed_inits(spec, before)
    if not errors and _rest(spec) != _rest(before):
        errors.append(field_forbidden("spec", "only cpu and memory resources are mutable"))
    return errors


def _names(spec: Obj, kind: str) -> list[Any]:
    return [container.get("name") for container in spec.get(kind) or ()]


def _is_sidecar(container: Obj) -> bool:
    return bool(container.get("restartPolicy") == "Always")


def _pairs(spec: Obj, before: Obj) -> Iterator[tuple[str, Obj, Obj]]:
    """The path, the new and the old form of everything that has resources."""
    yield "spec", spec, before
    for kind in _KINDS:
        for index, container in enumerate(spec.get(kind) or ()):
            yield f"spec.{kind}[{index}]", container, before[kind][index]


def _removed(spec: Obj, before: Obj) -> list[Cause]:
    errors = []
    for path, new, old in _pairs(spec, before):
        for part in ("requests", "limits"):
            left = (new.get("resources") or {}).get(part) or {}
            there = (old.get("resources") or {}).get(part) or {}
            if any(name in there and name not in left for name in RESIZABLE):
                errors.append(field_forbidden(f"{path}.resources.{part}", f"resource {part} cannot be removed"))
    return errors


def _fixed_inits(spec: Obj, before: Obj) -> list[Cause]:
    return [
        field_forbidden(
            f"spec.initContainers[{index}].resources", "resources for non-sidecar init containers are immutable"
        )
        for index, (new, old) in enumerate(
            zip(spec.get("initContainers") or (), before.get("initContainers") or (), strict=True)
        )
        if not _is_sidecar(old) and (new.get("resources") or {}) != (old.get("resources") or {})
    ]


def _rest(spec: Obj) -> Obj:
    """A spec without what a resize may change."""
    bare = {kind: [_without_resizable(container) for container in spec.get(kind) or ()] for kind in _KINDS}
    return {**_without_resizable(spec), **bare}


def _without_resizable(owner: Obj) -> Obj:
    resources = owner.get("resources") or {}
    kept: Obj = {key: value for key, value in resources.items() if key not in ("requests", "limits") and value}
    for part in ("requests", "limits"):
        fixed = {name: value for name, value in (resources.get(part) or {}).items() if name not in RESIZABLE}
        if fixed:
            kept[part] = fixed
    return {**owner, "resources": kept}
