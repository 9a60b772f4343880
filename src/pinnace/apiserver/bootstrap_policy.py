"""The roles and bindings that every cluster has, made and put right at each start.

A rule is one line: verbs, API group, resources and, where there are any, names, between bars; `core` is the group
without a name, `url` stands before paths that are no resources. What people added to a default role stays; what they
took away comes back, unless `rbac.authorization.kubernetes.io/autoupdate` says "false".
https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from pinnace.apis.resources import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from pinnace.apiserver.bootstrap_controllers import CONTROLLERS
from pinnace.apiserver.rbac import GROUP
from pinnace.machinery.errors import ApiError
from pinnace.machinery.features import FeatureGates
from pinnace.machinery.meta import GVR, Obj, annotations_of

API_VERSION = f"{GROUP}/v1"
AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"

_READ = "get list watch"
_WRITE = "create delete deletecollection patch update"
_EVENTS = ("create patch update | core | events", "create patch update | events.k8s.io | events")

_VIEWED = (
    ("core", ("configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers"
     " replicationcontrollers/scale serviceaccounts services services/status")),
    ("core", ("bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status"
     " resourcequotas resourcequotas/status")),
    ("core", "namespaces"),
    ("discovery.k8s.io", "endpointslices"),
    ("apps", ("controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status"
     " replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status")),
    ("autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    ("batch", "cronjobs cronjobs/status jobs jobs/status"),
    ("extensions", ("daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses"
     " ingresses/status networkpolicies replicasets replicasets/scale replicasets/status"
     " replicationcontrollers/scale")),
    ("policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    ("networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    ("resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
)  # fmt: skip

_WITH = {  # rules that features bring
    "system:monitoring": (("ComponentFlagz", "get | url | /flagz"), ("ComponentStatusz", "get | url | /statusz")),
}
CLUSTER_ROLE_RULES: dict[str, tuple[str, ...]] = {
    "cluster-admin": ("* | * | *", "* | url | *"),
    "system:discovery": (
        "get | url | /api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
    ),
    "system:public-info-viewer": ("get | url | /healthz /livez /readyz /version /version/",),
    "system:monitoring": ("get | url | /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*",),
    "system:basic-user": (
        "create | authorization.k8s.io | selfsubjectaccessreviews selfsubjectrulesreviews",
        "create | authentication.k8s.io | selfsubjectreviews",
    ),
    "system:aggregate-to-admin": (
        "create | authorization.k8s.io | localsubjectaccessreviews",
        f"{_READ} {_WRITE} | rbac.authorization.k8s.io | rolebindings roles",
    ),
    "system:aggregate-to-edit": (
        f"{_READ} | core | pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy",
        "impersonate | core | serviceaccounts",
        f"{_WRITE} | core | pods pods/attach pods/exec pods/portforward pods/proxy",
        "create | core | pods/eviction",
        (f"{_WRITE} | core | configmaps events persistentvolumeclaims replicationcontrollers"
        " replicationcontrollers/scale secrets serviceaccounts services services/proxy"),
        "create | core | serviceaccounts/token",
        (f"{_WRITE} | apps | daemonsets deployments deployments/rollback deployments/scale replicasets"
        " replicasets/scale statefulsets statefulsets/scale"),
        f"{_WRITE} | autoscaling | horizontalpodautoscalers",
        f"{_WRITE} | batch | cronjobs jobs",
        (f"{_WRITE} | extensions | daemonsets deployments deployments/rollback deployments/scale ingresses"
        " networkpolicies replicasets replicasets/scale replicationcontrollers/scale"),
        f"{_WRITE} | policy | poddisruptionbudgets",
        f"{_WRITE} | networking.k8s.io | ingresses networkpolicies",
        f"{_READ} {_WRITE} | coordination.k8s.io | leases",
        f"{_WRITE} | resource.k8s.io | resourceclaims resourceclaimtemplates",
    ),
    "system:aggregate-to-view": tuple(f"{_READ} | {group} | {resources}" for group, resources in _VIEWED),
    "system:heapster": (
        f"{_READ} | core | events namespaces nodes pods",
        f"{_READ} | extensions | deployments",
    ),
    "system:node": (
        "create | authentication.k8s.io | tokenreviews",
        "create | authorization.k8s.io | localsubjectaccessreviews subjectaccessreviews",
        f"{_READ} | core | services",
        f"create {_READ} | core | nodes",
        "patch update | core | nodes/status",
        "patch update | core | nodes",
        "create patch update | core | events",
        f"{_READ} | core | pods",
        "create delete | core | pods",
        "patch update | core | pods/status",
        "create | core | pods/eviction",
        f"{_READ} | core | configmaps secrets",
        "get | core | persistentvolumeclaims persistentvolumes",
        "get | core | endpoints",
        f"create {_READ} | certificates.k8s.io | certificatesigningrequests",
        "create delete get patch update | coordination.k8s.io | leases",
        "get | storage.k8s.io | volumeattachments",
        "create | core | serviceaccounts/token",
        "get patch update | core | persistentvolumeclaims/status",
        f"{_READ} | storage.k8s.io | csidrivers",
        "create delete get patch update | storage.k8s.io | csinodes",
        f"{_READ} | node.k8s.io | runtimeclasses",
        "get | resource.k8s.io | resourceclaims",
        "create delete deletecollection get list patch update watch | resource.k8s.io | resourceslices",
        f"{_READ} | certificates.k8s.io | clustertrustbundles",
        f"create {_READ} | certificates.k8s.io | podcertificaterequests",
    ),
    "system:node-problem-detector": ("get | core | nodes", "patch | core | nodes/status", *_EVENTS),
    "system:node-proxier": (
        "list watch | core | endpoints services",
        f"{_READ} | core | nodes",
        *_EVENTS,
        "list watch | discovery.k8s.io | endpointslices",
        "list watch | networking.k8s.io | servicecidrs",
    ),
    "system:kubelet-api-admin": (
        f"{_READ} proxy | core | nodes",
        "* | core | nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/spec nodes/stats",
    ),
    "system:node-bootstrapper": (f"create {_READ} | certificates.k8s.io | certificatesigningrequests",),
    "system:auth-delegator": (
        "create | authentication.k8s.io | tokenreviews",
        "create | authorization.k8s.io | subjectaccessreviews",
    ),
    "system:kube-aggregator": (f"{_READ} | core | endpoints services",),
    "system:kube-controller-manager": (
        *_EVENTS,
        "create | coordination.k8s.io | leases",
        "get update | coordination.k8s.io | leases | kube-controller-manager",
        "create | core | secrets serviceaccounts",
        "delete | core | secrets",
        "get | core | configmaps namespaces secrets serviceaccounts",
        "update | core | secrets serviceaccounts",
        "create | authentication.k8s.io | tokenreviews",
        "create | authorization.k8s.io | subjectaccessreviews",
        "list watch | * | *",
        "create | core | serviceaccounts/token",
    ),
    "system:kube-scheduler": (
        *_EVENTS,
        "create | coordination.k8s.io | leases",
        f"{_READ} update | coordination.k8s.io | leases | kube-scheduler",
        "create | coordination.k8s.io | leasecandidates",
        "delete deletecollection get list patch update watch | coordination.k8s.io | leasecandidates",
        f"{_READ} | core | nodes",
        f"delete {_READ} | core | pods",
        "create | core | bindings pods/binding",
        "patch update | core | pods/status",
        f"{_READ} | core | replicationcontrollers services",
        f"{_READ} | apps extensions | replicasets",
        f"{_READ} | apps | statefulsets",
        f"{_READ} | policy | poddisruptionbudgets",
        f"{_READ} | core | persistentvolumeclaims persistentvolumes",
        "create | authentication.k8s.io | tokenreviews",
        "create | authorization.k8s.io | subjectaccessreviews",
        f"{_READ} | storage.k8s.io | csinodes",
        f"{_READ} | core | namespaces",
        f"{_READ} | storage.k8s.io | csidrivers",
        f"{_READ} | storage.k8s.io | csistoragecapacities",
        f"{_READ} | storage.k8s.io | volumeattachments",
        f"{_READ} | resource.k8s.io | deviceclasses devicetaintrules",
        f"create delete {_READ} patch update | resource.k8s.io | resourceclaims",
        f"{_READ} patch update | resource.k8s.io | resourceclaims/status",
        f"{_READ} | resource.k8s.io | resourceslices",
    ),
    "system:kube-dns": ("list watch | core | endpoints services",),
    "system:persistent-volume-provisioner": (
        f"create delete {_READ} | core | persistentvolumes",
        f"{_READ} update | core | persistentvolumeclaims",
        f"{_READ} | storage.k8s.io | storageclasses",
        "watch | core | events",
        *_EVENTS,
    ),
    "system:service-account-issuer-discovery": (
        ("get | url | /.well-known/openid-configuration /.well-known/openid-configuration/"
        " /openid/v1/jwks /openid/v1/jwks/"),
    ),
    "system:volume-scheduler": (
        f"{_READ} patch update | core | persistentvolumes",
        f"{_READ} | storage.k8s.io | storageclasses",
        f"{_READ} patch update | core | persistentvolumeclaims",
    ),
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient": (
        "create | certificates.k8s.io | certificatesigningrequests/nodeclient",
    ),
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient": (
        "create | certificates.k8s.io | certificatesigningrequests/selfnodeclient",
    ),
    **{
        f"system:certificates.k8s.io:{name}-approver": (f"approve | certificates.k8s.io | signers | {signer}",)
        for name, signer in (
            ("kube-apiserver-client", "kubernetes.io/kube-apiserver-client"),
            ("kube-apiserver-client-kubelet", "kubernetes.io/kube-apiserver-client-kubelet"),
            ("kubelet-serving", "kubernetes.io/kubelet-serving"),
            ("legacy-unknown", "kubernetes.io/legacy-unknown"),
        )
    },
}  # fmt: skip

_AGGREGATED = {"admin": ("admin",), "edit": ("edit",), "view": ("view",)}
_FEEDS = {  # which of the aggregated roles a role's rules go into
    "system:aggregate-to-admin": "admin",
    "system:aggregate-to-edit": "edit",
    "system:aggregate-to-view": "view",
    "edit": "admin",
    "view": "edit",
}

_USER, _GROUP = "User", "Group"
_MANAGER = (_USER, "system:kube-controller-manager")  # as whom all loops speak here
CLUSTER_BINDINGS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "cluster-admin": ("cluster-admin", ((_GROUP, "system:masters"),)),
    "system:monitoring": ("system:monitoring", ((_GROUP, "system:monitoring"),)),
    "system:discovery": ("system:discovery", ((_GROUP, "system:authenticated"),)),
    "system:basic-user": ("system:basic-user", ((_GROUP, "system:authenticated"),)),
    "system:public-info-viewer": (
        "system:public-info-viewer",
        ((_GROUP, "system:authenticated"), (_GROUP, "system:unauthenticated")),
    ),
    "system:node-proxier": ("system:node-proxier", ((_USER, "system:kube-proxy"),)),
    "system:kube-controller-manager": (
        "system:kube-controller-manager",
        ((_USER, "system:kube-controller-manager"),),
    ),
    "system:kube-dns": ("system:kube-dns", (("ServiceAccount", "kube-dns"),)),
    "system:kube-scheduler": ("system:kube-scheduler", ((_USER, "system:kube-scheduler"),)),
    "system:volume-scheduler": ("system:volume-scheduler", ((_USER, "system:kube-scheduler"),)),
    "system:node": ("system:node", ()),
    "system:service-account-issuer-discovery": (
        "system:service-account-issuer-discovery",
        ((_GROUP, "system:serviceaccounts"),),
    ),
}

ROLE_RULES: dict[tuple[str, str], tuple[str, ...]] = {
    ("kube-system", "extension-apiserver-authentication-reader"): (
        f"{_READ} | core | configmaps | extension-apiserver-authentication",
    ),
    ("kube-system", "system:controller:bootstrap-signer"): (f"{_READ} | core | secrets",),
    ("kube-system", "system:controller:token-cleaner"): (f"delete {_READ} | core | secrets", *_EVENTS),
    ("kube-system", "system:controller:cloud-provider"): (f"create {_READ} patch update | core | configmaps",),
    ("kube-system", "system::leader-locking-kube-controller-manager"): (
        "watch | core | configmaps",
        "get update | core | configmaps | kube-controller-manager",
    ),
    ("kube-system", "system::leader-locking-kube-scheduler"): (
        "watch | core | configmaps",
        "get update | core | configmaps | kube-scheduler",
    ),
    ("kube-public", "system:controller:bootstrap-signer"): (
        f"{_READ} | core | configmaps",
        "update | core | configmaps | cluster-info",
        *_EVENTS,
    ),
}  # fmt: skip

_BINDINGS: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {
    ("kube-system", "system:controller:bootstrap-signer"): (("ServiceAccount", "bootstrap-signer"), _MANAGER),
    ("kube-system", "system:controller:token-cleaner"): (("ServiceAccount", "token-cleaner"), _MANAGER),
    ("kube-system", "system:controller:cloud-provider"): (("ServiceAccount", "cloud-provider"),),
    ("kube-system", "system::leader-locking-kube-controller-manager"): (
        (_USER, "system:kube-controller-manager"),
        ("ServiceAccount", "kube-controller-manager"),
    ),
    ("kube-system", "system::leader-locking-kube-scheduler"): (
        (_USER, "system:kube-scheduler"),
        ("ServiceAccount", "kube-scheduler"),
    ),
    ("kube-public", "system:controller:bootstrap-signer"): (("ServiceAccount", "bootstrap-signer"), _MANAGER),
}


def parse_rule(line: str) -> Obj:
    """`get list | apps | deployments | name` as a PolicyRule."""
    verbs, group, resources, *names = (part.split() for part in line.split(" | "))
    if group == ["url"]:
        return {"verbs": sorted(verbs), "nonResourceURLs": resources}
    rule: Obj = {
        "verbs": sorted(verbs),
        "apiGroups": ["" if each == "core" else each for each in group],
        "resources": resources,
    }
    if names:
        rule["resourceNames"] = names[0]
    return rule


def _named(kind: str, name: str, namespace: str = "", labels: dict[str, str] | None = None) -> Obj:
    meta: Obj = {
        "name": name,
        "labels": {**_LABELS, **(labels or {})},
        "annotations": {AUTOUPDATE: "true"},
    }
    if namespace:
        meta["namespace"] = namespace
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": meta}


def _subject(kind: str, name: str) -> Obj:
    if kind == "ServiceAccount":
        return {"kind": kind, "name": name, "namespace": "kube-system"}
    return {"apiGroup": GROUP, "kind": kind, "name": name}


def _binding(
    kind: str, role_kind: str, role: str, name: str, subjects: Iterable[tuple[str, str]], namespace: str = ""
) -> Obj:
    made = _named(kind, name, namespace)
    made["roleRef"] = {"apiGroup": GROUP, "kind": role_kind, "name": role}
    found = [_subject(*subject) for subject in subjects]
    if found:
        made["subjects"] = found
    return made


def cluster_roles(features: FeatureGates | None = None) -> list[Obj]:
    """Every default ClusterRole, with the rules that features bring where they are on."""
    made = []
    for name in _AGGREGATED:
        feeds = {_AGGREGATE + _FEEDS[name]: "true"} if name in _FEEDS else None
        role = _named("ClusterRole", name, labels=feeds)
        role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {f"{_AGGREGATE}{name}": "true"}}]}
        made.append(role)
    for name, lines in CLUSTER_ROLE_RULES.items():
        feeds = {_AGGREGATE + _FEEDS[name]: "true"} if name in _FEEDS else None
        lines = (*lines, *(line for gate, line in _WITH.get(name, ()) if features and features.enabled(gate)))
        made.append({**_named("ClusterRole", name, labels=feeds), "rules": [parse_rule(line) for line in lines]})
    for name, lines in CONTROLLERS.items():
        role = _named("ClusterRole", f"system:controller:{name}")
        made.append({**role, "rules": [parse_rule(line) for line in lines]})
    return made


def cluster_role_bindings() -> list[Obj]:
    """Every default ClusterRoleBinding.

    The rights of each controller go to its service account, as everywhere, and to the controller manager's own user:
    here its loops all speak as that one, as they do without `--use-service-account-credentials`.
    """
    made = [
        _binding("ClusterRoleBinding", "ClusterRole", role, name, subjects)
        for name, (role, subjects) in CLUSTER_BINDINGS.items()
    ]
    for name in CONTROLLERS:
        full = f"system:controller:{name}"
        subjects = (("ServiceAccount", name), (_USER, "system:kube-controller-manager"))
        made.append(_binding("ClusterRoleBinding", "ClusterRole", full, full, subjects))
    return made


def roles() -> list[Obj]:
    return [
        {**_named("Role", name, namespace), "rules": [parse_rule(line) for line in lines]}
        for (namespace, name), lines in ROLE_RULES.items()
    ]


def role_bindings() -> list[Obj]:
    return [
        _binding("RoleBinding", "Role", name, name, subjects, namespace)
        for (namespace, name), subjects in _BINDINGS.items()
    ]


def reconciled(found: Obj, wanted: Obj) -> Obj | None:
    """What `found` must become to hold all of `wanted`; None when it does, or must be left alone."""
    if annotations_of(found).get(AUTOUPDATE) == "false":
        return None
    changed: Obj = {**found, "metadata": dict(found["metadata"])}
    for part in ("labels", "annotations"):
        changed["metadata"][part] = {**(found["metadata"].get(part) or {}), **wanted["metadata"][part]}
    if "aggregationRule" in wanted:
        changed["aggregationRule"] = wanted["aggregationRule"]
    for part in ("rules", "subjects"):
        held = list(found.get(part) or ())
        missing = [each for each in wanted.get(part) or () if each not in held]
        if missing:
            changed[part] = [*held, *missing]
    return None if changed == found else changed


Request = Callable[[str, str, Obj | None], Awaitable[Obj]]
"""`(method, path, body)` with the rights of the server itself."""


async def ensure_policy(
    request: Request, existing: Callable[[GVR, str], Obj | None], features: FeatureGates | None = None
) -> None:
    """Make and mend every default role and binding; all at once, so that they share the store's commits."""
    wanted: list[tuple[GVR, Obj]] = [
        *((CLUSTER_ROLES, each) for each in cluster_roles(features)),
        *((CLUSTER_ROLE_BINDINGS, each) for each in cluster_role_bindings()),
        *((ROLES, each) for each in roles()),
        *((ROLE_BINDINGS, each) for each in role_bindings()),
    ]
    work: list[Any] = []
    for resource, obj in wanted:
        meta = obj["metadata"]
        namespace = meta.get("namespace", "")
        found = existing(resource, f"{namespace}/{meta['name']}" if namespace else meta["name"])
        if found is None:
            work.append(_create(request, resource.path(namespace), obj))
        elif found.get("roleRef") != obj.get("roleRef"):
            work.append(_replace(request, resource, namespace, obj))
        elif (changed := reconciled(found, obj)) is not None:
            work.append(request("PUT", resource.path(namespace, meta["name"]), changed))
    await asyncio.gather(*work)


async def _create(request: Request, path: str, obj: Obj) -> None:
    try:
        await request("POST", path, obj)
    except ApiError as error:
        if not error.is_already_exists:  # another server over the same store was first
            raise


async def _replace(request: Request, resource: GVR, namespace: str, obj: Obj) -> None:
    """A binding cannot be led elsewhere: it goes and comes anew."""
    await request("DELETE", resource.path(namespace, obj["metadata"]["name"]), None)
    await _create(request, resource.path(namespace), obj)
