"""Kubernetes' IP addresses and CIDRs. https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-ip-address-library."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import ClassVar

from pinnace.machinery.cel.functions import Functions
from pinnace.machinery.cel.types import Type, opaque
from pinnace.machinery.cel.values import CelError, Opaque

function = Functions(since=30)
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Ip(Opaque):
    address: _Address
    cel_type: ClassVar[Type] = opaque("net.IP")

    def __str__(self) -> str:
        return str(self.address)


@dataclass(frozen=True)
class Cidr(Opaque):
    address: _Address  # as it was written, not masked
    bits: int
    cel_type: ClassVar[Type] = opaque("net.CIDR")

    def __str__(self) -> str:
        return f"{self.address}/{self.bits}"

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        return ipaddress.ip_network((self.address, self.bits), strict=False)


def _read_ip(text: str) -> Ip:
    """Raises ValueError, also for a zone and for IPv4 written as IPv6."""
    address = ipaddress.ip_address(text)
    if "%" in text:
        raise ValueError("IP address with zone value is not allowed")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError("IPv4-mapped IPv6 address is not allowed")
    return Ip(address)


def _read_cidr(text: str) -> Cidr:
    host, slash, bits = text.partition("/")
    address = _read_ip(host).address
    if not slash or not bits.isdigit() or (len(bits) > 1 and bits[0] == "0") or int(bits) > address.max_prefixlen:
        raise ValueError("no such prefix")
    return Cidr(address, int(bits))


@function("ip(string): net.IP")
def ip(text: str) -> Ip:
    try:
        return _read_ip(text)
    except ValueError as error:
        why = f": {error}" if "not allowed" in str(error) else ""
        raise CelError(f'IP Address "{text}" parse error during conversion from string{why}') from None


@function("cidr(string): net.CIDR")
def cidr(text: str) -> Cidr:
    try:
        return _read_cidr(text)
    except ValueError:
        raise CelError(
            f'network address parse error during conversion from string: netip.ParsePrefix("{text}")'
        ) from None


@function("isIP(string): bool")
def _is_ip(text: str) -> bool:
    try:
        _read_ip(text)
    except ValueError:
        return False
    return True


@function("isCIDR(string): bool")
def _is_cidr(text: str) -> bool:
    try:
        _read_cidr(text)
    except ValueError:
        return False
    return True


function("ip.isCanonical(string): bool")(lambda text: str(ip(text)) == text)
function("string(net.IP): string", "string(net.CIDR): string")(str)
function("(net.IP).family(): int")(lambda one: one.address.version)
function("(net.IP).isUnspecified(): bool")(lambda one: one.address.is_unspecified)
function("(net.IP).isLoopback(): bool")(lambda one: one.address.is_loopback)
function("(net.IP).isLinkLocalUnicast(): bool")(lambda one: one.address.is_link_local)


@function("(net.IP).isLinkLocalMulticast(): bool")
def _is_link_local_multicast(one: Ip) -> bool:
    scope = "224.0.0.0/24" if one.address.version == 4 else "ff02::/16"
    return one.address in ipaddress.ip_network(scope)


@function("(net.IP).isGlobalUnicast(): bool")
def _is_global_unicast(one: Ip) -> bool:
    address = one.address
    special = address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    return not special and str(address) != "255.255.255.255"


@function("(net.CIDR).containsIP(net.IP): bool", "(net.CIDR).containsIP(string): bool")
def _contains_ip(one: Cidr, address: Ip | str) -> bool:
    found = ip(address).address if isinstance(address, str) else address.address
    return found in one.network


@function("(net.CIDR).containsCIDR(net.CIDR): bool", "(net.CIDR).containsCIDR(string): bool")
def _contains_cidr(one: Cidr, other: Cidr | str) -> bool:
    found = cidr(other) if isinstance(other, str) else other
    return found.bits >= one.bits and found.address in one.network


function("(net.CIDR).ip(): net.IP")(lambda one: Ip(one.address))
function("(net.CIDR).masked(): net.CIDR")(lambda one: Cidr(one.network.network_address, one.bits))
function("(net.CIDR).prefixLength(): int")(lambda one: one.bits)
