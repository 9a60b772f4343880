"""Pods: their quality of service, what an update may change, and what selectors see.

Defaults are in `pod_defaults`, what a spec must be in `pod_spec`, columns in `pod_columns`. Update rules are specified
in https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from pinnace.apis.checks import amount
from pinnace.apis.core import pod_columns, pod_resize
from pinnace.apis.core.app_armor import take_up_app_armor
from pinnace.apis.core.pod_defaults import default_pod
from pinnace.apis.core.pod_spec import validate_pod_spec
from pinnace.apis.fields import selectable, text_at
from pinnace.apis.kind import Rules
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value
from pinnace.machinery.meta import Obj

_FIXED_SPEC = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_GATED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "SchedulingGated",
    "message": "Scheduling is blocked due to non-empty scheduling gates",
    "lastProbeTime": None,
    "lastTransitionTime": None,
}


def prepare(pod: Obj, old: Obj | None) -> None:
    """A new pod begins as Pending, whatever its author wrote; its quality of service never changes."""
    if old is None:
        if pod["metadata"].get("annotations"):
            take_up_app_armor(pod)
        pod["status"] = {"phase": "Pending", "qosClass": qos_class(pod["spec"])}
        if pod["spec"].get("schedulingGates"):
            pod["status"]["conditions"] = [dict(_GATED)]


_ZERO = Decimal(0)
_QOS_RESOURCES = ("cpu", "memory")


def qos_class(spec: Obj) -> str:
    """`Guaranteed`, `Burstable` or `BestEffort`, by the requests and limits for CPU and memory."""
    if spec.get("resources"):
        parts: list[Obj] = [spec["resources"]]
    else:
        containers = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
        parts = [container.get("resources") or {} for container in containers]
    if not any(parts):
        return "BestEffort"
    guaranteed, asked = True, False
    for part in parts:
        limits, requests = part.get("limits") or {}, part.get("requests") or {}
        for name in _QOS_RESOURCES:
            limit, request = _positive(limits.get(name)), _positive(requests.get(name))
            asked = asked or limit is not None or request is not None
            guaranteed = guaranteed and limit is not None and request == limit
    if not asked:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _positive(text: Any) -> Decimal | None:
    quantity = amount(text) if text is not None else None
    return quantity.amount if quantity is not None and quantity.amount > _ZERO else None


def validate(pod: Obj) -> list[Cause]:
    return validate_pod_spec(pod.get("spec") or {})


def validate_update(pod: Obj, old: Obj) -> list[Cause]:
    spec, before = pod["spec"], old["spec"]
    if spec == before:
        return []
    errors: list[Cause] = []
    for kind in ("containers", "initContainers"):
        if len(spec.get(kind) or ()) != len(before.get(kind) or ()):
            return [field_forbidden(f"spec.{kind}", "pod updates may not add or remove containers")]
    errors += _deadline(spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds"))
    errors += _tolerations(spec.get("tolerations") or [], before.get("tolerations") or [])
    errors += _gates(spec.get("schedulingGates") or [], before.get("schedulingGates") or [])
    if _fixed_part(spec, before) != _fixed_part(before, before):
        errors.append(field_forbidden("spec", f"{_FIXED_SPEC}\n{_difference(spec, before)}"))
    return errors


def _deadline(new: int | None, old: int | None) -> list[Cause]:
    path = "spec.activeDeadlineSeconds"
    if new is not None and old is not None and new > old:
        return [invalid_value(path, new, f"must be less than or equal to previous value `{old}`")]
    if new is None and old is not None:
        return [invalid_value(path, None, "must not update from a positive integer to nil value")]
    return []


def _tolerations(new: list[Obj], old: list[Obj]) -> list[Cause]:
    """Each that was there must still be, but for its seconds."""

    def bare(tolerations: Iterable[Obj]) -> list[Obj]:
        return [{key: value for key, value in one.items() if key != "tolerationSeconds"} for one in tolerations]

    kept = bare(new)
    if all(toleration in kept for toleration in bare(old)):
        return []
    why = "existing toleration can not be modified except its tolerationSeconds"
    return [field_forbidden("spec.tolerations", why)]


def _gates(new: list[Obj], old: list[Obj]) -> list[Cause]:
    before = {gate.get("name") for gate in old}
    return [
        field_forbidden(
            f"spec.schedulingGates[{index}].name",
            f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'",
        )
        for index, gate in enumerate(new)
        if gate.get("name") not in before
    ]


def _fixed_part(spec: Obj, before: Obj) -> Obj:
    """A spec without what an update may change."""
    fixed = {
        key: value
        for key, value in spec.items()
        if key not in ("activeDeadlineSeconds", "tolerations", "schedulingGates", "ephemeralContainers")
    }
    for kind in ("containers", "initContainers"):
        if fixed.get(kind):
            fixed[kind] = [{key: value for key, value in one.items() if key != "image"} for one in fixed[kind]]
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and spec.get("terminationGracePeriodSeconds") == 1:
        fixed["terminationGracePeriodSeconds"] = before["terminationGracePeriodSeconds"]
    if before.get("schedulingGates"):  # a pod that waits may still be bound to narrower choices
        old_selector = before.get("nodeSelector") or {}
        if old_selector.items() <= (spec.get("nodeSelector") or {}).items():
            fixed["nodeSelector"] = old_selector
        if not ((before.get("affinity") or {}).get("nodeAffinity")):
            affinity = {key: value for key, value in (spec.get("affinity") or {}).items() if key != "nodeAffinity"}
            fixed["affinity"] = affinity
    return {key: value for key, value in fixed.items() if value not in (None, {}, [])}


def _difference(spec: Obj, before: Obj) -> str:
    """The top fields that differ, old above new; values are cut short, for they may be long."""
    new, old = _fixed_part(spec, before), _fixed_part(before, before)
    lines = []
    for key in sorted({*new, *old}):
        if new.get(key) != old.get(key):
            lines += [f"- {key}: {str(old.get(key))[:200]}", f"+ {key}: {str(new.get(key))[:200]}"]
    return "\n".join(lines)


def validate_ephemeral_update(pod: Obj, old: Obj) -> list[Cause]:
    """For `pods/ephemeralcontainers`: containers may be added, never changed or taken away."""
    errors = validate_pod_spec(pod["spec"])
    new = {container.get("name"): container for container in pod["spec"].get("ephemeralContainers") or ()}
    for index, container in enumerate(old["spec"].get("ephemeralContainers") or ()):
        name = container.get("name")
        if name not in new:
            errors.append(
                field_forbidden(
                    "spec.ephemeralContainers", f"existing ephemeral containers [{name}] may not be removed\n"
                )
            )
        elif new[name] != container:
            path = f"spec.ephemeralContainers[{index}]"
            errors.append(field_forbidden(path, f"existing ephemeral containers [{name}] may not be changed\n"))
    return errors


def validate_resize(pod: Obj, old: Obj) -> list[Cause]:
    """For `pods/resize`."""
    return pod_resize.validate_resize(pod, old, qos_class)


PART_RULES = {"ephemeralcontainers": validate_ephemeral_update, "resize": validate_resize}
"""By subresource: the rules for writes to a part of a pod, `(new, old)`."""


def validate_binding(binding: Obj) -> list[Cause]:
    """For `pods/binding` and `bindings`: a node, named."""
    target = binding.get("target") or {}
    errors: list[Cause] = []
    if target.get("kind") not in (None, "", "Node", "Minion"):
        errors.append(
            Cause(
                "FieldValueNotSupported",
                f'Unsupported value: "{target["kind"]}": supported values: "Node", "<empty>"',
                "target.kind",
            )
        )
    if not target.get("name"):
        errors.append(Cause("FieldValueRequired", "Required value", "target.name"))
    return errors


def _pod_ip(pod: Obj) -> str:
    status = pod.get("status") or {}
    ips = status.get("podIPs")
    return str(ips[0].get("ip") or "") if ips else str(status.get("podIP") or "")


_SELECTABLE = {
    **selectable(
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.nominatedNodeName",
    ),
    "spec.hostNetwork": text_at("spec.hostNetwork", "false"),
    "status.podIP": _pod_ip,
    "status.podIPs": _pod_ip,
}

POD = Rules(
    columns=pod_columns.COLUMNS,
    row=pod_columns.row,
    default=default_pod,
    validate=validate,
    validate_update=validate_update,
    prepare=prepare,
    selectable_fields=_SELECTABLE,
)
