"""Nodes: the machines that pods run on.

Specified in https://kubernetes.io/docs/concepts/architecture/nodes/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import every, one_of
from pinnace.apis.core.affinity import EFFECTS
from pinnace.apis.fields import AGE, NAME, NONE, UNKNOWN, age, column, name, spec_of, status_of, text_at, wide
from pinnace.apis.kind import Rules
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, duplicate, field_forbidden, invalid_value
from pinnace.machinery.meta import Obj, labels_of

_ROLE_PREFIX = "node-role.kubernetes.io/"
_ROLE_LABEL = "kubernetes.io/role"


def default(node: Obj) -> None:
    """What is not reserved may be allocated: all there is, unless the node says less."""
    status = node.get("status")
    if status and status.get("capacity") and not status.get("allocatable"):
        status["allocatable"] = dict(status["capacity"])
    spec = node.get("spec")
    if spec:
        if spec.get("podCIDR") and not spec.get("podCIDRs"):
            spec["podCIDRs"] = [spec["podCIDR"]]
        elif spec.get("podCIDRs") and not spec.get("podCIDR"):
            spec["podCIDR"] = spec["podCIDRs"][0]


def validate(node: Obj) -> list[Cause]:
    spec = spec_of(node)
    errors = validate_taints(spec.get("taints") or [], "spec.taints")
    for index, cidr in enumerate(spec.get("podCIDRs") or ()):
        errors += every(f"spec.podCIDRs[{index}]", cidr, names.is_cidr(cidr))
    cidrs = spec.get("podCIDRs") or []
    if not errors and len({":" in cidr for cidr in cidrs}) < len(cidrs):
        why = "may specify no more than one CIDR for each IP family"
        errors.append(invalid_value("spec.podCIDRs", cidrs, why))
    return errors


def validate_taints(taints: list[Obj], path: str) -> list[Cause]:
    errors: list[Cause] = []
    seen = set()
    for index, taint in enumerate(taints):
        at = f"{path}[{index}]"
        key, effect, value = taint.get("key") or "", taint.get("effect") or "", taint.get("value") or ""
        errors += every(f"{at}.key", key, names.is_qualified_name(key))
        errors += every(f"{at}.value", value, names.is_label_value(value))
        errors += one_of(f"{at}.effect", effect, EFFECTS)
        if (key, effect) in seen:
            again = duplicate(at, taint)
            errors.append(Cause(again.reason, f"{again.message}: taints must be unique by key and effect pair", at))
        seen.add((key, effect))
    return errors


def validate_update(new: Obj, old: Obj) -> list[Cause]:
    spec, before = spec_of(new), spec_of(old)
    errors: list[Cause] = []
    if before.get("podCIDRs") and spec.get("podCIDRs") != before["podCIDRs"]:
        why = 'node updates may not change podCIDR except from "" to valid'
        errors.append(field_forbidden("spec.podCIDRs", why))
    if before.get("providerID") and spec.get("providerID") != before["providerID"]:
        why = 'node updates may not change providerID except from "" to valid'
        errors.append(field_forbidden("spec.providerID", why))
    return errors


def row(node: Obj, now: datetime) -> list[Any]:
    status = status_of(node)
    info = status.get("nodeInfo") or {}
    return [
        name(node),
        _status(node),
        ",".join(roles(node)) or NONE,
        age(node, now),
        info.get("kubeletVersion") or "",
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _status(node: Obj) -> str:
    ready = [one for one in status_of(node).get("conditions") or () if one.get("type") == "Ready"]
    word = "Unknown" if not ready else "Ready" if ready[0].get("status") == "True" else "NotReady"
    return f"{word},SchedulingDisabled" if spec_of(node).get("unschedulable") else word


def roles(node: Obj) -> list[str]:
    """The roles that labels give a node, sorted."""
    found = set()
    for key, value in labels_of(node).items():
        if key.startswith(_ROLE_PREFIX) and len(key) > len(_ROLE_PREFIX):
            found.add(key.removeprefix(_ROLE_PREFIX))
        elif key == _ROLE_LABEL and value:
            found.add(value)
    return sorted(found)


def _address(status: Obj, kind: str) -> str:
    return next((one["address"] for one in status.get("addresses") or () if one.get("type") == kind), NONE)


NODE = Rules(
    columns=(
        NAME,
        column("Status"),
        column("Roles"),
        AGE,
        column("Version"),
        wide("Internal-IP"),
        wide("External-IP"),
        wide("OS-Image"),
        wide("Kernel-Version"),
        wide("Container-Runtime"),
    ),
    row=row,
    default=default,
    validate=validate,
    validate_update=validate_update,
    selectable_fields={"spec.unschedulable": text_at("spec.unschedulable", "false")},
)
