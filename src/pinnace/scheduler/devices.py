"""Devices as ResourceSlices publish them: where they can be used, what taints them, what selectors say of them.

Pure. Classes and claims select among devices in CEL; who gets which is decided in `device_allocation.py`. Specified by
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/ and KEP-4381.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pinnace.apis.core.node_selection import term_matches, untolerated
from pinnace.apis.device_selection import rule_selects
from pinnace.machinery.meta import Obj, get_in
from pinnace.scheduler.device_amounts import Counters, counters_of, full_name, needs_of, take

if TYPE_CHECKING:
    from pinnace.machinery.cel.environment import Program

_NEWEST = 99  # every function of CEL that there is

DeviceId = tuple[str, str, str]
"""Driver, pool and name."""


class _Domains(dict[str, Any]):
    """Names by domain; domains without any are empty."""

    def __missing__(self, domain: str) -> dict[str, Any]:
        return {}


class Device:
    """One device; what selectors say of it is remembered."""

    __slots__ = (
        "_verdicts",
        "attributes",
        "capacity",
        "id",
        "is_shared",
        "needs",
        "published",
        "selector",
        "taints",
        "variable",
    )

    def __init__(self, driver: str, pool: str, obj: Obj, selector: Obj | None, taints: Sequence[Obj] = ()) -> None:
        attributes: Obj = obj.get("attributes") or {}
        self.capacity: Obj = obj.get("capacity") or {}
        self.id = driver, pool, obj["name"]
        self.published = obj
        self.selector = selector  # the NodeSelector of the nodes that can use it; None: all can
        self.taints: list[Obj] = [*(obj.get("taints") or ()), *taints]
        self.is_shared = bool(obj.get("allowMultipleAllocations"))
        self.needs = needs_of(obj.get("consumesCounters") or (), driver, pool)  # of counters, while it is allocated
        self.attributes = {full_name(name, driver): _value(value) for name, value in attributes.items()}
        amounts = {full_name(name, driver): _quantity(value.get("value", "0")) for name, value in self.capacity.items()}
        self.variable = {  # what selectors know as `device`
            "driver": driver,
            "attributes": _by_domain(self.attributes),
            "capacity": _by_domain(amounts),
            "allowMultipleAllocations": self.is_shared,
        }
        self._verdicts: dict[str, bool] = {}

    def is_meant(self, expression: str) -> bool:
        """Whether a selector means the device; one that fails means none."""
        verdict = self._verdicts.get(expression)
        if verdict is None:
            verdict = self._verdicts[expression] = _run(_program(expression), {"device": self.variable}) is True
        return verdict


def _by_domain(values: Mapping[str, Any]) -> _Domains:
    found = _Domains()
    for name, value in values.items():
        domain, _, short = name.partition("/")
        found.setdefault(domain, {})[short] = value
    return found


def _quantity(text: str) -> Any:
    return _run(_program(f"quantity({text!r})"), {})


def _value(attribute: Obj) -> Any:
    """An attribute as CEL knows it."""
    for kind in ("string", "bool", "int"):
        if kind in attribute:
            return attribute[kind]
    if "version" in attribute:
        return _run(_program(f"semver({attribute['version']!r})"), {})
    return None


@lru_cache(1024)
def _program(expression: str) -> Program | None:
    from pinnace.machinery.cel.environment import Environment  # few clusters have devices, and it takes time to load
    from pinnace.machinery.cel.syntax import CompileError
    from pinnace.machinery.cel.types import DYN

    try:
        return Environment(_NEWEST, {"device": DYN}).compile(expression)
    except CompileError:
        return None


def _run(program: Program | None, variables: Obj) -> Any:
    from pinnace.machinery.cel.environment import CelError

    try:
        return program.evaluate(variables) if program is not None else None
    except CelError:
        return None


def is_selected(device: Device, selectors: Iterable[Obj]) -> bool:
    """Whether all selectors mean the device."""
    return all(device.is_meant(get_in(selector, "cel", "expression") or "") for selector in selectors)


def tolerates(device: Device, tolerations: Iterable[Obj]) -> bool:
    """Whether the device has no taint that keeps off who has these tolerations."""
    return untolerated(device.taints, list(tolerations), ("NoSchedule", "NoExecute")) is None


class Inventory:
    """All devices there are: of every pool the newest generation, if it is complete; `rules` are DeviceTaintRules."""

    def __init__(self, slices: Iterable[Obj], rules: Iterable[Obj] = ()) -> None:
        pools: dict[tuple[str, str], list[Obj]] = {}
        for one in slices:
            pools.setdefault((one["spec"]["driver"], one["spec"]["pool"]["name"]), []).append(one["spec"])
        self.devices: list[Device] = []
        self._counters: Counters = {}  # whole
        self._rules = list(rules)
        for (driver, pool), specs in pools.items():
            newest = max(spec["pool"].get("generation", 0) for spec in specs)
            current = [spec for spec in specs if spec["pool"].get("generation", 0) == newest]
            if len(current) == current[0]["pool"].get("resourceSliceCount", len(current)):
                for spec in current:
                    self.devices += self._devices_of(spec)
                    published = counters_of(spec.get("sharedCounters") or ())
                    self._counters |= {(driver, pool, name): amounts for name, amounts in published.items()}
        self._by_id = {device.id: device for device in self.devices}
        self._local: dict[str, list[Device]] = {}  # by node
        self._others: list[Device] = []
        for device in self.devices:
            node = _only_node(device.selector)
            (self._local.setdefault(node, []) if node else self._others).append(device)

    def on(self, node_name: str, labels: Mapping[str, str]) -> list[Device]:
        """Those that a node can use."""
        others = [device for device in self._others if _selects(device.selector, node_name, labels)]
        return [*self._local.get(node_name, ()), *others]

    def counters_left(self, allocated: Iterable[DeviceId]) -> Counters:
        """What is left of the counters that devices share, while some of them are allocated."""
        left = self._counters
        for one in allocated:
            device = self._by_id.get(one)
            if device is not None and device.needs:
                left = take(left, device.needs)
        return left

    def _devices_of(self, spec: Obj) -> Iterator[Device]:
        driver, pool = spec["driver"], spec["pool"]["name"]
        for obj in spec.get("devices") or ():
            where = obj if spec.get("perDeviceNodeSelection") else spec
            taints = [rule["spec"]["taint"] for rule in self._rules if rule_selects(rule, driver, pool, obj["name"])]
            yield Device(driver, pool, obj, _selector_of(where), taints)


def one_node(name: str) -> Obj:
    """The NodeSelector of one node."""
    field_ = {"key": "metadata.name", "operator": "In", "values": [name]}
    return {"nodeSelectorTerms": [{"matchFields": [field_]}]}


def _only_node(selector: Obj | None) -> str:
    """The node of a selector such as `one_node` makes; empty for others."""
    terms: list[Obj] = (selector or {}).get("nodeSelectorTerms") or []
    fields: list[Obj] = terms[0].get("matchFields") or [] if len(terms) == 1 else []
    name = fields[0]["values"][0] if len(fields) == 1 and fields[0].get("values") else ""
    return name if name and selector == one_node(name) else ""


def _selector_of(where: Obj) -> Obj | None:
    if where.get("allNodes"):
        return None
    if where.get("nodeName"):
        return one_node(where["nodeName"])
    found: Obj = where.get("nodeSelector") or {"nodeSelectorTerms": []}
    return found


def _selects(selector: Obj | None, node_name: str, labels: Mapping[str, str]) -> bool:
    if selector is None:
        return True
    return any(term_matches(term, node_name, labels) for term in selector.get("nodeSelectorTerms") or ())


def is_available(allocation: Obj, node_name: str, labels: Mapping[str, str]) -> bool:
    """Whether devices that are allocated can be used on a node."""
    return _selects(allocation.get("nodeSelector"), node_name, labels)
