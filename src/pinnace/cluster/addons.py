"""What every local cluster has besides Kubernetes' own objects: the Services of cluster DNS and of the metrics server,
and the rights of both; the default StorageClass.

Both run in the node's process. The Service `kube-dns` leads to the one, as pods expect; the APIService
`v1beta1.metrics.k8s.io` leads to the other through the Service `metrics-server`.
"""

from __future__ import annotations

import asyncio
import base64
from ipaddress import ip_network
from typing import TYPE_CHECKING

from pinnace.apis.resources import (
    API_SERVICES,
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    ENDPOINT_SLICES,
    ENDPOINTS,
    SERVICES,
    STORAGE_CLASSES,
)
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj

if TYPE_CHECKING:
    from pinnace.client.client import Client
    from pinnace.cluster.profile import ProfileConfig

DNS_PORT = 10053
"""Where the DNS server listens on the node's address; 53 may be taken by the machine's own."""

METRICS_PORT = 10251
"""Where the metrics server listens on the node's address, next to the kubelet."""

LOCAL_PROVISIONER = "k8s.io/minikube-hostpath"
"""Who makes volumes: minikube's name for it, which manifests and charts know."""

_RBAC = "rbac.authorization.k8s.io"
_METRICS_LABELS = {"k8s-app": "metrics-server", "kubernetes.io/cluster-service": "true"}


def cluster_dns_ip(service_cidr: str) -> str:
    """The address pods ask for names: the tenth of the Service range, as kubeadm and minikube choose it."""
    return str(ip_network(service_cidr.split(",")[0])[10])


async def ensure_addons(client: Client, config: ProfileConfig, ca: bytes) -> None:
    """Create what is missing and correct what points elsewhere; `ca` is PEM. Raises ApiError."""
    all_of_them = (
        administrators(),
        *dns_rights(),
        *dns_objects(config),
        *metrics_rights(),
        *metrics_objects(config, ca),
        (STORAGE_CLASSES, storage_class()),
    )
    await asyncio.gather(*(_ensure(client, resource, wanted) for resource, wanted in all_of_them))


def administrators() -> tuple[GVR, Obj]:
    """kubeadm's binding: by it the API server, whose certificate is of that group, may do anything on nodes."""
    subject = {"apiGroup": _RBAC, "kind": "Group", "name": "kubeadm:cluster-admins"}
    reference = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "cluster-admin"}
    head: Obj = {"apiVersion": f"{_RBAC}/v1", "metadata": {"name": "kubeadm:cluster-admins"}}
    return CLUSTER_ROLE_BINDINGS, {**head, "kind": "ClusterRoleBinding", "roleRef": reference, "subjects": [subject]}


def dns_rights() -> list[tuple[GVR, Obj]]:
    """The ClusterRole that CoreDNS has everywhere, for the node's agents: the DNS server shares the proxy's client."""
    read = ["list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
    ]
    return _granted("system:coredns", rules, "system:kube-proxy")


def _granted(role: str, rules: list[Obj], user: str) -> list[tuple[GVR, Obj]]:
    """A ClusterRole, and the binding of its name that gives it to a user."""
    reference = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role}
    subject = {"apiGroup": _RBAC, "kind": "User", "name": user}
    head: Obj = {"apiVersion": f"{_RBAC}/v1", "metadata": {"name": role}}
    return [
        (CLUSTER_ROLES, {**head, "kind": "ClusterRole", "rules": rules}),
        (CLUSTER_ROLE_BINDINGS, {**head, "kind": "ClusterRoleBinding", "roleRef": reference, "subjects": [subject]}),
    ]


def dns_objects(config: ProfileConfig) -> list[tuple[GVR, Obj]]:
    """The Service `kube-dns` and, as it selects no pods, the endpoints that lead to the node."""
    meta: Obj = {
        "name": "kube-dns",
        "namespace": "kube-system",
        "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
    }
    protocols = (("dns", "UDP"), ("dns-tcp", "TCP"))
    service_ports = [
        {"name": name, "protocol": protocol, "port": 53, "targetPort": DNS_PORT} for name, protocol in protocols
    ]
    ports = [{"name": name, "protocol": protocol, "port": DNS_PORT} for name, protocol in protocols]
    slice_meta = meta | {
        "labels": meta["labels"]
        | {"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "pinnace"}
    }
    return [
        (
            SERVICES,
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": meta,
                "spec": {"clusterIP": cluster_dns_ip(config.service_cidr), "ports": service_ports},
            },
        ),
        (
            ENDPOINTS,
            {
                "apiVersion": "v1",
                "kind": "Endpoints",
                # No mirror: the slice is written here too.
                "metadata": meta | {"labels": meta["labels"] | {"endpointslice.kubernetes.io/skip-mirror": "true"}},
                "subsets": [{"addresses": [{"ip": config.node_ip}], "ports": ports}],
            },
        ),
        (
            ENDPOINT_SLICES,
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": slice_meta,
                "addressType": "IPv4",
                "endpoints": [{"addresses": [config.node_ip], "conditions": {"ready": True}}],
                "ports": ports,
            },
        ),
    ]


def metrics_rights() -> list[tuple[GVR, Obj]]:
    """What metrics-server may read, and its ClusterRole by which whoever may view a namespace sees metrics too."""
    rules: list[Obj] = [
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]},
    ]
    reader = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {
            "name": "system:aggregated-metrics-reader",
            "labels": {f"{_RBAC}/aggregate-to-{role}": "true" for role in ("admin", "edit", "view")},
        },
        "rules": [{"apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}],
    }
    return [(CLUSTER_ROLES, reader), *_granted("system:metrics-server", rules, "system:metrics-server")]


def metrics_objects(config: ProfileConfig, ca: bytes) -> list[tuple[GVR, Obj]]:
    """The Service `metrics-server`, what leads from it to the node, and the APIService that leads to it."""
    meta: Obj = {"name": "metrics-server", "namespace": "kube-system", "labels": _METRICS_LABELS}
    in_service = {"kubernetes.io/service-name": "metrics-server", "endpointslice.kubernetes.io/managed-by": "pinnace"}
    port = {"name": "https", "protocol": "TCP"}
    spec = {"ports": [{**port, "port": 443, "targetPort": METRICS_PORT}]}
    api_service = {
        "group": "metrics.k8s.io",
        "version": "v1beta1",
        "service": {"name": "metrics-server", "namespace": "kube-system", "port": 443},
        "caBundle": base64.b64encode(ca).decode(),
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
    }
    return [
        (SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}),
        (
            ENDPOINT_SLICES,
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {**meta, "labels": {**_METRICS_LABELS, **in_service}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [config.node_ip], "conditions": {"ready": True}}],
                "ports": [{**port, "port": METRICS_PORT}],
            },
        ),
        (
            API_SERVICES,
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": "v1beta1.metrics.k8s.io", "labels": {"k8s-app": "metrics-server"}},
                "spec": api_service,
            },
        ),
    ]


def storage_class() -> Obj:
    """The default StorageClass: directories of this machine, which the controllers make (`host_path_volumes`)."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "standard",
            "labels": {"addonmanager.kubernetes.io/mode": "EnsureExists"},
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": LOCAL_PROVISIONER,
    }


async def _ensure(client: Client, resource: GVR, wanted: Obj) -> None:
    name, namespace = wanted["metadata"]["name"], wanted["metadata"].get("namespace", "")
    try:
        await client.get(resource, name, namespace)
    except ApiError as error:
        if not error.is_not_found:
            raise
        await client.create(resource, wanted)
        return
    changes = {name: value for name, value in wanted.items() if name in ("subsets", "endpoints", "ports")}
    if changes:
        await client.patch(resource, name, changes, namespace)
