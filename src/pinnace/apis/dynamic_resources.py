"""Devices: what classes of them there are, who claims them, and what nodes have of them.

Specified in https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pinnace.apis.checks import every, needed, one_of, unchanged
from pinnace.apis.fields import AGE, NAME, age, column, name, selectable, spec_of, status_of
from pinnace.apis.kind import Rules
from pinnace.apis.workload import forget_status
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, duplicate, invalid_value, required, too_many
from pinnace.machinery.meta import Obj

_MOST_REQUESTS = 32
_MOST_DEVICES = 128


def default_claim(claim: Obj) -> None:
    _default_requests(spec_of(claim))


def default_template(template: Obj) -> None:
    _default_requests(spec_of(spec_of(template)))


def _default_requests(spec: Obj) -> None:
    """A request is for one device, unless it says how many or all."""
    for request in (spec.get("devices") or {}).get("requests") or ():
        exact = request.get("exactly")
        for one in (*([exact] if exact is not None else ()), *(request.get("firstAvailable") or ())):
            if not one.get("allocationMode"):
                one["allocationMode"] = "ExactCount"
            if one["allocationMode"] == "ExactCount" and not one.get("count"):
                one["count"] = 1


def validate_claim(claim: Obj) -> list[Cause]:
    return _claim(spec_of(claim), "spec")


def validate_template(template: Obj) -> list[Cause]:
    return _claim(spec_of(spec_of(template)), "spec.spec")


def validate_claim_update(new: Obj, old: Obj) -> list[Cause]:
    return unchanged("spec", new.get("spec"), old.get("spec"))


def _claim(spec: Obj, path: str) -> list[Cause]:
    requests = (spec.get("devices") or {}).get("requests") or []
    path = f"{path}.devices.requests"
    if len(requests) > _MOST_REQUESTS:
        return [too_many(path, len(requests), _MOST_REQUESTS)]
    errors: list[Cause] = []
    for index, request in enumerate(requests):
        errors += _request(request, f"{path}[{index}]")
    return errors + _unique_names(requests, path)


def _request(request: Obj, path: str) -> list[Cause]:
    errors = _label(f"{path}.name", request.get("name") or "")
    exact, several = request.get("exactly"), request.get("firstAvailable") or []
    if exact is None and not several:
        return [*errors, required(path, "exactly one of `exactly` or `firstAvailable` is required")]
    if exact is not None and several:
        why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"
        return [*errors, invalid_value(path, "", why)]
    if exact is not None:
        errors += _wanted(exact, f"{path}.exactly")
    for index, one in enumerate(several):
        at = f"{path}.firstAvailable[{index}]"
        errors += _label(f"{at}.name", one.get("name") or "") + _wanted(one, at)
    return errors + _unique_names(several, f"{path}.firstAvailable")


def _wanted(request: Obj, path: str) -> list[Cause]:
    of_class = request.get("deviceClassName") or ""
    at = f"{path}.deviceClassName"
    errors = every(at, of_class, names.is_dns_subdomain(of_class)) if of_class else [required(at)]
    errors += _selectors(request.get("selectors") or (), f"{path}.selectors")
    mode, count = request.get("allocationMode"), request.get("count") or 0
    errors += one_of(f"{path}.allocationMode", mode, ("All", "ExactCount"))
    if mode == "ExactCount" and count <= 0:
        errors.append(invalid_value(f"{path}.count", count, "must be greater than zero"))
    if mode == "All" and count:
        why = "must not be specified when allocationMode is 'All'"
        errors.append(invalid_value(f"{path}.count", count, why))
    return errors


def _selectors(selectors: Iterable[Obj], path: str) -> list[Cause]:
    errors: list[Cause] = []
    for index, selector in enumerate(selectors):
        cel = selector.get("cel")
        if cel is None:
            errors.append(required(f"{path}[{index}].cel"))
        else:
            errors += needed(f"{path}[{index}].cel.expression", cel.get("expression"))
    return errors


def _label(field: str, value: str) -> list[Cause]:
    return every(field, value, names.is_dns_label(value)) if value else [required(field)]


def _unique_names(listed: Iterable[Obj], path: str) -> list[Cause]:
    errors: list[Cause] = []
    seen: set[str] = set()
    for index, one in enumerate(listed):
        given = one.get("name") or ""
        if given and given in seen:
            errors.append(duplicate(f"{path}[{index}].name", given))
        seen.add(given)
    return errors


def validate_class(device_class: Obj) -> list[Cause]:
    return _selectors(spec_of(device_class).get("selectors") or (), "spec.selectors")


_WHERE = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
_ONE_OF = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"


def validate_slice(resource_slice: Obj) -> list[Cause]:
    spec = spec_of(resource_slice)
    driver, pool = spec.get("driver") or "", spec.get("pool") or {}
    missing = [required("spec.driver")]
    errors = every("spec.driver", driver, names.is_dns_subdomain(driver.lower())) if driver else missing
    errors += needed("spec.pool.name", pool.get("name"))
    count, generation = pool.get("resourceSliceCount") or 0, pool.get("generation") or 0
    if count <= 0:
        errors.append(invalid_value("spec.pool.resourceSliceCount", count, "must be greater than zero"))
    if generation < 0:
        why = "must be greater than or equal to zero"
        errors.append(invalid_value("spec.pool.generation", generation, why))
    present = [key for key in _WHERE if spec.get(key)]
    if not present:
        errors.append(required("spec", _ONE_OF))
    if len(present) > 1:
        shown = "{" + ", ".join(f"`{key}`" for key in present) + "}"
        errors.append(invalid_value("spec", shown, f"{_ONE_OF}, but multiple fields are set"))
    devices = spec.get("devices") or []
    if len(devices) > _MOST_DEVICES:
        return [*errors, too_many("spec.devices", len(devices), _MOST_DEVICES)]
    for index, device in enumerate(devices):
        errors += _label(f"spec.devices[{index}].name", device.get("name") or "")
    return errors + _unique_names(devices, "spec.devices")


def validate_slice_update(new: Obj, old: Obj) -> list[Cause]:
    spec, before = spec_of(new), spec_of(old)
    pools = [(one.get("pool") or {}).get("name") for one in (spec, before)]
    errors = unchanged("spec.pool.name", *pools)
    for key in ("driver", "nodeName"):
        errors += unchanged(f"spec.{key}", spec.get(key), before.get(key))
    return errors


_EFFECTS = ("NoExecute", "NoSchedule", "None")


def validate_taint_rule(rule: Obj) -> list[Cause]:
    taint = spec_of(rule).get("taint") or {}
    key, value = taint.get("key") or "", taint.get("value") or ""
    errors = every("spec.taint.key", key, names.is_qualified_name(key))
    errors += every("spec.taint.value", value, names.is_label_value(value))
    return errors + one_of("spec.taint.effect", taint.get("effect"), _EFFECTS)


def row_claim(claim: Obj, now: datetime) -> list[Any]:
    """`pending`, or what was done with the claim so far."""
    status = status_of(claim)
    words = ["deleted"] if claim["metadata"].get("deletionTimestamp") else []
    if status.get("allocation") is None:
        words = words or ["pending"]
    else:
        words.append("allocated")
        if status.get("reservedFor"):
            words.append("reserved")
    return [name(claim), ",".join(words), age(claim, now)]


RESOURCE_CLAIM = Rules(
    columns=(NAME, column("State"), AGE),
    row=row_claim,
    default=default_claim,
    validate=validate_claim,
    validate_update=validate_claim_update,
    prepare=forget_status,
)
RESOURCE_CLAIM_TEMPLATE = Rules(
    default=default_template, validate=validate_template, validate_update=validate_claim_update
)
DEVICE_CLASS = Rules(validate=validate_class)
DEVICE_TAINT_RULE = Rules(validate=validate_taint_rule, prepare=forget_status)


def row_slice(resource_slice: Obj, now: datetime) -> list[Any]:
    spec = spec_of(resource_slice)
    node = spec.get("nodeName") or ("<all>" if spec.get("allNodes") else "<some>" if spec.get("nodeSelector") else "")
    pool = (spec.get("pool") or {}).get("name") or ""
    return [name(resource_slice), node, spec.get("driver") or "", pool, age(resource_slice, now)]


RESOURCE_SLICE = Rules(
    columns=(NAME, column("Node"), column("Driver"), column("Pool"), AGE),
    row=row_slice,
    validate=validate_slice,
    validate_update=validate_slice_update,
    selectable_fields=selectable("spec.nodeName", "spec.driver"),
)
