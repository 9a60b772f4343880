"""The few rtnetlink requests a pod's network needs: links, addresses, routes.

A socket belongs to the network namespace it was opened in, for life, so one opened by a thread that visited a pod's
namespace works on it from anywhere. Messages are those of rtnetlink(7); that is 200 ms and 20 MB less at
start than a general library costs.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_NEWROUTE = 20, 24
_REQUEST, _ACK, _REPLACE, _EXCL, _CREATE = 0x1, 0x4, 0x100, 0x200, 0x400
_ERROR = 2
_NESTED = 0x8000

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_IFLA_PROTINFO = 12
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_BRPORT_MODE = 4  # hairpin
_IFF_UP = 1

Address = IPv4Interface | IPv6Interface


def attribute(kind: int, data: bytes) -> bytes:
    length = 4 + len(data)
    return struct.pack("HH", length, kind) + data + b"\0" * (-length % 4)


def _link(index: int = 0, flags: int = 0, change: int = 0, family: int = 0) -> bytes:
    return struct.pack("BxHiII", family, 0, index, flags, change)


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


class Netlink:
    """A route socket in the calling thread's network namespace."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def request(self, kind: int, flags: int, payload: bytes) -> bytes:
        """Send one request; the first answer that is no acknowledgement, else empty. OSError as the kernel says."""
        self._sequence += 1
        header = struct.pack("IHHII", 16 + len(payload), kind, flags | _REQUEST | _ACK, self._sequence, 0)
        self._socket.send(header + payload)
        found = b""
        while True:
            data = self._socket.recv(65536)
            while data:
                length, kind_, _, sequence, _ = struct.unpack_from("IHHII", data)
                body, data = data[16:length], data[(length + 3) & ~3 :]
                if sequence != self._sequence:
                    continue
                if kind_ == _ERROR:
                    number = -struct.unpack_from("i", body)[0]
                    if number:
                        raise OSError(number, os.strerror(number))
                    return found
                found = found or body

    def index(self, name: str) -> int:
        """A link's number; 0 if there is none of that name."""
        try:
            body = self.request(RTM_GETLINK, 0, _link() + attribute(_IFLA_IFNAME, _text(name)))
        except OSError:
            return 0
        number: int = struct.unpack_from("BxHi", body)[2]
        return number

    def add_bridge(self, name: str, mtu: int = 0) -> None:
        info = attribute(_IFLA_LINKINFO | _NESTED, attribute(_INFO_KIND, b"bridge"))
        size = attribute(_IFLA_MTU, struct.pack("I", mtu)) if mtu else b""
        self.request(RTM_NEWLINK, _CREATE | _EXCL, _link() + attribute(_IFLA_IFNAME, _text(name)) + size + info)

    def add_veth(self, name: str, peer: str, peer_namespace: int, master: int, mtu: int = 0) -> None:
        """A pair: `name` here, up and in a bridge; `peer` in the namespace behind a descriptor."""
        size = attribute(_IFLA_MTU, struct.pack("I", mtu)) if mtu else b""
        other = (
            _link()
            + attribute(_IFLA_IFNAME, _text(peer))
            + attribute(_IFLA_NET_NS_FD, struct.pack("i", peer_namespace))
            + size
        )
        info = attribute(
            _IFLA_LINKINFO | _NESTED,
            attribute(_INFO_KIND, b"veth")
            + attribute(_INFO_DATA | _NESTED, attribute(_VETH_INFO_PEER | _NESTED, other)),
        )
        here = _link(0, _IFF_UP, _IFF_UP) + attribute(_IFLA_IFNAME, _text(name)) + size
        here += attribute(_IFLA_MASTER, struct.pack("i", master))
        self.request(RTM_NEWLINK, _CREATE | _EXCL, here + info)

    def set_hairpin(self, index: int) -> None:
        """Let a bridge port send a frame back to where it came from: a pod reaching itself through a service."""
        mode = attribute(_IFLA_PROTINFO | _NESTED, attribute(_BRPORT_MODE, b"\1"))
        self.request(RTM_SETLINK, 0, _link(index, family=socket.AF_BRIDGE) + mode)

    def set_up(self, index: int) -> None:
        self.request(RTM_NEWLINK, 0, _link(index, _IFF_UP, _IFF_UP))

    def remove(self, name: str) -> bool:
        """Delete a link by name; whether it was there."""
        index = self.index(name)
        if index:
            self.request(RTM_DELLINK, 0, _link(index))
        return bool(index)

    def add_address(self, index: int, address: Address) -> None:
        """Give a link an address; one that is there already is no error. IPv6 without duplicate detection."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        flags = 0x02 if address.version == 6 else 0  # IFA_F_NODAD
        head = struct.pack("BBBBi", family, address.network.prefixlen, flags, 0, index)
        packed = address.ip.packed
        self.request(RTM_NEWADDR, _CREATE | _REPLACE, head + attribute(2, packed) + attribute(1, packed))

    def add_route(
        self,
        index: int,
        destination: IPv4Network | IPv6Network,
        gateway: IPv4Address | IPv6Address | None = None,
    ) -> None:
        """A route out of a link: direct, or by a gateway on it."""
        family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
        scope = 0 if gateway or destination.version == 6 else 253  # universe, or link
        head = struct.pack("BBBBBBBBI", family, destination.prefixlen, 0, 0, 254, 3, scope, 1, 0)
        body = attribute(1, destination.network_address.packed) if destination.prefixlen else b""
        if gateway:
            body += attribute(5, gateway.packed)
        self.request(RTM_NEWROUTE, _CREATE | _REPLACE, head + body + attribute(4, struct.pack("i", index)))
