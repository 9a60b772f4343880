"""Whether a registered server can be reached: what its APIService says as its condition `Available`.

Its Service must be there, listen on the port, and have something ready behind it that answers for the group and
version. Reasons and words are kube-aggregator's.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from pinnace.apiserver.endpoints import ready_endpoints
from pinnace.machinery.meta import Obj, format_time


class Verdict(NamedTuple):
    """What the condition says."""

    available: bool
    reason: str
    message: str


LOCAL = Verdict(True, "Local", "Local APIServices are always available")
PASSED = Verdict(True, "Passed", "all checks passed")


class Endpoint(NamedTuple):
    """Where a server listens."""

    address: str
    port: int


def endpoint(reference: Obj, service: Obj | None, slices: Iterable[Obj]) -> Endpoint | Verdict:
    """Something ready behind the Service that `reference` (spec.service) names, or why there is nothing."""
    name, namespace, port = reference.get("name"), reference.get("namespace"), reference.get("port") or 443
    where = f'service/{name} in "{namespace}"'
    if service is None:
        return Verdict(False, "ServiceNotFound", f"{where} is not present")
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return Endpoint(str(spec.get("externalName") or ""), port)
    named = [each.get("name") or "" for each in spec.get("ports") or () if each.get("port") == port]
    if not named:
        return Verdict(False, "ServicePortError", f"{where} is not listening on port {port}")
    found = list(slices)
    if not found:
        return Verdict(False, "EndpointsNotFound", f"cannot find endpointslices for {where}")
    ready = ready_endpoints(found, named[0])
    if ready:
        return Endpoint(*ready[0])
    return Verdict(
        False, "MissingEndpoints", f'endpointslices for {where} have no addresses with port name "{named[0]}"'
    )


def failed(url: str, why: str) -> Verdict:
    """The server does not answer for its group and version."""
    return Verdict(False, "FailedDiscoveryCheck", f"failing or missing response from {url}: {why}")


def with_condition(api_service: Obj, verdict: Verdict, now: datetime) -> Obj:
    """The APIService with its condition; the very object where it says so already."""
    status = api_service.get("status") or {}
    conditions = status.get("conditions") or []
    old: Obj = next((one for one in conditions if one.get("type") == "Available"), {})
    word = "True" if verdict.available else "False"
    said = (old.get("status"), old.get("reason"), old.get("message"))
    if said == (word, verdict.reason, verdict.message):
        return api_service
    since = old.get("lastTransitionTime") if old.get("status") == word else format_time(now)
    new = {
        "type": "Available",
        "status": word,
        "lastTransitionTime": since,
        "reason": verdict.reason,
        "message": verdict.message,
    }
    others = [one for one in conditions if one.get("type") != "Available"]
    return {**api_service, "status": {**status, "conditions": [*others, new]}}
