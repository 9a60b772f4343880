"""The APIServices of what this server serves itself: one for each group and version, always available.

Their priorities, from which clients take the order of groups and versions, are facts of Kubernetes; groups of custom
resources come last. https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/api-service-v1/.
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.machinery.meta import Obj

AUTOMANAGED = "kube-aggregator.kubernetes.io/automanaged"
AT_START, ALWAYS = "onstart", "true"

_CUSTOM = (1000, 100)
_GROUPS = {
    "": 18000,
    "apiregistration.k8s.io": 17900,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "admissionregistration.k8s.io": 16700,
    "apiextensions.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "node.k8s.io": 16300,
    "discovery.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100,
    "internal.apiserver.k8s.io": 16000,
    "resource.k8s.io": 15900,
    "storagemigration.k8s.io": 15800,
    "lifecycle.k8s.io": 15700,
}
_STAGES = (("alpha", 1), ("beta", 9))


def priorities(group: str, version: str) -> tuple[int, int]:
    """`(groupPriorityMinimum, versionPriority)`."""
    if group not in _GROUPS:
        return _CUSTOM
    if not group:
        return _GROUPS[group], 1
    if (group, version) == ("autoscaling", "v2"):
        return _GROUPS[group], 30
    return _GROUPS[group], next((number for stage, number in _STAGES if stage in version), 15)


def api_service(group: str, version: str, managed: str) -> Obj:
    """The APIService of a group and version of this server's own, without its status."""
    least, version_priority = priorities(group, version)
    spec: Obj = {"groupPriorityMinimum": least, "version": version, "versionPriority": version_priority}
    if group:
        spec["group"] = group
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}", "labels": {AUTOMANAGED: managed}},
        "spec": spec,
    }


def wanted(groups: Iterable[tuple[str, tuple[str, ...]]]) -> dict[str, Obj]:
    """The APIServices of all groups and versions, by name."""
    found = {}
    for group, versions in groups:
        for version in versions:
            service = api_service(group, version, AT_START if group in _GROUPS else ALWAYS)
            found[service["metadata"]["name"]] = service
    return found
