"""Forget UDP flows whose endpoint is gone: the kernel would send their packets there until they fall silent.

`stale` decides, purely, from what was and what is; `forget` asks the kernel by netlink. A flow that began while a
Service had no endpoint at all is stale too: it was let through unchanged, and stays so.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from pinnace.proxy.endpoints import Choice
from pinnace.proxy.services import ServicePort

_log = structlog.get_logger()

_IPPROTO_UDP = 17

State = Mapping[ServicePort, Choice]


@dataclass(frozen=True, slots=True)
class StaleFlows:
    """UDP flows to `address` (any, where empty) and `port` that do not lead to one of `endpoints`."""

    address: str
    port: int
    endpoints: frozenset[tuple[str, int]]
    family: str = "IPv4"


def stale(old: State, new: State) -> list[StaleFlows]:
    """What to forget when `new` takes the place of `old`."""
    before = {(port.family, port.key): (port, choice) for port, choice in old.items() if port.protocol == "udp"}
    found: list[StaleFlows] = []
    for port, choice in new.items():
        if port.protocol != "udp":
            continue
        was = before.pop((port.family, port.key), None)
        kept = _addresses(choice)
        if was is None:
            if kept:
                found += _flows(port, kept)
        elif _addresses(was[1]) - kept or (kept and not _addresses(was[1])) or was[0] != port:
            found += _flows(port, kept)
            if was[0] != port:
                found += _flows(was[0], kept)
    for port, choice in before.values():
        if _addresses(choice):
            found += _flows(port, frozenset())
    return list(dict.fromkeys(found))


def _addresses(choice: Choice) -> frozenset[tuple[str, int]]:
    return frozenset((endpoint.ip, endpoint.port) for endpoint in (*choice.cluster, *choice.local))


def _flows(port: ServicePort, kept: frozenset[tuple[str, int]]) -> list[StaleFlows]:
    flows = [
        StaleFlows(address, port.port, kept, port.family)
        for address in (port.cluster_ip, *port.external_ips, *port.load_balancer_ips)
    ]
    if port.node_port:
        flows.append(StaleFlows("", port.node_port, kept, port.family))
    return flows


def forget(flows: list[StaleFlows]) -> int:
    """Delete the connection tracking entries of these flows in the caller's network namespace; how many.

    For a thread of its own: pyroute2 runs an event loop inside.
    """
    families = {flow.family for flow in flows}
    return sum(_forget([flow for flow in flows if flow.family == family], family) for family in families)


def _forget(flows: list[StaleFlows], family: str) -> int:
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

    deleted = 0
    number, words = (socket.AF_INET6, "CTA_IP_V6") if family == "IPv6" else (socket.AF_INET, "CTA_IP_V4")
    with NFCTSocket(nfgen_family=number) as netlink:
        for entry in list(netlink.dump()):
            original, reply = (_tuple(entry, name, words) for name in ("CTA_TUPLE_ORIG", "CTA_TUPLE_REPLY"))
            if not any(_matches(flow, original, reply) for flow in flows):
                continue
            try:
                netlink.entry(
                    "del",
                    tuple_orig=NFCTAttrTuple(
                        family=number,
                        saddr=original["src"],
                        daddr=original["dst"],
                        proto=_IPPROTO_UDP,
                        sport=original["sport"],
                        dport=original["dport"],
                    ),
                )
                deleted += 1
            except Exception as error:  # pyroute2's own; the entry may have timed out meanwhile
                _log.debug("cannot forget a flow", error=str(error))
    return deleted


def _matches(flow: StaleFlows, original: dict[str, Any], reply: dict[str, Any]) -> bool:
    if original.get("proto") != _IPPROTO_UDP or original.get("dport") != flow.port:
        return False
    if flow.address and original.get("dst") != flow.address:
        return False
    return (reply.get("src"), reply.get("sport")) not in flow.endpoints


def _tuple(entry: Any, name: str, words: str) -> dict[str, Any]:
    """Addresses and ports of one direction of a flow; `words` is what netlink calls addresses of its family."""
    found: dict[str, Any] = {}
    outer = entry.get_attr(name)
    if outer is None:
        return found
    addresses, protocol = outer.get_attr("CTA_TUPLE_IP"), outer.get_attr("CTA_TUPLE_PROTO")
    if addresses is not None:
        found["src"] = addresses.get_attr(f"{words}_SRC")
        found["dst"] = addresses.get_attr(f"{words}_DST")
    if protocol is not None:
        found["proto"] = protocol.get_attr("CTA_PROTO_NUM")
        found["sport"] = protocol.get_attr("CTA_PROTO_SRC_PORT")
        found["dport"] = protocol.get_attr("CTA_PROTO_DST_PORT")
    return found
