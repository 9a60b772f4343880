"""The ServiceCIDR `kubernetes`: the ranges that the server's flag gives to Services, as an object.

https://kubernetes.io/docs/reference/networking/virtual-ips/#service-ip-static-sub-range and KEP 1880.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from pinnace.apis.resources import SERVICE_CIDRS
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, format_time, get_in, is_deleting, utc_now

log = structlog.get_logger()

DEFAULT = "kubernetes"


Request = Callable[[str, str, Obj | None], Awaitable[Obj]]


async def ensure_default(request: Request, cidrs: Sequence[str]) -> None:
    """Make it where it is missing, and say that it is ready; one of a single range gets the second of the flag.

    Raises ApiError when the store refuses.
    """
    path = SERVICE_CIDRS.path("", DEFAULT)
    wanted = list(cidrs)
    found = await _find_or_make(request, wanted)
    if is_deleting(found):
        return
    there = found["spec"]["cidrs"]
    if there != wanted and there == wanted[:1]:
        try:
            found = await request("PUT", path, {**found, "spec": {"cidrs": wanted}})
        except ApiError as error:
            if error.is_conflict:  # another server was first
                return
            raise
    elif there != wanted:
        log.warning("the ServiceCIDR kubernetes has not the ranges of the flag", cidrs=there, flag=wanted)
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


async def _find_or_make(request: Request, cidrs: list[str]) -> Obj:
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
        "spec": {"cidrs": cidrs},
    }
    try:
        return await request("POST", SERVICE_CIDRS.path(), wanted)
    except ApiError as error:
        if not error.is_already_exists:
            raise
        return await request("GET", path, None)
