"""Horizontal pod autoscalers, kept as `autoscaling/v2` and also shown as `autoscaling/v1`.

Specified in https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import amount, every, one_of, optional_one_of
from pinnace.apis.fields import AGE, NAME, UNKNOWN, UNSET, age, column, name, spec_of, status_of
from pinnace.apis.kind import Rules
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value, required
from pinnace.machinery.meta import Obj
from pinnace.machinery.selectors import label_selector_errors

_TARGET_CPU = "targetCPUUtilizationPercentage"
_LONGEST_WINDOW = 3600
_LONGEST_PERIOD = 1800
_TARGETS = ("AverageValue", "Utilization", "Value")
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


def prepare(autoscaler: Obj, old: Obj | None) -> None:
    """A new one's status has what its version never leaves out."""
    if old is None:
        is_v1 = autoscaler.get("apiVersion") == "autoscaling/v1"
        rest: Obj = {"currentReplicas": 0} if is_v1 else {"currentMetrics": None}
        autoscaler["status"] = {"desiredReplicas": 0, **rest}


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
    return _validate(autoscaler, 1)


def validate_down_to_zero(autoscaler: Obj) -> list[Cause]:
    """Where there may be no pod at all, something else than pods must tell when to have some again."""
    errors = _validate(autoscaler, 0)
    spec = spec_of(autoscaler)
    kinds = {metric.get("type") for metric in spec.get("metrics") or ()}
    if spec.get("minReplicas") == 0 and not kinds & {"Object", "External"}:
        why = "must specify at least one Object or External metric to support scaling to zero replicas"
        errors.append(field_forbidden("spec.metrics", why))
    return errors


def _validate(autoscaler: Obj, lowest: int) -> list[Cause]:
    spec = spec_of(autoscaler)
    errors: list[Cause] = []
    least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    if least is not None and least < lowest:
        errors.append(invalid_value("spec.minReplicas", least, f"must be greater than or equal to {lowest}"))
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
    for direction, rules in (spec.get("behavior") or {}).items():
        if rules is not None:
            errors += _behavior(rules, f"spec.behavior.{direction}")
    return errors


def _behavior(rules: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    window, select = rules.get("stabilizationWindowSeconds"), rules.get("selectPolicy")
    if window is not None:
        at = f"{path}.stabilizationWindowSeconds"
        if window < 0:
            errors.append(invalid_value(at, window, "must be greater than or equal to zero"))
        if window > _LONGEST_WINDOW:
            errors.append(invalid_value(at, window, f"must be less than or equal to {_LONGEST_WINDOW}"))
    errors += optional_one_of(f"{path}.selectPolicy", select, ("Disabled", "Max", "Min"))
    if not rules.get("policies"):
        errors.append(required(f"{path}.policies", "must specify at least one Policy"))
    for index, policy in enumerate(rules.get("policies") or ()):
        at = f"{path}.policies[{index}]"
        errors += one_of(f"{at}.type", policy.get("type"), ("Percent", "Pods"))
        if (policy.get("value") or 0) <= 0:
            errors.append(invalid_value(f"{at}.value", policy.get("value") or 0, "must be greater than zero"))
        period = policy.get("periodSeconds") or 0
        if period <= 0:
            errors.append(invalid_value(f"{at}.periodSeconds", period, "must be greater than zero"))
        if period > _LONGEST_PERIOD:
            why = f"must be less than or equal to {_LONGEST_PERIOD}"
            errors.append(invalid_value(f"{at}.periodSeconds", period, why))
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
    where = f"{path}.{_SOURCES[kind]}"
    errors = _described(source, kind, where)
    return errors + _target(source.get("target") or {}, kind, f"{where}.target")


def _described(source: Obj, kind: str, path: str) -> list[Cause]:
    """What is measured."""
    if kind == "ContainerResource" and not source.get("container"):
        return [required(f"{path}.container", "must specify a container")]
    if kind in ("ContainerResource", "Resource"):
        return [] if source.get("name") else [required(f"{path}.name", "must specify a resource name")]
    errors: list[Cause] = []
    if kind == "Object":
        about = source.get("describedObject") or {}
        errors += [required(f"{path}.describedObject.{key}") for key in ("kind", "name") if not about.get(key)]
    metric = source.get("metric") or {}
    if not metric.get("name"):
        errors.append(required(f"{path}.metric.name", "must specify a metric name"))
    return errors + label_selector_errors(metric.get("selector"), f"{path}.metric.selector")


def _target(target: Obj, kind: str, path: str) -> list[Cause]:
    """How much of it there should be: of several ways to say so, the ones that the source knows."""
    if not target.get("type"):
        return [required(f"{path}.type", "must specify a metric target type")]
    if target["type"] not in _TARGETS:
        allowed = "must be either Utilization, Value, or AverageValue"
        return [invalid_value(f"{path}.type", target["type"], allowed)]
    errors: list[Cause] = []
    use, each, whole = (target.get(key) for key in ("averageUtilization", "averageValue", "value"))
    for key, value in (("value", whole), ("averageValue", each)):
        quantity = amount(value) if value is not None else None
        if quantity is not None and quantity.amount <= 0:
            errors.append(invalid_value(f"{path}.{key}", str(quantity), "must be positive"))
    if use is not None and use < 1:
        errors.append(invalid_value(f"{path}.averageUtilization", use, "must be greater than 0"))
    if kind in ("ContainerResource", "Resource"):
        if use is None and each is None:
            why = "must set either a target raw value or a target utilization"
            errors.append(required(f"{path}.averageUtilization", why))
        if use is not None and each is not None:
            why = "may not set both a target raw value and a target utilization"
            errors.append(field_forbidden(f"{path}.averageValue", why))
    elif kind == "Pods":
        if each is None:
            errors.append(required(f"{path}.averageValue", "must specify a positive target averageValue"))
    elif each is None and whole is None:
        why = "must set either a target value for metric or a per-pod target"
        errors.append(required(f"{path}.averageValue", why))
    elif kind == "External" and each is not None and whole is not None:
        why = "may not set both a target value for metric and a per-pod target"
        errors.append(field_forbidden(f"{path}.value", why))
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
    validate_with={"HPAScaleToZero": validate_down_to_zero},
    prepare=prepare,
)
