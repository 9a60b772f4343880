"""The ServiceCIDR `kubernetes`: the range that the server's flag gives to Services, as an object.

https://kubernetes.io/docs/reference/networking/virtual-ips/#service-ip-static-sub-range and KEP 1880.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from pinnace.apis.resources import SERVICE_CIDRS
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, format_time, get_in, is_deleting, utc_now

log = structlog.get_logger()

DEFAULT = "kubernetes"


async def ensure_default(request: Callable[[str, str, Obj | None], Awaitable[Obj]], cidr: str) -> None:
    """Make it where it is missing, and say that it is ready. Raises ApiError when the store refuses."""
    path = SERVICE_CIDRS.path("", DEFAULT)
    found = await _find_or_make(request, cidr)
    if is_deleting(found):
        return
    if found["spec"]["cidrs"] != cidr.split(","):
        log.warning("the ServiceCIDR kubernetes is not the range of the flags", cidrs=found["spec"]["cidrs"], flag=cidr)
        return
    conditions = get_in(found, "status", "conditions") or []
    if not any(condition.get("type") == "Ready" for condition in conditions):
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "",
            "message": "Kubernetes default Service CIDR is ready",
            "lastTransitionTime": format_time(utc_now()),
        }
        try:
            await request("PUT", f"{path}/status", {**found, "status": {"conditions": [*conditions, ready]}})
        except ApiError as error:
            if not error.is_conflict:  # another server, or the controller of ServiceCIDRs, was first
                raise


async def _find_or_make(request: Callable[[str, str, Obj | None], Awaitable[Obj]], cidr: str) -> Obj:
    path = SERVICE_CIDRS.path("", DEFAULT)
    try:
        return await request("GET", path, None)
    except ApiError as error:
        if not error.is_not_found:
            raise
    wanted = {
        "apiVersion": SERVICE_CIDRS.api_version,
        "kind": "ServiceCIDR",
        "metadata": {"name": DEFAULT},
        "spec": {"cidrs": cidr.split(",")},
    }
    try:
        return await request("POST", SERVICE_CIDRS.path(), wanted)
    except ApiError as error:
        if not error.is_already_exists:
            raise
        return await request("GET", path, None)
