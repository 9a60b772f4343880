"""The built-in pod network: a bridge per node, a veth pair per pod, addresses from files, masquerading by nftables.

ADD and DEL have CNI 1.0's shape (container id, namespace path, interface name; a result with addresses and routes). A
pod holds its address as a /32 (or /128) with the gateway as its only neighbour, so that pods on one node also talk by
way of its routing: connection tracking then sees both directions of a service's traffic without br_netfilter. Relies
on rtnetlink and on the `nft` program; https://www.cni.dev/docs/spec/ and host-local's behaviour specify the rest.
"""

# ruff: noqa: PTH123
# Descriptors, mounts and /proc files: `os` is the interface here, and pathlib would cost memory in every container.
from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from pinnace.cri.api import PodSandboxMetadata, PortMapping
from pinnace.cri.engine import _syscalls as sys_
from pinnace.cri.engine import firewall
from pinnace.cri.engine._netlink import Netlink

_HAIRPIN_MARK = 0x2000  # the bit that CNI's portmap plugin uses

T = TypeVar("T")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class NetworkError(Exception):
    """A pod's network cannot be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """Names and ranges, different for every engine on a machine."""

    bridge: str = "pinnace0"
    table: str = "pinnace"  # nftables, family inet
    subnets: Sequence[str] = ()  # of this node's pods (its podCIDRs); none: not ready until `configure`
    cluster_cidrs: Sequence[str] = ()  # pods of all nodes: not masqueraded between each other
    mtu: int = 0  # 0: that of the interface with the default route


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkResult:
    """CNI's result as far as it is used."""

    interface: str
    host_interface: str
    ips: list[str] = field(default_factory=list)  # without prefix length
    gateways: list[str] = field(default_factory=list)


def in_namespace(path: str, work: Callable[[], T]) -> T:
    """Do something in a network namespace, in a thread of its own; what it raises is raised here."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def visit() -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                sys_.setns(fd, sys_.CLONE_NEWNET)
            finally:
                os.close(fd)
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=visit, name="netns", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


class PodNetwork(Protocol):
    """What gives sandboxes their network; blocking, to be called in threads. Calls may overlap."""

    @property
    def configured(self) -> bool:
        """Whether it can."""

    def configure(self, subnets: Sequence[str]) -> None:
        """The node's pod ranges, once they are known."""

    def restore(self, mappings: Mapping[str, tuple[list[str], list[PortMapping]]]) -> None:
        """Host ports of the sandboxes that are there already, after a restart."""

    def add(
        self,
        container_id: str,
        netns: str,
        interface: str = "eth0",
        ports: Sequence[PortMapping] = (),
        pod: PodSandboxMetadata | None = None,
    ) -> NetworkResult:
        """CNI ADD. Undone as a whole if it fails. Raises NetworkError."""

    def remove(self, container_id: str) -> None:
        """CNI DEL; idempotent."""

    def destroy(self) -> None:
        """Remove what belongs to no sandbox."""


class Addresses:
    """host-local address management: a file for every address in use, holding the sandbox's id."""

    def __init__(self, directory: Path, subnet: Network) -> None:
        self._directory = directory / str(subnet).replace("/", "_").replace(":", "-")
        self._directory.mkdir(parents=True, exist_ok=True)
        self._subnet = subnet

    @staticmethod
    def subnet_of(name: str) -> str:
        """The range whose addresses are in a directory of that name."""
        return name.replace("_", "/").replace("-", ":")

    @property
    def gateway(self) -> IPAddress:
        return self._subnet.network_address + 1

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self._directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def allocate(self, owner: str) -> IPAddress:
        """The next free address after the last one given, so that one is not soon used again."""
        usable = min(self._subnet.num_addresses - 3, 1 << 16)  # not the network, the gateway, the broadcast
        with self._locked():
            last_file = self._directory / "last"
            try:
                last = int(last_file.read_text())
            except (OSError, ValueError):
                last = -1
            for step in range(1, usable + 1):
                number = (last + step) % usable
                address = self._subnet.network_address + 2 + number
                file = self._directory / self._name(address)
                if file.exists() and file.stat().st_size:  # one that a power failure has left empty is nobody's
                    continue
                written = self._directory / "new"  # whoever is killed here leaves no address without an owner
                written.write_text(owner)
                written.rename(file)
                last_file.write_text(str(number))
                return address
        raise NetworkError(f"no IP addresses available in range set: {self._subnet}")

    @staticmethod
    def _name(address: IPAddress) -> str:
        return str(address).replace(":", "-")

    def release(self, owner: str) -> None:
        """Give back what a sandbox holds; idempotent."""
        with self._locked():
            for entry in self._directory.iterdir():
                if entry.name not in ("lock", "last", "new") and entry.read_text() == owner:
                    entry.unlink()


def rules(options: NetworkOptions, mappings: Mapping[str, tuple[Sequence[str], Sequence[PortMapping]]]) -> str:
    """The nftables script for the whole table: masquerading, and host ports of sandboxes (id -> IPs, mappings)."""
    table = f"table inet {options.table}"
    lines = [table, f"delete {table}", f"{table} {{"]
    forwards = [line for ips, ports in mappings.values() for line in _port_rules(ips, ports)]
    lines += ["\tchain hostports {", *(f"\t\t{line}" for line in forwards), "\t}"]
    for hook, priority in (("prerouting", -101), ("output", -101)):
        lines += [
            f"\tchain {hook} {{",
            f"\t\ttype nat hook {hook} priority {priority}; policy accept;",
            "\t\tfib daddr type local jump hostports",
            "\t}",
        ]
    lines += ["\tchain postrouting {", "\t\ttype nat hook postrouting priority 99; policy accept;"]
    lines.append(f"\t\tmeta mark & {_HAIRPIN_MARK:#x} != 0 masquerade")
    for subnet in options.subnets:
        family = "ip6" if ":" in subnet else "ip"
        inside = [cidr for cidr in options.cluster_cidrs if (":" in cidr) == (":" in subnet)] or [subnet]
        lines.append(
            f"\t\t{family} saddr {subnet} {family} daddr != {{ {', '.join(inside)} }} "
            f"{family} daddr != {'ff00::/8' if family == 'ip6' else '224.0.0.0/4'} masquerade"
        )
        if family == "ip":
            lines.append(f'\t\tip saddr 127.0.0.0/8 oifname "{options.bridge}" masquerade')
    return "\n".join([*lines, "\t}", "}", ""])


def _port_rules(ips: Sequence[str], ports: Sequence[PortMapping]) -> list[str]:
    found = []
    for ip in ips:
        six = ":" in ip
        family, target = ("ip6", f"[{ip}]") if six else ("ip", ip)
        for port in ports:
            if not port.host_port or (port.host_ip and (":" in port.host_ip) != six):
                continue
            host = f"{family} daddr {port.host_ip} " if port.host_ip not in ("", "0.0.0.0", "::") else ""
            match = f"meta nfproto {'ipv6' if six else 'ipv4'} {host}{port.protocol.lower()} dport {port.host_port}"
            # A pod that reaches itself by its host port must not see its own address as the sender.
            found.append(f"{family} saddr {ip} {match} meta mark set meta mark | {_HAIRPIN_MARK:#x}")
            found.append(f"{match} dnat {family} to {target}:{port.container_port}")
    return found


def _nft(script: str) -> None:
    done = subprocess.run(["nft", "-f", "-"], input=script.encode(), capture_output=True, check=False)
    if done.returncode:
        raise NetworkError(f"nft: {done.stderr.decode(errors='replace').strip()}")


def _default_mtu() -> int:
    """The packet size of the interface with the default route, 1500 without one."""
    import socket
    import struct

    with contextlib.suppress(OSError, IndexError, StopIteration), open("/proc/net/route") as file:
        name = next(fields[0] for fields in map(str.split, file) if fields[1] == "00000000")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            answer = fcntl.ioctl(probe, 0x8921, struct.pack("16s16x8x", name.encode()))  # SIOCGIFMTU
        mtu: int = struct.unpack_from("i", answer, 16)[0]
        return mtu
    return 1500


def _sysctl(name: str, value: str) -> None:
    """Set a kernel parameter where there is one and it differs."""
    path = f"/proc/sys/{name}"
    with contextlib.suppress(FileNotFoundError):
        with open(path) as file:
            if file.read().strip() == value:
                return
        with open(path, "w") as file:
            file.write(value)


class BridgeNetwork:
    """The network of one engine; blocking, to be called in threads. Calls may overlap."""

    def __init__(self, directory: Path, options: NetworkOptions) -> None:
        self._directory = directory
        self.options = options
        self._lock = threading.Lock()
        self._ready = False
        self._mappings: dict[str, tuple[list[str], list[PortMapping]]] = {}

    @property
    def configured(self) -> bool:
        return bool(self.options.subnets)

    def configure(self, subnets: Sequence[str]) -> None:
        """The node's pod ranges, once they are known."""
        if list(subnets) == list(self.options.subnets):
            return
        current = self.options
        self.options = NetworkOptions(
            bridge=current.bridge,
            table=current.table,
            subnets=tuple(subnets),
            cluster_cidrs=current.cluster_cidrs,
            mtu=current.mtu,
        )
        self._ready = False

    def restore(self, mappings: Mapping[str, tuple[list[str], list[PortMapping]]]) -> None:
        """Host ports of the sandboxes that are there already, after a restart."""
        self._mappings.update(mappings)

    def _mtu(self) -> int:
        return self.options.mtu or _default_mtu()

    def _pools(self) -> list[Addresses]:
        return [Addresses(self._directory, ipaddress.ip_network(subnet)) for subnet in self.options.subnets]

    def _kept_pools(self) -> list[Addresses]:
        """Those of any range, also of one that a predecessor had: an engine that starts does not know its own yet."""
        if not self._directory.is_dir():
            return []
        found = []
        for entry in self._directory.iterdir():
            with contextlib.suppress(ValueError):
                found.append(Addresses(self._directory, ipaddress.ip_network(Addresses.subnet_of(entry.name))))
        return found

    def _ensure(self, link: Netlink) -> int:
        """The bridge's index; the bridge, its addresses, the sysctls and the rules are made where they are missing."""
        with self._lock:
            index = link.index(self.options.bridge)
            if index and self._ready:
                return index
            if not index:
                with contextlib.suppress(FileExistsError):
                    link.add_bridge(self.options.bridge, self._mtu())
                index = link.index(self.options.bridge)
            _sysctl("net/ipv4/ip_forward", "1")
            for name, value in (("route_localnet", "1"), ("send_redirects", "0"), ("rp_filter", "2")):
                _sysctl(f"net/ipv4/conf/{self.options.bridge}/{name}", value)
            _sysctl(f"net/ipv6/conf/{self.options.bridge}/accept_dad", "0")
            link.set_up(index)
            for subnet in self.options.subnets:
                network = ipaddress.ip_network(subnet)
                if network.version == 6:
                    _sysctl("net/ipv6/conf/all/forwarding", "1")
                gateway = ipaddress.ip_interface(f"{network.network_address + 1}/{network.prefixlen}")
                link.add_address(index, gateway)
            _nft(rules(self.options, self._mappings))
            families = {"ip6" if ":" in subnet else "ip" for subnet in self.options.subnets}
            firewall.let_through(self.options.bridge, self.options.table, families)
            self._ready = True
            return index

    def prepare(self) -> None:
        """Make what all pods share, before there are any. Raises NetworkError, OSError."""
        with Netlink() as link:
            self._ensure(link)

    def add(
        self,
        container_id: str,
        netns: str,
        interface: str = "eth0",
        ports: Sequence[PortMapping] = (),
        pod: PodSandboxMetadata | None = None,  # noqa: ARG002  (for plugins)
    ) -> NetworkResult:
        """CNI ADD: an interface with an address in a namespace. Undone as a whole if it fails."""
        if not self.configured:
            raise NetworkError("cni plugin not initialized")
        host = f"veth{container_id[:11]}"
        try:
            with Netlink() as link:
                bridge = self._ensure(link)
                addresses = [(pool.allocate(container_id), pool.gateway) for pool in self._pools()]
                namespace = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    link.add_veth(host, interface, namespace, bridge, self._mtu())
                finally:
                    os.close(namespace)
                link.set_hairpin(link.index(host))
            in_namespace(netns, lambda: _configure_inside(interface, addresses))
            ips = [str(ip) for ip, _ in addresses]
            if any(port.host_port for port in ports):
                self.map_ports(container_id, ips, list(ports))
        except OSError as error:
            self.remove(container_id)
            raise NetworkError(f"setting up the network of a sandbox: {error.strerror}") from error
        except BaseException:
            self.remove(container_id)
            raise
        return NetworkResult(
            interface=interface, host_interface=host, ips=ips, gateways=[str(gateway) for _, gateway in addresses]
        )

    def remove(self, container_id: str) -> None:
        """CNI DEL: the interface, its address and its host ports; idempotent."""
        with Netlink() as link, contextlib.suppress(OSError):
            link.remove(f"veth{container_id[:11]}")
        self.unmap_ports(container_id)
        for pool in self._kept_pools():
            pool.release(container_id)

    def map_ports(self, container_id: str, ips: list[str], ports: list[PortMapping]) -> None:
        """Lead host ports to a sandbox."""
        with self._lock:
            self._mappings[container_id] = (ips, ports)
            _nft(rules(self.options, self._mappings))

    def unmap_ports(self, container_id: str) -> None:
        """Lead its host ports nowhere; idempotent."""
        with self._lock:
            if self._mappings.pop(container_id, None) is not None:
                _nft(rules(self.options, self._mappings))

    def destroy(self) -> None:
        """Remove the bridge, the table and what leads through the machine's firewall."""
        with Netlink() as link, contextlib.suppress(OSError):
            link.remove(self.options.bridge)
        table = f"table inet {self.options.table}"
        with contextlib.suppress(NetworkError):
            _nft(f"{table}\ndelete {table}\n")
        firewall.forget(self.options.bridge, self.options.table)
        self._ready = False


def _configure_inside(interface: str, addresses: list[tuple[IPAddress, IPAddress]]) -> None:
    with Netlink() as link:
        index = link.index(interface)
        if any(address.version == 6 for address, _ in addresses):
            _sysctl(f"net/ipv6/conf/{interface}/accept_dad", "0")  # nobody else has it, and asking takes two seconds
        link.set_up(index)
        for address, gateway in addresses:
            whole = address.max_prefixlen
            link.add_address(index, ipaddress.ip_interface(f"{address}/{whole}"))
            link.add_route(index, ipaddress.ip_network(f"{gateway}/{whole}"))
            link.add_route(index, ipaddress.ip_network("0.0.0.0/0" if address.version == 4 else "::/0"), gateway)


def bring_loopback_up(netns: str) -> None:
    """Every sandbox has a loopback that works."""

    def work() -> None:
        with Netlink() as link:
            link.set_up(1)

    try:
        in_namespace(netns, work)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise NetworkError(f"loopback: {error.strerror}") from error
        raise NetworkError("loopback: the sandbox's network namespace is gone") from error
