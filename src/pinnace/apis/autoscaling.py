"""Horizontal pod autoscalers, kept as `autoscaling/v2` and also shown as `autoscaling/v1`.

Specified in https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import every, one_of
from pinnace.apis.fields import AGE, NAME, UNKNOWN, UNSET, age, column, name, spec_of, status_of
from pinnace.apis.kind import Rules
from pinnace.apis.workload import forget_status
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, invalid_value, required
from pinnace.machinery.meta import Obj

_TARGET_CPU = "targetCPUUtilizationPercentage"
_CURRENT_CPU = "currentCPUUtilizationPercentage"


def _cpu(target: Obj) -> Obj:
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def _is_cpu(metric: Obj) -> bool:
    resource = metric.get("resource") or {}
    return metric.get("type") == "Resource" and resource.get("name") == "cpu"


def default(autoscaler: Obj) -> None:
    """A minimum of one replica, and CPU at 80 % where there are no metrics."""
    spec = autoscaler.setdefault("spec", {})
    if spec.get("minReplicas") is None:
        spec["minReplicas"] = 1
    if autoscaler.get("apiVersion") == "autoscaling/v1":
        return
    if not spec.get("metrics"):
        spec["metrics"] = [_cpu({"type": "Utilization", "averageUtilization": 80})]
    behavior = spec.get("behavior")
    if behavior:
        _default_policies(behavior, "scaleUp", [("Pods", 4), ("Percent", 100)], 0)
        _default_policies(behavior, "scaleDown", [("Percent", 100)], None)


def _default_policies(behavior: Obj, key: str, policies: list[tuple[str, int]], window: int | None) -> None:
    rules = behavior.setdefault(key, {})
    if rules.get("stabilizationWindowSeconds") is None and window is not None:
        rules["stabilizationWindowSeconds"] = window
    if not rules.get("selectPolicy"):
        rules["selectPolicy"] = "Max"
    if not rules.get("policies"):
        rules["policies"] = [{"type": kind, "value": value, "periodSeconds": 15} for kind, value in policies]


def v1_to_v2(old: Obj) -> Obj:
    """`autoscaling/v1` knows only one metric: CPU use in per cent of what is requested."""
    spec = {key: value for key, value in spec_of(old).items() if key != _TARGET_CPU}
    target = spec_of(old).get(_TARGET_CPU)
    metrics = [_cpu({"type": "Utilization", "averageUtilization": target})] if target is not None else []
    result = {**old, "apiVersion": "autoscaling/v2", "spec": {**spec, "metrics": metrics}}
    status = status_of(old)
    if status:
        kept = {key: value for key, value in status.items() if key != _CURRENT_CPU}
        if status.get(_CURRENT_CPU) is not None:
            current = {"name": "cpu", "current": {"averageUtilization": status[_CURRENT_CPU]}}
            kept["currentMetrics"] = [{"type": "Resource", "resource": current}]
        result["status"] = kept
    default(result)
    return result


def v2_to_v1(new: Obj) -> Obj:
    spec = {key: value for key, value in spec_of(new).items() if key not in ("metrics", "behavior")}
    for metric in spec_of(new).get("metrics") or ():
        target = (metric.get("resource") or {}).get("target") or {}
        if _is_cpu(metric) and target.get("averageUtilization") is not None:
            spec[_TARGET_CPU] = target["averageUtilization"]
    status = {key: value for key, value in status_of(new).items() if key not in ("currentMetrics", "conditions")}
    status.setdefault("currentReplicas", 0)
    status.setdefault("desiredReplicas", 0)
    for metric in status_of(new).get("currentMetrics") or ():
        current = (metric.get("resource") or {}).get("current") or {}
        if _is_cpu(metric) and current.get("averageUtilization") is not None:
            status[_CURRENT_CPU] = current["averageUtilization"]
    return {**new, "apiVersion": "autoscaling/v1", "spec": spec, "status": status}


def validate(autoscaler: Obj) -> list[Cause]:
    spec = spec_of(autoscaler)
    errors: list[Cause] = []
    least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    if least is not None and least < 1:
        errors.append(invalid_value("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        errors.append(invalid_value("spec.maxReplicas", most, "must be greater than 0"))
    if least is not None and most < least:
        why = "must be greater than or equal to `minReplicas`"
        errors.append(invalid_value("spec.maxReplicas", most, why))
    reference = spec.get("scaleTargetRef") or {}
    for key in ("kind", "name"):
        path = f"spec.scaleTargetRef.{key}"
        value = reference.get(key)
        errors += every(path, value, names.is_path_segment(value)) if value else [required(path)]
    for index, metric in enumerate(spec.get("metrics") or ()):
        errors += _metric(metric, f"spec.metrics[{index}]")
    return errors


_SOURCES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}


def _metric(metric: Obj, path: str) -> list[Cause]:
    kind = metric.get("type")
    if not kind:
        return [required(f"{path}.type", "must specify a metric source type")]
    if bad := one_of(f"{path}.type", kind, _SOURCES):
        return bad
    source = metric.get(_SOURCES[kind])
    if source is None:
        why = "must populate information for the given metric source"
        return [required(f"{path}.{_SOURCES[kind]}", why)]
    target = source.get("target") or {}
    where = f"{path}.{_SOURCES[kind]}.target"
    errors = one_of(f"{where}.type", target.get("type"), ("AverageValue", "Utilization", "Value"))
    use = target.get("averageUtilization")
    if use is not None and use < 1:
        errors.append(invalid_value(f"{where}.averageUtilization", use, "must be greater than 0"))
    return errors


def row(autoscaler: Obj, now: datetime) -> list[Any]:
    spec, status = spec_of(autoscaler), status_of(autoscaler)
    reference = spec.get("scaleTargetRef") or {}
    least = spec.get("minReplicas")
    return [
        name(autoscaler),
        f"{reference.get('kind')}/{reference.get('name')}",
        _metrics(spec, status),
        UNSET if least is None else str(least),
        spec.get("maxReplicas") or 0,
        status.get("currentReplicas") or 0,
        age(autoscaler, now),
    ]


def _metrics(spec: Obj, status: Obj) -> str:
    if spec.get(_TARGET_CPU) is not None:
        current = status.get(_CURRENT_CPU)
        return f"cpu: {UNKNOWN if current is None else f'{current}%'}/{spec[_TARGET_CPU]}%"
    metrics, current = spec.get("metrics") or [], status.get("currentMetrics") or []
    if not metrics:
        return "<none>"
    shown = [_one(metric, current[index] if index < len(current) else {}) for index, metric in enumerate(metrics)]
    text = ", ".join(shown[:2])
    return f"{text} + {len(shown) - 2} more..." if len(shown) > 2 else text


def _one(metric: Obj, measured: Obj) -> str:
    """`cpu: 20%/80%`, or the values alone for metrics that are not resources."""
    key = _SOURCES.get(str(metric.get("type")), "")
    source, now = metric.get(key) or {}, (measured.get(key) or {}).get("current") or {}
    target = source.get("target") or {}
    prefix = f"{source.get('name')}: " if key in ("resource", "containerResource") else ""
    if target.get("averageValue") is not None:
        suffix = "" if prefix or key == "pods" else " (avg)"
        return f"{prefix}{now.get('averageValue', UNKNOWN)}/{target['averageValue']}{suffix}"
    if target.get("value") is not None:
        return f"{prefix}{now.get('value', UNKNOWN)}/{target['value']}"
    use = now.get("averageUtilization")
    wanted = target.get("averageUtilization")
    return f"{prefix}{UNKNOWN if use is None else f'{use}%'}/{'<auto>' if wanted is None else f'{wanted}%'}"


HORIZONTAL_POD_AUTOSCALER = Rules(
    columns=(
        NAME,
        column("Reference"),
        column("Targets"),
        column("MinPods"),
        column("MaxPods"),
        column("Replicas"),
        AGE,
    ),
    row=row,
    default=default,
    validate=validate,
    prepare=forget_status,
)
