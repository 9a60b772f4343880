"""The flow schemas and priority levels that every cluster has: the mandatory ones and those that Kubernetes suggests.

They are made when missing. What the annotation says decides whether a suggested one is kept as it is here; mandatory
ones always are. https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#maintenance-of-the-mandatory-and-suggested-configuration-objects
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from pinnace.apis.resources import FLOW_SCHEMAS, PRIORITY_LEVEL_CONFIGURATIONS
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj

AUTOUPDATE = "apf.kubernetes.io/autoupdate-spec"
MANDATORY = ("exempt", "catch-all")

_ALL: Obj = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
_ALL_PATHS: Obj = {"verbs": ["*"], "nonResourceURLs": ["*"]}
_LEADING = ("get", "create", "update")
_EVERYBODY = ("system:unauthenticated", "system:authenticated")


def _level(name: str, shares: int, lendable: int, queues: int, hand: int) -> Obj:
    queuing = {"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}}
    limited = {
        "nominalConcurrencyShares": shares,
        "lendablePercent": lendable,
        "limitResponse": queuing if queues else {"type": "Reject"},
    }
    return _object("PriorityLevelConfiguration", name, {"type": "Limited", "limited": limited})


def _schema(name: str, level: str, precedence: int, distinguish: str, subjects: list[Obj], *rules: Obj) -> Obj:
    """`rules` are everything when none is given."""
    paths = [rule for rule in rules or (_ALL_PATHS,) if "nonResourceURLs" in rule]
    resources = [rule for rule in rules or (_ALL,) if "resources" in rule]
    rule: Obj = {"subjects": subjects}
    if resources:
        rule["resourceRules"] = resources
    if paths:
        rule["nonResourceRules"] = paths
    spec: Obj = {
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": [rule],
    }
    if distinguish:
        spec["distinguisherMethod"] = {"type": distinguish}
    return _object("FlowSchema", name, spec)


def _object(kind: str, name: str, spec: Obj) -> Obj:
    meta = {"name": name, "annotations": {AUTOUPDATE: "true"}}
    return {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind, "metadata": meta, "spec": spec}


def _users(*names: str) -> list[Obj]:
    return [{"kind": "User", "user": {"name": name}} for name in names]


def _groups(*names: str) -> list[Obj]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


def _system_accounts(*names: str) -> list[Obj]:
    return [
        {"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}}
        for name in names or ("*",)
    ]


def _on(verbs: Iterable[str], group: str, *resources: str, cluster: bool = False) -> Obj:
    rule: Obj = {"verbs": list(verbs), "apiGroups": [group], "resources": list(resources), "namespaces": ["*"]}
    if cluster:
        rule["clusterScope"] = True
    return rule


LEVELS: tuple[Obj, ...] = (
    _object(
        "PriorityLevelConfiguration",
        "exempt",
        {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}},
    ),
    _level("catch-all", 5, 0, 0, 0),
    _level("system", 30, 33, 64, 6),
    _level("node-high", 40, 25, 64, 6),
    _level("leader-election", 10, 0, 16, 4),
    _level("workload-high", 40, 50, 128, 6),
    _level("workload-low", 100, 90, 128, 6),
    _level("global-default", 20, 50, 128, 6),
)

_LEASES = _on(_LEADING, "coordination.k8s.io", "leases")
_MANAGER, _SCHEDULER = "system:kube-controller-manager", "system:kube-scheduler"

SCHEMAS: tuple[Obj, ...] = (
    _schema("exempt", "exempt", 1, "", _groups("system:masters")),
    _schema("catch-all", "catch-all", 10000, "ByUser", _groups(*_EVERYBODY)),
    _schema("system-nodes", "system", 500, "ByUser", _groups("system:nodes")),
    _schema(
        "system-node-high",
        "node-high",
        400,
        "ByUser",
        _groups("system:nodes"),
        _on("*", "", "nodes", "nodes/status", cluster=True),
        _on("*", "coordination.k8s.io", "leases"),
    ),
    _schema(
        "probes",
        "exempt",
        2,
        "",
        _groups(*_EVERYBODY),
        {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]},
    ),
    _schema(
        "system-leader-election",
        "leader-election",
        100,
        "ByUser",
        _users(_MANAGER, _SCHEDULER) + _system_accounts(),
        _LEASES,
    ),
    _schema(
        "endpoint-controller",
        "workload-high",
        150,
        "ByUser",
        _users(_MANAGER) + _system_accounts("endpoint-controller", "endpointslicemirroring-controller"),
        _on(_LEADING, "", "endpoints"),
    ),
    _schema("workload-leader-election", "leader-election", 200, "ByUser", _system_accounts(), _LEASES),
    _schema("kube-controller-manager", "workload-high", 800, "ByNamespace", _users(_MANAGER)),
    _schema("kube-scheduler", "workload-high", 800, "ByNamespace", _users(_SCHEDULER)),
    _schema("kube-system-service-accounts", "workload-high", 900, "ByNamespace", _system_accounts()),
    _schema("service-accounts", "workload-low", 9000, "ByUser", _groups("system:serviceaccounts")),
    _schema("global-default", "global-default", 9900, "ByUser", _groups(*_EVERYBODY)),
)


def mended(found: Obj, wanted: Obj) -> Obj | None:
    """What `found` must become; None when it is right, or somebody else's to decide.

    An annotation that says nothing clear means that we decide as long as nobody has changed the object.
    """
    meta = found["metadata"]
    mandatory = meta["name"] in MANDATORY
    said = (meta.get("annotations") or {}).get(AUTOUPDATE)
    ours = mandatory or (said == "true" if said in ("true", "false") else meta.get("generation") == 1)
    wish = "true" if ours else "false"
    spec = kept_spec(found, wanted) if ours else found["spec"]
    if said == wish and found["spec"] == spec:
        return None
    annotations = {**(meta.get("annotations") or {}), AUTOUPDATE: wish}
    return {**found, "metadata": {**meta, "annotations": annotations}, "spec": spec}


def kept_spec(found: Obj, wanted: Obj) -> Obj:
    """The spec of one that is ours: what is wanted, but that an exempt level may be given shares."""
    spec: Obj = wanted["spec"]
    if spec.get("type") == "Exempt" and found["spec"].get("type") == "Exempt":
        return {**spec, "exempt": found["spec"].get("exempt") or spec["exempt"]}
    return spec


Request = Callable[[str, str, Obj | None], Awaitable[Obj]]
"""`(method, path, body)` with the rights of the server itself."""


async def ensure(request: Request, existing: Mapping[GVR, Mapping[str, Obj]]) -> None:
    """Make and mend what must be there, and remove what an older server kept; all at once, in one commit."""
    work: list[Any] = []
    for resource, all_wanted in ((PRIORITY_LEVEL_CONFIGURATIONS, LEVELS), (FLOW_SCHEMAS, SCHEMAS)):
        there = existing[resource]
        for wanted in all_wanted:
            name = wanted["metadata"]["name"]
            found = there.get(name)
            if found is None:
                work.append(_unless(409, request("POST", resource.path(), wanted)))
            elif (changed := mended(found, wanted)) is not None:
                work.append(_unless(409, request("PUT", resource.path("", name), changed)))
        known = {wanted["metadata"]["name"] for wanted in all_wanted}
        work += [
            _unless(404, request("DELETE", resource.path("", name), None))
            for name, found in there.items()
            if name not in known and (found["metadata"].get("annotations") or {}).get(AUTOUPDATE) == "true"
        ]
    if work:
        await asyncio.gather(*work)


async def _unless(code: int, request: Awaitable[Obj]) -> None:
    """Another server over the same store may have been first."""
    try:
        await request
    except ApiError as error:
        if error.code != code:
            raise
