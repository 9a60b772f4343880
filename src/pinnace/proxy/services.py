"""What the proxy needs to know of Services: a `ServicePort` for each port of each Service, and each of its families.

Pure. https://kubernetes.io/docs/reference/networking/virtual-ips/ specifies what the fields do to traffic.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pinnace.machinery.meta import Obj, labels_of, name_of, namespace_of

_OTHER_PROXY = "service.kubernetes.io/service-proxy-name"  # a label: somebody else's proxy serves this one
_HEADLESS = "service.kubernetes.io/headless"
PROTOCOLS = ("tcp", "udp", "sctp")
_DEFAULT_AFFINITY = 10800  # seconds


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one Service at its address of one family."""

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
    def family(self) -> str:
        """IPv4 or IPv6."""
        return "IPv6" if ":" in self.cluster_ip else "IPv4"

    @property
    def key(self) -> str:
        """`namespace/name/protocol/port name`, unique among those of a family."""
        return f"{self.namespace}/{self.name}/{self.protocol}/{self.port_name}"


def is_ours(obj: Obj) -> bool:
    """Whether a Service or EndpointSlice is for this proxy, by its labels."""
    labels = labels_of(obj)
    return _OTHER_PROXY not in labels and _HEADLESS not in labels


_ADDRESS: dict[str, Callable[[str], object]] = {"IPv4": ipaddress.IPv4Address, "IPv6": ipaddress.IPv6Address}


def _of_family(addresses: Iterable[str], family: str) -> tuple[str, ...]:
    """The addresses of a family among these, each once, in order."""
    found: dict[str, None] = {}
    for address in addresses:
        try:
            found[str(_ADDRESS[family](address))] = None
        except ValueError:
            continue
    return tuple(found)


def _networks(ranges: Iterable[str], family: str) -> tuple[str, ...]:
    """The networks of a family among these, none within another: sets of intervals must not overlap."""
    fours, sixes = [], []
    for text in ranges:
        try:
            network = ipaddress.ip_network(text.strip(), strict=False)
        except ValueError:
            continue
        if isinstance(network, ipaddress.IPv4Network):
            fours.append(network)
        else:
            sixes.append(network)
    if family == "IPv4":
        return tuple(str(network) for network in ipaddress.collapse_addresses(fours))
    return tuple(str(network) for network in ipaddress.collapse_addresses(sixes))


def service_ports(service: Obj, family: str = "IPv4") -> list[ServicePort]:
    """The ports that need rules: none for a Service without a cluster IP of the family or served by another proxy."""
    spec = service.get("spec") or {}
    if not is_ours(service) or spec.get("type") == "ExternalName":
        return []
    cluster_ips = _of_family(spec.get("clusterIPs") or [spec.get("clusterIP") or ""], family)
    if not cluster_ips:
        return []
    kind = spec.get("type", "ClusterIP")
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    balancers = _of_family((item.get("ip", "") for item in ingress if item.get("ipMode", "VIP") == "VIP"), family)
    return [
        ServicePort(
            namespace=namespace_of(service),
            name=name_of(service),
            port_name=port.get("name", ""),
            protocol=port.get("protocol", "TCP").lower(),
            cluster_ip=cluster_ips[0],
            port=port["port"],
            node_port=port.get("nodePort", 0) if kind in ("NodePort", "LoadBalancer") else 0,
            external_ips=_of_family(spec.get("externalIPs") or (), family),
            load_balancer_ips=balancers if kind == "LoadBalancer" else (),
            source_ranges=_networks(spec.get("loadBalancerSourceRanges") or (), family),
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
