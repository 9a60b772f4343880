"""resource.k8s.io between its versions: v1 and v1beta2 say the same, the older ones say it flatter or deeper.

A request for a device has its details in `exactly` since v1beta2 and beside its name before; a device has its details
beside its name since v1beta2 and in `basic` before; v1alpha3 has bare quantities for capacities.
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pinnace.machinery.meta import Obj

NESTED = ("v1", "v1beta2")
"""Versions with `exactly` in a request and no `basic` in a device."""

_OF_REQUESTS = ("name", "firstAvailable", "exactly")


def claim_to_nested(claim: Obj) -> Obj:
    """A ResourceClaim with `exactly` in its requests."""
    return _with_requests(claim, _nest_request)


def claim_to_flat(claim: Obj) -> Obj:
    """A ResourceClaim without `exactly`."""
    return _with_requests(claim, _flatten_request)


def template_to_nested(template: Obj) -> Obj:
    """A ResourceClaimTemplate with `exactly` in its claim's requests."""
    return _with_claim(template, claim_to_nested)


def template_to_flat(template: Obj) -> Obj:
    """A ResourceClaimTemplate without `exactly`."""
    return _with_claim(template, claim_to_flat)


def slice_to_nested(resource_slice: Obj) -> Obj:
    """A ResourceSlice with its devices' details beside their names."""
    return _with_devices(resource_slice, lambda device: _without(device, "basic") | (device.get("basic") or {}))


def slice_to_flat(resource_slice: Obj) -> Obj:
    """A ResourceSlice with its devices' details in `basic`."""
    return _with_devices(resource_slice, _deepen_device)


def slice_to_capacities(resource_slice: Obj) -> Obj:
    """A v1alpha3 ResourceSlice with its capacities as v1beta1 has them: quantities in `value`."""
    return _with_capacities(
        resource_slice, lambda quantity: quantity if isinstance(quantity, dict) else {"value": quantity}
    )


def slice_to_quantities(resource_slice: Obj) -> Obj:
    """A v1beta1 ResourceSlice with its capacities as v1alpha3 has them: bare quantities."""
    return _with_capacities(
        resource_slice, lambda capacity: capacity.get("value") if isinstance(capacity, dict) else capacity
    )


def _with_capacities(resource_slice: Obj, change: Callable[[Any], Any]) -> Obj:
    def changed(device: Obj) -> Obj:
        basic = device.get("basic") or {}
        if not basic.get("capacity"):
            return device
        capacity = {name: change(value) for name, value in basic["capacity"].items()}
        return {**device, "basic": {**basic, "capacity": capacity}}

    return _with_devices(resource_slice, changed)


def _nest_request(request: Obj) -> Obj:
    details = {name: value for name, value in request.items() if name not in _OF_REQUESTS}
    if not details:
        return request
    kept = {name: value for name, value in request.items() if name in _OF_REQUESTS}
    return {**kept, "exactly": details}


def _flatten_request(request: Obj) -> Obj:
    return _without(request, "exactly") | (request.get("exactly") or {})


def _deepen_device(device: Obj) -> Obj:
    details = _without(device, "name")
    return {"name": device["name"], "basic": details} if "name" in device else {"basic": details}


def _with_requests(claim: Obj, change: Callable[[Obj], Obj]) -> Obj:
    spec = claim.get("spec")
    devices = spec.get("devices") if isinstance(spec, dict) else None
    if not isinstance(devices, dict) or not devices.get("requests"):
        return claim
    changed = {**devices, "requests": _each(devices["requests"], change)}
    return {**claim, "spec": {**claim["spec"], "devices": changed}}


def _with_claim(template: Obj, change: Callable[[Obj], Obj]) -> Obj:
    spec = template.get("spec")
    return {**template, "spec": change(spec)} if isinstance(spec, dict) else template


def _with_devices(resource_slice: Obj, change: Callable[[Obj], Obj]) -> Obj:
    spec = resource_slice.get("spec")
    if not isinstance(spec, dict) or not spec.get("devices"):
        return resource_slice
    return {**resource_slice, "spec": {**spec, "devices": _each(spec["devices"], change)}}


def _each(items: list[Any], change: Callable[[Obj], Obj]) -> list[Any]:
    return [change(item) if isinstance(item, dict) else item for item in items]


def _without(obj: Obj, name: str) -> Obj:
    return {key: value for key, value in obj.items() if key != name}
