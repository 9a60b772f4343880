"""Which resources aggregated servers hold, as they themselves tell it, and which of these servers do not answer.

A namespace is empty only once nothing is left of it on any server. Specified by
https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/apiserver-aggregation/.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pinnace.apis.resources import API_SERVICES
from pinnace.client.client import Client
from pinnace.controllers.conditions import condition
from pinnace.controllers.served import NEEDED_VERBS, Resource
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj, get_in


@dataclass(slots=True)
class Aggregated:
    """What aggregated servers hold, and of groups and versions of which that cannot be told, why."""

    resources: list[Resource] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


async def aggregated(client: Client) -> Aggregated:
    """Ask every aggregated server for the resources in namespaces that can be listed and deleted."""
    found = Aggregated()
    for service in (await client.list(API_SERVICES)).get("items") or ():
        spec = service["spec"]
        if not spec.get("service"):
            continue
        where = f"{spec['group']}/{spec['version']}"
        if not _is_available(service):
            found.failures[where] = f"stale GroupVersion discovery: {where}"
            continue
        try:
            listed = await client.transport.request("GET", f"/apis/{where}")
        except ApiError as error:
            found.failures[where] = error.message
        else:
            found.resources += resources_of(spec["group"], spec["version"], listed)
    return found


def _is_available(service: Obj) -> bool:
    available = condition(service, "Available")
    return available is not None and available.get("status") == "True"


def resources_of(group: str, version: str, listed: Obj) -> list[Resource]:
    """Those of an APIResourceList whose objects are in namespaces and can be deleted."""
    found = []
    for one in listed.get("resources") or ():
        verbs = set(get_in(one, "verbs", default=()))
        if one.get("namespaced") and "/" not in one["name"] and verbs >= NEEDED_VERBS:
            gvr = GVR(group, version, one["name"])
            found.append(Resource(gvr, one["kind"], True, "watch" in verbs, "deletecollection" in verbs))
    return found
