"""How the proxy keeps up: what changed, how long rules took, how old a change of endpoints was when the kernel had it.

Names, labels and bounds are kube-proxy's (https://kubernetes.io/docs/reference/instrumentation/metrics/).
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from pinnace.apis.resources import ENDPOINT_SLICES, SERVICES
from pinnace.machinery.meta import GVR, Obj, annotations_of, key_of, parse_time
from pinnace.machinery.metrics import Counter, Family, Gauge, Histogram
from pinnace.proxy.endpoints import Choice
from pinnace.proxy.services import ServicePort

TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
_SYNC_SECONDS = tuple(0.001 * 2**power for power in range(15))
_PROGRAMMING_SECONDS = (
    *(0.25, 0.5),
    *(float(second) for second in range(1, 60)),
    *(60.0 + 5 * step for step in range(12)),
    *(120.0 + 30 * step for step in range(7)),
)
_NAMES = {SERVICES: "service", ENDPOINT_SLICES: "endpoint"}


class Measures:
    def __init__(self) -> None:
        prefix = "kubeproxy_sync_proxy_rules"
        self._seconds = Histogram(f"{prefix}_duration_seconds", "SyncProxyRules latency in seconds", (), _SYNC_SECONDS)
        self._programming = Histogram(
            "kubeproxy_network_programming_duration_seconds",
            "In Cluster Network Programming Latency in seconds",
            (),
            _PROGRAMMING_SECONDS,
        )
        self._last = Gauge(f"{prefix}_last_timestamp_seconds", "The last time proxy rules were successfully synced")
        self._queued = Gauge(
            f"{prefix}_last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued"
        )
        self._failures = Counter(f"{prefix}_nftables_sync_failures_total", "Cumulative proxy nftables sync failures")
        self._changes = {
            what: Counter(f"{prefix}_{what}_changes_total", f"Cumulative proxy rules {words} changes")
            for what, words in (("service", "Service"), ("endpoint", "Endpoint"))
        }
        self._pending = {
            what: Gauge(f"{prefix}_{what}_changes_pending", f"Pending proxy rules {words} changes")
            for what, words in (("service", "Service"), ("endpoint", "Endpoint"))
        }
        self._no_local = Gauge(
            f"{prefix}_no_local_endpoints_total",
            "Number of services with a Local traffic policy and no endpoints",
            ("traffic_policy",),
        )
        self._waiting: dict[GVR, set[str]] = {SERVICES: set(), ENDPOINT_SLICES: set()}  # keys not synced yet
        self._began = time.time()
        self._triggers: list[float] = []  # when changes of endpoints that are not synced yet began
        self.families: tuple[Family, ...] = (
            *(self._seconds, self._programming, self._last, self._queued, self._failures),
            *(*self._changes.values(), *self._pending.values(), self._no_local),
        )

    def changed(self, resource: GVR, old: Obj | None, new: Obj) -> None:
        """An object came, changed or went; `old` is None for one that was not there."""
        what, waiting = _NAMES[resource], self._waiting[resource]
        waiting.add(key_of(new))
        self._changes[what].inc()
        self._pending[what].set(len(waiting))
        self._queued.set(time.time())
        moment = annotations_of(new).get(TRIGGER_TIME, "")
        if resource == ENDPOINT_SLICES and moment and (old is None or moment != annotations_of(old).get(TRIGGER_TIME)):
            self._trigger(moment)

    def _trigger(self, text: str) -> None:
        try:
            moment = parse_time(text).timestamp()
        except ValueError:
            return  # what others wrote
        if moment >= self._began:  # older changes tell of others' slowness
            self._triggers.append(moment)

    def taken(self) -> list[float]:
        """A sync begins with all there is: the moments that it is to answer for."""
        triggers, self._triggers = self._triggers, []
        for resource, waiting in self._waiting.items():
            waiting.clear()
            self._pending[_NAMES[resource]].set(0)
        return triggers

    def synced(self, seconds: float, triggers: Iterable[float], state: Iterable[tuple[ServicePort, Choice]]) -> None:
        """The kernel has the rules of `state`."""
        now = time.time()
        self._seconds.observe(seconds)
        self._last.set(now)
        for moment in triggers:
            self._programming.observe(max(0.0, now - moment))
        lacking = {"internal": 0, "external": 0}
        for port, choice in state:
            for policy, is_local in (("internal", port.internal_local), ("external", port.external_local)):
                lacking[policy] += bool(is_local and choice.cluster and not choice.local)
        for policy, count in lacking.items():
            self._no_local.set(count, policy)

    def failed(self, triggers: list[float]) -> None:
        """The kernel has refused; the changes wait on."""
        self._failures.inc()
        self._triggers = triggers + self._triggers
