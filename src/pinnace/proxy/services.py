"""What the proxy needs to know of Services: one `ServicePort` for each port of each Service that has an address.

Pure. https://kubernetes.io/docs/reference/networking/virtual-ips/ specifies what the fields do to traffic.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from pinnace.machinery.meta import Obj, labels_of, name_of, namespace_of

_OTHER_PROXY = "service.kubernetes.io/service-proxy-name"  # a label: somebody else's proxy serves this one
_HEADLESS = "service.kubernetes.io/headless"
PROTOCOLS = ("tcp", "udp", "sctp")
_DEFAULT_AFFINITY = 10800  # seconds


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one Service, IPv4."""

    namespace: str
    name: str
    port_name: str
    protocol: str  # tcp, udp, sctp
    cluster_ip: str
    port: int
    node_port: int = 0  # 0: none
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()  # who may use the load balancer's addresses; empty: everybody
    affinity_seconds: int = 0  # how long a client stays with its endpoint, 0: not at all
    internal_local: bool = False  # cluster IP: only to endpoints of this node
    external_local: bool = False  # node port and external addresses: only to endpoints of this node

    @property
    def key(self) -> str:
        """`namespace/name/protocol/port name`, unique."""
        return f"{self.namespace}/{self.name}/{self.protocol}/{self.port_name}"


def is_ours(obj: Obj) -> bool:
    """Whether a Service or EndpointSlice is for this proxy, by its labels."""
    labels = labels_of(obj)
    return _OTHER_PROXY not in labels and _HEADLESS not in labels


def _ipv4(addresses: Iterable[str]) -> tuple[str, ...]:
    """The IPv4 addresses among these, each once, in order."""
    found: dict[str, None] = {}
    for address in addresses:
        try:
            ipaddress.IPv4Address(address)
        except ValueError:
            continue
        found[address] = None
    return tuple(found)


def _networks(ranges: Iterable[str]) -> tuple[str, ...]:
    """The IPv4 networks among these, none within another: sets of intervals must not overlap."""
    found = []
    for text in ranges:
        try:
            found.append(ipaddress.IPv4Network(text.strip(), strict=False))
        except ValueError:
            continue
    return tuple(str(network) for network in ipaddress.collapse_addresses(found))


def service_ports(service: Obj) -> list[ServicePort]:
    """The ports that need rules: none for a Service without an IPv4 cluster IP or served by another proxy."""
    spec = service.get("spec") or {}
    if not is_ours(service) or spec.get("type") == "ExternalName":
        return []
    cluster_ips = _ipv4(spec.get("clusterIPs") or [spec.get("clusterIP") or ""])
    if not cluster_ips:
        return []
    kind = spec.get("type", "ClusterIP")
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    balancers = _ipv4(item.get("ip", "") for item in ingress if item.get("ipMode", "VIP") == "VIP")
    return [
        ServicePort(
            namespace=namespace_of(service),
            name=name_of(service),
            port_name=port.get("name", ""),
            protocol=port.get("protocol", "TCP").lower(),
            cluster_ip=cluster_ips[0],
            port=port["port"],
            node_port=port.get("nodePort", 0) if kind in ("NodePort", "LoadBalancer") else 0,
            external_ips=_ipv4(spec.get("externalIPs") or ()),
            load_balancer_ips=balancers if kind == "LoadBalancer" else (),
            source_ranges=_networks(spec.get("loadBalancerSourceRanges") or ()),
            affinity_seconds=_affinity_seconds(spec),
            internal_local=spec.get("internalTrafficPolicy") == "Local",
            external_local=spec.get("externalTrafficPolicy") == "Local",
        )
        for port in spec.get("ports") or ()
        if port.get("protocol", "TCP").lower() in PROTOCOLS
    ]


def _affinity_seconds(spec: Obj) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    seconds: int = client.get("timeoutSeconds") or _DEFAULT_AFFINITY
    return seconds
