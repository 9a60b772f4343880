"""kube-proxy: watches Services and EndpointSlices and keeps the node's nftables rules in step.

Deciding is pure (`services`, `endpoints`, `nftables`); this shell gathers, applies one transaction at a time and tries
again when the kernel refuses. A change that comes alone is applied at once, those of a burst together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path

import structlog

from pinnace.apis.builtin import NEWEST
from pinnace.apis.resources import ENDPOINT_SLICES, SERVICES
from pinnace.client.client import Client
from pinnace.client.informer import InformerFactory
from pinnace.machinery.duration import go_duration
from pinnace.machinery.features import FeatureGates
from pinnace.machinery.meta import GVR, Obj, labels_of, namespace_of
from pinnace.proxy import conntrack
from pinnace.proxy.endpoints import Choice, choose, endpoints_of
from pinnace.proxy.health import HealthServers, ProxyHealth, service_health
from pinnace.proxy.measures import Measures
from pinnace.proxy.nftables import MARK, RuleOptions, Ruleset, base, difference, service_rules
from pinnace.proxy.observing import Observer
from pinnace.proxy.services import ServicePort, is_ours, service_ports
from pinnace.wire.server import serve

_log = structlog.get_logger()

_SERVICE_LABEL = "kubernetes.io/service-name"
_RETRY = 1.0  # seconds after the kernel refused a transaction
_CHECK = 30.0  # seconds between looks whether somebody has flushed our table
_BRIDGE_NETFILTER = {
    "IPv4": Path("/proc/sys/net/bridge/bridge-nf-call-iptables"),
    "IPv6": Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
}


class ApplyError(Exception):
    """nft refused a transaction; its words."""


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """How one node's proxy works."""

    rules: RuleOptions = field(default_factory=RuleOptions)
    rules6: RuleOptions | None = None  # of IPv6; without, Services have no addresses of it here
    profiling: bool = False  # whether /debug/pprof/ is served beside /metrics
    flags: Mapping[str, str] = field(default_factory=dict)  # as they were given or are by default, for /flagz
    features: FeatureGates = field(default_factory=lambda: FeatureGates(NEWEST))
    service_cidrs: Sequence[str] = ()  # given with a bridge: routed there, so that this host reaches cluster IPs
    min_sync_interval: float = 0.05  # seconds between transactions
    healthz: tuple[str, int] | None = None  # where `/healthz` is served; kube-proxy's port is 10256
    metrics: tuple[str, int] | None = None  # where `/metrics` is served; kube-proxy's port is 10249
    nft: tuple[str, ...] = ("nft",)

    @property
    def tables(self) -> dict[str, RuleOptions]:
        """The rules of each family that is served."""
        return {rules.family.name: rules for rules in (self.rules, self.rules6) if rules is not None}


def configuration(options: ProxyOptions, node_name: str) -> Obj:
    """The KubeProxyConfiguration that the options come to, as /configz shows it: its names as Go has them."""

    def address(pair: tuple[str, int] | None) -> str:
        return f"{pair[0]}:{pair[1]}" if pair else ""

    ranges = [rules.cluster_cidr for rules in options.tables.values() if rules.cluster_cidr]
    return {
        "DetectLocal": {"BridgeInterface": options.rules.bridge, "ClusterCIDRs": ranges},
        "DetectLocalMode": "BridgeInterface",
        "EnableProfiling": options.profiling,
        "FeatureGates": dict(options.features.chosen),
        "HealthzBindAddress": address(options.healthz),
        "HostnameOverride": node_name,
        "MetricsBindAddress": address(options.metrics),
        "MinSyncPeriod": go_duration(options.min_sync_interval),
        "Mode": "nftables",
        "SyncPeriod": go_duration(_CHECK),
    }


def snapshot(
    services: Iterable[Obj], slices: Iterable[Obj], node_name: str, families: Iterable[str] = ("IPv4",)
) -> dict[ServicePort, Choice]:
    """Every service port with the endpoints its traffic may go to, in a stable order."""
    by_service: dict[str, list[Obj]] = {}
    for piece in sorted(slices, key=lambda piece: str(piece["metadata"]["name"])):
        if is_ours(piece):
            for key in _service_of(piece):
                by_service.setdefault(key, []).append(piece)
    found: dict[ServicePort, Choice] = {}
    for service, family in product(services, families):
        for port in service_ports(service, family):
            pieces = by_service.get(f"{port.namespace}/{port.name}", ())
            found[port] = choose(endpoints_of(pieces, port.port_name, port.protocol, node_name, family))
    return dict(sorted(found.items(), key=lambda item: item[0].key))


def _service_of(piece: Obj) -> tuple[str, ...]:
    name = labels_of(piece).get(_SERVICE_LABEL)
    return (f"{namespace_of(piece)}/{name}",) if name else ()


class Proxier:
    """The proxy of one node, in the network namespace of this process."""

    def __init__(
        self,
        client: Client,
        node_name: str,
        options: ProxyOptions | None = None,
        informers: InformerFactory | None = None,
    ) -> None:
        self.options = options or ProxyOptions()
        self._node_name = node_name
        self._own_informers = informers is None
        self._informers = informers or InformerFactory(client)
        self._services = self._informers.informer(SERVICES)
        self._slices = self._informers.informer(ENDPOINT_SLICES)
        self._changed = asyncio.Event()
        self._state: dict[ServicePort, Choice] = {}  # what the rules in the kernel say
        self._pieces: dict[ServicePort, tuple[Choice, Ruleset]] = {}  # rules made before, to be used again
        self._applied: dict[str, Ruleset] | None = None  # by family; None: the kernel's are not ours yet, or in doubt
        self._routed = False
        self._closed = self._loopback_settings()  # of interfaces that node ports on 127.0.0.1 still need opened
        self._health = ProxyHealth()
        self.measures = Measures()
        self._health_ports = HealthServers()
        self.synced = asyncio.Event()  # set once the first rules stand; for tests and health

    async def run(self) -> None:
        """Keep the rules until cancelled. They stay in the kernel then: traffic flows on while the proxy restarts."""
        for resource, informer in ((SERVICES, self._services), (ENDPOINT_SLICES, self._slices)):
            touch = partial(self._touch, resource)
            informer.add_handler(added=partial(touch, None), updated=touch, deleted=partial(touch, None))
        if self._own_informers:
            self._informers.start()
        own = self.options.healthz
        server = await serve(self._health.handle, [own]) if own else None
        told = self.options.metrics
        observer = await serve(self._observer().handle, [told]) if told else None
        try:
            await self._services.wait_synced()
            await self._slices.wait_synced()
            await self._see_to_bridge()
            self._changed.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow())
                group.create_task(self._watch_table())
        finally:
            for each in (server, observer):
                if each is not None:
                    await each.close(0)
            await self._health_ports.close()
            if self._own_informers:
                await self._informers.stop()

    def _observer(self) -> Observer:
        options = self.options
        return Observer(
            options.features,
            self.measures.families,
            flags=options.flags,
            configuration=lambda: configuration(options, self._node_name),
            profiled=options.profiling,
        )

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            started = time.monotonic()
            triggers = self.measures.taken()
            try:
                await self.sync()
                self.measures.synced(time.monotonic() - started, triggers, self._state.items())
            except ApplyError as error:
                self.measures.failed(triggers)
                _log.warning("cannot apply rules", error=str(error))
                if self._applied is None:
                    await asyncio.sleep(_RETRY)
                self._applied = None  # from nothing, next time
                self._changed.set()
            await asyncio.sleep(max(0.0, self.options.min_sync_interval - (time.monotonic() - started)))

    async def _watch_table(self) -> None:
        """Put the rules back when another program has flushed them, as firewalls do when they reload.

        The bridge comes with the first pod, maybe long after the last change of a Service.
        """
        while True:
            await asyncio.sleep(_CHECK)
            if not self._routed:
                self._routed = await self._route_services()
            for rules in self.options.tables.values():
                if not await self._run(*self.options.nft, "list", "chain", *rules.qualified.split(), MARK):
                    self._applied = None
                    self._changed.set()

    def _touch(self, resource: GVR, old: Obj | None, new: Obj) -> None:
        self._health.changed()
        self.measures.changed(resource, old, new)
        self._changed.set()

    async def sync(self) -> None:
        """Make the rules what the informers know now; ApplyError where the kernel refuses."""
        tables = self.options.tables
        state = snapshot(self._services.store.list(), self._slices.store.list(), self._node_name, tables)
        wanted = self._rulesets(state)
        text = ""
        for family, rules in tables.items():
            if self._applied is None:
                text += base(rules) + difference(Ruleset(), wanted[family], rules)
            else:
                text += difference(self._applied[family], wanted[family], rules)
        if text:
            await self._nft(text)
            _log.debug("rules applied", services=len(state), bytes=len(text))
        flows = conntrack.stale(self._state, state)
        self._applied, self._state = wanted, state
        self._health.applied()
        await self._health_ports.update(service_health(self._services.store.list(), state))
        if flows:
            await self._forget(flows)
        if not self._routed:
            self._routed = await self._route_services()
        self._closed = [setting for setting in self._closed if not _write_one(setting)]
        self.synced.set()

    def _rulesets(self, state: Mapping[ServicePort, Choice]) -> dict[str, Ruleset]:
        """The rules of each family."""
        pieces: dict[ServicePort, tuple[Choice, Ruleset]] = {}
        tables = self.options.tables
        whole = {family: Ruleset() for family in tables}
        for port, choice in state.items():
            known = self._pieces.get(port)
            made = known[1] if known and known[0] == choice else service_rules(port, choice, tables[port.family])
            pieces[port] = choice, made
            whole[port.family].include(made)
        self._pieces = pieces
        return whole

    async def cleanup(self) -> None:
        """Take the tables, and the routes to cluster IPs, away; idempotent."""
        await remove_rules(self.options)
        bridge = self.options.rules.bridge
        if self._routed and bridge:
            for cidr in self.options.service_cidrs:
                await self._run("ip", _of(cidr), "route", "del", cidr, "dev", bridge)
        self._applied, self._state, self._pieces, self._routed = None, {}, {}, False

    # The kernel.

    async def _nft(self, text: str) -> None:
        await _apply(self.options.nft, text)

    async def _run(self, *command: str) -> bool:
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
            )
        except OSError:
            return False
        return await process.wait() == 0

    async def _route_services(self) -> bool:
        """Lead cluster IPs to the bridge; whether that is settled. The bridge may come later than the proxy."""
        bridge = self.options.rules.bridge
        if not bridge:
            return True
        settled = [
            await self._run("ip", _of(cidr), "route", "replace", cidr, "dev", bridge)
            for cidr in self.options.service_cidrs
        ]
        return all(settled)

    async def _see_to_bridge(self) -> None:
        """Have bridged packets pass netfilter: else the answer of one pod to another would keep the wrong address.

        Where that cannot be, such traffic is masqueraded, so that the answer comes by way of this host.
        """
        if not self.options.rules.bridge:
            return
        if not _BRIDGE_NETFILTER["IPv4"].exists():
            await self._run("modprobe", "br_netfilter")
        rules, rules6 = (
            self._filtered_or_masqueraded(one) if one is not None else None
            for one in (self.options.rules, self.options.rules6)
        )
        self.options = replace(self.options, rules=rules or self.options.rules, rules6=rules6)

    def _filtered_or_masqueraded(self, rules: RuleOptions) -> RuleOptions:
        try:
            _BRIDGE_NETFILTER[rules.family.name].write_text("1")
        except OSError as error:
            _log.info("bridged packets pass netfilter by; masquerading instead", error=error.strerror)
            return replace(rules, masquerade_bridged=True)
        return rules

    def _loopback_settings(self) -> list[Path]:
        """What lets packets from 127.0.0.1 leave this host once their destination is rewritten; the table guards it."""
        rules = self.options.rules
        if not rules.localhost_node_ports:
            return []
        names = dict.fromkeys((rules.bridge, *rules.interfaces)) if rules.interfaces else {"all": None}
        return [Path("/proc/sys/net/ipv4/conf") / name / "route_localnet" for name in names if name]

    async def _forget(self, flows: list[conntrack.StaleFlows]) -> None:
        try:
            count = await asyncio.to_thread(conntrack.forget, flows)
        except Exception as error:  # netlink without the conntrack module: UDP clients wait for their time-out
            _log.info("cannot forget stale UDP flows", error=str(error))
        else:
            if count:
                _log.debug("stale UDP flows forgotten", count=count)


async def remove_rules(options: ProxyOptions) -> None:
    """Take a proxy's tables away, whether it runs or not. Raises ApplyError."""
    tables = [rules.qualified for rules in options.tables.values()]
    await _apply(options.nft, "".join(f"add table {table}\ndelete table {table}\n" for table in tables))


async def _apply(nft: tuple[str, ...], text: str) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *nft, "-f", "-", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise ApplyError(f"cannot run {nft[0]}: {error.strerror}") from error
    _, errors = await process.communicate(text.encode())
    if process.returncode:
        raise ApplyError(errors.decode(errors="replace").strip()[:2000])


def _of(cidr: str) -> str:
    """The option of ip(8) for a range's family."""
    return "-6" if ":" in cidr else "-4"


def _write_one(setting: Path) -> bool:
    """Switch a kernel setting on; whether that is settled. Its interface may come later than the proxy."""
    try:
        setting.write_text("1")
    except FileNotFoundError:
        return False
    except OSError as error:
        _log.info("no node ports on 127.0.0.1", setting=str(setting), error=error.strerror)
    return True
