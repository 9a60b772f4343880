"""Which endpoints a Service's traffic goes to, from its EndpointSlices.

Pure. Ready endpoints; where there are none, those that still serve while they terminate (KEP-1669). The same rule
holds within the endpoints of this node for traffic that must not leave it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pinnace.machinery.meta import Obj


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Where traffic can go, and whether it should."""

    ip: str
    port: int
    local: bool = False  # on this node
    ready: bool = True
    serving: bool = True
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What remains for traffic: in the whole cluster, and on this node alone; sorted."""

    cluster: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()


def endpoints_of(
    slices: Iterable[Obj], port_name: str, protocol: str, node_name: str, family: str = "IPv4"
) -> list[Endpoint]:
    """The endpoints of a family behind a port; an address that two slices list counts once, the later slice wins."""
    found: dict[tuple[str, int], Endpoint] = {}
    for piece in slices:
        if piece.get("addressType", "IPv4") != family:
            continue
        ports = [
            port["port"]
            for port in piece.get("ports") or ()
            if port.get("port")
            and (port.get("name") or "") == port_name
            and port.get("protocol", "TCP").lower() == protocol
        ]
        for endpoint in piece.get("endpoints") or ():
            for port in ports:
                made = _endpoint(endpoint, port, node_name, family)
                if made is not None:
                    found[made.ip, made.port] = made
    return sorted(found.values())


def _endpoint(endpoint: Obj, port: int, node_name: str, family: str) -> Endpoint | None:
    try:
        address = ipaddress.ip_address(endpoint["addresses"][0])
    except (KeyError, IndexError, ValueError):
        return None  # anybody may write slices; what is no address must not reach a rule
    if f"IPv{address.version}" != family:
        return None
    conditions = endpoint.get("conditions") or {}
    ready = conditions.get("ready")
    serving = conditions.get("serving")
    is_ready = True if ready is None else bool(ready)
    return Endpoint(
        ip=str(address),
        port=port,
        local=bool(node_name) and endpoint.get("nodeName") == node_name,
        ready=is_ready,
        serving=is_ready if serving is None else bool(serving),
        terminating=bool(conditions.get("terminating")),
    )


def _usable(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    ready = tuple(endpoint for endpoint in endpoints if endpoint.ready)
    return ready or tuple(endpoint for endpoint in endpoints if endpoint.serving and endpoint.terminating)


def choose(endpoints: Sequence[Endpoint]) -> Choice:
    return Choice(_usable(endpoints), _usable([endpoint for endpoint in endpoints if endpoint.local]))
