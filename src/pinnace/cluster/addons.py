"""What every local cluster has besides Kubernetes' own objects: the DNS Service, and the DNS server's rights.

The DNS server runs in the node's process; the Service `kube-dns` leads to it, as pods expect.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from pinnace.apis.resources import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ENDPOINT_SLICES, ENDPOINTS, SERVICES
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj

if TYPE_CHECKING:
    from pinnace.client.client import Client
    from pinnace.cluster.profile import ProfileConfig

DNS_PORT = 10053
"""Where the DNS server listens on the node's address; 53 may be taken by the machine's own."""


def cluster_dns_ip(service_cidr: str) -> str:
    """The address pods ask for names: the tenth of the Service range, as kubeadm and minikube choose it."""
    return str(ip_network(service_cidr)[10])


async def ensure_addons(client: Client, config: ProfileConfig) -> None:
    """Create what is missing and correct what points elsewhere. Raises ApiError."""
    for resource, wanted in (*dns_rights(), *dns_objects(config)):
        await _ensure(client, resource, wanted)


def dns_rights() -> list[tuple[GVR, Obj]]:
    """The ClusterRole that CoreDNS has everywhere, for the node's agents: the DNS server shares the proxy's client."""
    group = "rbac.authorization.k8s.io"
    meta: Obj = {"name": "system:coredns"}
    read = ["list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
    ]
    reference = {"apiGroup": group, "kind": "ClusterRole", "name": "system:coredns"}
    proxy = {"apiGroup": group, "kind": "User", "name": "system:kube-proxy"}
    head = {"apiVersion": f"{group}/v1", "metadata": meta}
    return [
        (CLUSTER_ROLES, {**head, "kind": "ClusterRole", "rules": rules}),
        (CLUSTER_ROLE_BINDINGS, {**head, "kind": "ClusterRoleBinding", "roleRef": reference, "subjects": [proxy]}),
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
