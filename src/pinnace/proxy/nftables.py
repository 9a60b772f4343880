"""Services and endpoints as nftables rules: pure functions from a snapshot to the text that `nft -f -` takes.

A table of our own for each address family. Maps lead from (address, protocol, port) to a chain for each service port,
which picks a chain for each endpoint, which rewrites the destination. `difference` turns one ruleset into another in
one transaction and leaves alone what stays, above all the sets that remember clients. The behaviour is that of
https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-mode-nftables; the syntax, of nft(8) 1.0.6 and newer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from pinnace.proxy.endpoints import Choice, Endpoint
from pinnace.proxy.services import ServicePort

_NAME_LIMIT = 127  # bytes in the name of a chain
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9/._-]")
_BY_PORT = "inet_proto . inet_service : verdict"
MARK = "mark-for-masquerade"  # a chain that every table has
CLUSTER_IPS = "cluster-ips"  # a set: every cluster IP that is in use


@dataclass(frozen=True, slots=True)
class Family:
    """How rules speak of one address family."""

    name: str
    word: str  # of tables, and of packets' headers
    type: str  # of addresses
    loopback: str


IPV4 = Family("IPv4", "ip", "ipv4_addr", "127.0.0.0/8")
IPV6 = Family("IPv6", "ip6", "ipv6_addr", "::1")


@dataclass(frozen=True, slots=True)
class RuleOptions:
    """What the rules of one cluster on one machine are confined to."""

    table: str = "pinnace-proxy"
    family: Family = IPV4
    bridge: str = ""  # the pods' bridge on this node
    interfaces: tuple[str, ...] = ()  # heed only packets that come in here, besides this host's own; empty: anywhere
    cluster_cidr: str = ""  # pod addresses of all nodes: traffic from others to cluster IPs is masqueraded
    node_ips: tuple[str, ...] = ()  # node ports are served on these; empty: on every address of this host
    localhost_node_ports: bool = True  # and on 127.0.0.0/8, from this host; of IPv4 alone
    masquerade_bit: int = 14  # of the packet mark
    masquerade_bridged: bool = False  # set where bridged packets do not pass netfilter (no br_netfilter)

    @property
    def qualified(self) -> str:
        """The table with its family, as commands name it."""
        return f"{self.family.word} {self.table}"


def for_ipv6(options: RuleOptions, cluster_cidr: str, node_ips: tuple[str, ...] = ()) -> RuleOptions:
    """The same of IPv6, which has no way from the loopback to anywhere else."""
    return replace(options, family=IPV6, cluster_cidr=cluster_cidr, node_ips=node_ips, localhost_node_ports=False)


@dataclass(slots=True)
class Ruleset:
    """Everything in the table that depends on Services."""

    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)  # name -> rules
    sets: dict[str, str] = field(default_factory=dict)  # name -> declaration
    elements: dict[tuple[str, str], str] = field(default_factory=dict)  # (map or set, key) -> verdict, or ""

    def include(self, other: Ruleset) -> None:
        """Take in another's; where both want one address, the first stays."""
        self.chains.update(other.chains)
        self.sets.update(other.sets)
        for key, verdict in other.elements.items():
            self.elements.setdefault(key, verdict)


def _name(kind: str, key: str) -> str:
    """A readable name for a chain or set, unique through a hash."""
    short = hashlib.sha256(key.encode()).hexdigest()[:8]
    readable = _NOT_IN_NAMES.sub("-", key)
    return f"{kind}-{short}-{readable}"[:_NAME_LIMIT].rstrip("/-")


def _choose_one(port: ServicePort, endpoints: Sequence[Endpoint], family: Family) -> list[str]:
    """Rules that lead to one of the endpoints: the one that knows the client, else any."""
    rules = []
    if port.affinity_seconds:
        rules += [
            f"{family.word} saddr @{_affinity(port, endpoint)} goto {_endpoint_chain(port, endpoint)}"
            for endpoint in endpoints
        ]
    if len(endpoints) == 1:
        return [*rules, f"goto {_endpoint_chain(port, endpoints[0])}"]
    targets = ", ".join(f"{n} : goto {_endpoint_chain(port, endpoint)}" for n, endpoint in enumerate(endpoints))
    return [*rules, f"numgen random mod {len(endpoints)} vmap {{ {targets} }}"]


def _endpoint_chain(port: ServicePort, endpoint: Endpoint) -> str:
    return _name("endpoint", f"{port.key}__{endpoint.ip}/{endpoint.port}")


def _affinity(port: ServicePort, endpoint: Endpoint) -> str:
    # The time is part of the name, for a set cannot change its own.
    return _name("affinity", f"{port.affinity_seconds}-{port.key}__{endpoint.ip}/{endpoint.port}")


def _endpoint_rules(port: ServicePort, endpoint: Endpoint, options: RuleOptions) -> tuple[str, ...]:
    word = options.family.word
    rules = [f"{word} saddr {endpoint.ip} jump {MARK}"]
    if options.masquerade_bridged and options.bridge and endpoint.local:
        rules.append(f'iifname "{options.bridge}" jump {MARK}')
    if port.affinity_seconds:
        rules.append(f"update @{_affinity(port, endpoint)} {{ {word} saddr }}")
    target = f"[{endpoint.ip}]" if options.family is IPV6 else endpoint.ip
    rules.append(f"meta l4proto {port.protocol} dnat to {target}:{endpoint.port}")
    return tuple(rules)


def service_rules(port: ServicePort, choice: Choice, options: RuleOptions) -> Ruleset:
    """The part of the ruleset that one service port needs."""
    made = Ruleset()
    made.elements[CLUSTER_IPS, port.cluster_ip] = ""
    if not choice.cluster and not choice.local:
        _refuse(port, made)
        return made
    for endpoint in sorted({*choice.cluster, *choice.local}):
        made.chains[_endpoint_chain(port, endpoint)] = _endpoint_rules(port, endpoint, options)
        if port.affinity_seconds:
            made.sets[_affinity(port, endpoint)] = (
                f"type {options.family.type}; flags dynamic,timeout; timeout {port.affinity_seconds}s;"
            )
    _internal(port, choice, options, made)
    _external(port, choice, options, made)
    return made


def _refuse(port: ServicePort, made: Ruleset) -> None:
    for address in (port.cluster_ip, *port.external_ips, *port.load_balancer_ips):
        made.elements["no-endpoint-ips", f"{address} . {port.protocol} . {port.port}"] = "goto refuse"
    if port.node_port:
        made.elements["no-endpoint-node-ports", f"{port.protocol} . {port.node_port}"] = "goto refuse"


def _cluster_chain(port: ServicePort, choice: Choice, family: Family, made: Ruleset) -> str:
    """The chain that leads to any endpoint of the cluster."""
    name = _name("service", port.key)
    if name not in made.chains:
        made.chains[name] = tuple(_choose_one(port, choice.cluster, family))
    return name


def _local_chain(port: ServicePort, choice: Choice, family: Family, made: Ruleset) -> str:
    """The chain that leads to endpoints of this node; elsewhere may be some, so nobody is told that there is none."""
    name = _name("local", port.key)
    if name not in made.chains:
        made.chains[name] = tuple(_choose_one(port, choice.local, family)) if choice.local else ("drop",)
    return name


def _internal(port: ServicePort, choice: Choice, options: RuleOptions, made: Ruleset) -> None:
    leads = _local_chain if port.internal_local else _cluster_chain
    target = leads(port, choice, options.family, made)
    name = _name("internal", port.key)
    rules = []
    if options.cluster_cidr:
        rules.append(f"{options.family.word} saddr != {options.cluster_cidr} jump {MARK}")
    made.chains[name] = (*rules, f"goto {target}")
    made.elements["service-ips", f"{port.cluster_ip} . {port.protocol} . {port.port}"] = f"goto {name}"


def _external(port: ServicePort, choice: Choice, options: RuleOptions, made: Ruleset) -> None:
    if not (port.node_port or port.external_ips or port.load_balancer_ips):
        return
    name = _name("external", port.key)
    cluster = _cluster_chain(port, choice, options.family, made)
    if port.external_local:
        rules = []
        if options.cluster_cidr:  # pods and this host are inside: any endpoint will do for them
            rules.append(f"{options.family.word} saddr {options.cluster_cidr} goto {cluster}")
        rules.append(f"fib saddr type local jump {MARK}")
        rules.append(f"fib saddr type local goto {cluster}")
        made.chains[name] = (*rules, f"goto {_local_chain(port, choice, options.family, made)}")
    else:
        made.chains[name] = (f"jump {MARK}", f"goto {cluster}")
    if port.node_port:
        made.elements["service-node-ports", f"{port.protocol} . {port.node_port}"] = f"goto {name}"
    for address in port.external_ips:
        made.elements["service-ips", f"{address} . {port.protocol} . {port.port}"] = f"goto {name}"
    if port.load_balancer_ips:
        balanced = _firewall(port, name, options.family, made) if port.source_ranges else name
        for address in port.load_balancer_ips:
            made.elements["service-ips", f"{address} . {port.protocol} . {port.port}"] = f"goto {balanced}"


def _firewall(port: ServicePort, behind: str, family: Family, made: Ruleset) -> str:
    name = _name("firewall", port.key)
    made.chains[name] = (f"{family.word} saddr != {{ {', '.join(port.source_ranges)} }} drop", f"goto {behind}")
    return name


# The part of the table that depends on the options alone.


def _entering(options: RuleOptions) -> str:
    """A match for packets that come from the pods or wherever else they are heeded, ending in a space."""
    if not options.interfaces:
        return ""
    names = dict.fromkeys((options.bridge, *options.interfaces) if options.bridge else options.interfaces)
    return "iifname { " + ", ".join(f'"{name}"' for name in names) + " } "


def _to_this_host(options: RuleOptions) -> str:
    word, loopback = options.family.word, options.family.loopback
    if not options.node_ips:
        whole = "fib daddr type local"
        return whole if options.localhost_node_ports else f"{word} daddr != {loopback} {whole}"
    addresses = [*options.node_ips, *([loopback] if options.localhost_node_ports else [])]
    return f"{word} daddr {{ {', '.join(addresses)} }}"


def _maps(family: Family) -> dict[str, str]:
    by_ip = f"{family.type} . {_BY_PORT}"
    return {
        "service-ips": by_ip,
        "service-node-ports": _BY_PORT,
        "no-endpoint-ips": by_ip,
        "no-endpoint-node-ports": _BY_PORT,
    }


def base(options: RuleOptions) -> str:
    """The table without any Service, from nothing: what was in it before is gone."""
    bit = 1 << options.masquerade_bit
    mark, without = f"0x{bit:x}", f"0x{~bit & 0xFFFFFFFF:x}"
    entering, here, table = _entering(options), _to_this_host(options), options.qualified
    word, loopback = options.family.word, options.family.loopback
    maps = "\n".join(f"\tmap {name} {{ type {kind}; }}" for name, kind in _maps(options.family).items())
    lookup = "meta l4proto . th dport vmap"
    return f"""add table {table}
delete table {table}
table {table} {{
{maps}
	set {CLUSTER_IPS} {{ type {options.family.type}; }}

	# route_localnet, which node ports on 127.0.0.1 need, must not open this host's loopback to others
	chain guard-loopback {{
		type filter hook prerouting priority -300; policy accept;
		iifname != "lo" {entering}{word} daddr {loopback} drop
	}}

	# before the destination is rewritten: services that have nobody to answer
	chain filter-prerouting {{
		type filter hook prerouting priority -110; policy accept;
		{entering}ct state new jump no-endpoints
	}}
	chain filter-output {{
		type filter hook output priority -110; policy accept;
		ct state new jump no-endpoints
	}}
	chain no-endpoints {{
		{word} daddr . {lookup} @no-endpoint-ips
		{here} {lookup} @no-endpoint-node-ports
	}}
	chain refuse {{
		reject
	}}

	# the rewriting
	chain nat-prerouting {{
		type nat hook prerouting priority -100; policy accept;
		{entering}jump services
	}}
	chain nat-output {{
		type nat hook output priority -100; policy accept;
		jump services
	}}
	chain services {{
		{word} daddr . {lookup} @service-ips
		{here} {lookup} @service-node-ports
	}}

	# after it: what is still meant for a cluster IP asks for a port that no service has
	chain leftover-prerouting {{
		type filter hook prerouting priority -90; policy accept;
		{entering}{word} daddr @{CLUSTER_IPS} reject
	}}
	chain leftover-output {{
		type filter hook output priority -90; policy accept;
		{word} daddr @{CLUSTER_IPS} reject
	}}

	chain {MARK} {{
		meta mark set meta mark | {mark}
	}}
	chain nat-postrouting {{
		type nat hook postrouting priority 100; policy accept;
		meta mark & {mark} == 0 return
		meta mark set meta mark & {without}
		masquerade fully-random
	}}
}}
"""


def difference(old: Ruleset, new: Ruleset, options: RuleOptions) -> str:
    """A transaction that turns `old` into `new`; empty where nothing changes."""
    table = options.qualified
    lines = [f"add chain {table} {name}" for name in new.chains if name not in old.chains]
    lines += [f"add set {table} {name} {{ {kind} }}" for name, kind in new.sets.items() if name not in old.sets]
    for name, rules in new.chains.items():
        if old.chains.get(name) == rules:
            continue
        if name in old.chains:
            lines.append(f"flush chain {table} {name}")
        lines += [f"add rule {table} {name} {rule}" for rule in rules]
    gone = [key for key, verdict in old.elements.items() if new.elements.get(key) != verdict]
    come = [key for key, verdict in new.elements.items() if old.elements.get(key) != verdict]
    lines += _element_lines("delete", table, gone, None)
    lines += _element_lines("add", table, come, new)
    removed = [name for name in old.chains if name not in new.chains]
    lines += [f"flush chain {table} {name}" for name in removed]
    lines += [f"delete chain {table} {name}" for name in removed]
    lines += [f"delete set {table} {name}" for name in old.sets if name not in new.sets]
    return "".join(f"{line}\n" for line in lines)


def _element_lines(verb: str, table: str, keys: Iterable[tuple[str, str]], values: Ruleset | None) -> list[str]:
    by_map: dict[str, list[str]] = {}
    for name, key in keys:
        verdict = values.elements[name, key] if values else ""
        by_map.setdefault(name, []).append(f"{key} : {verdict}" if verdict else key)
    return [f"{verb} element {table} {name} {{ {', '.join(elements)} }}" for name, elements in by_map.items()]
