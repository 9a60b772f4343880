"""Which devices a pod's ResourceClaims get on a node.

Pure. Devices are those of ResourceSlices; classes and claims select among them in CEL; constraints tie them together.
Specified by https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/ and KEP-4381. Devices
that share counters with others (KEP-4815) are left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pinnace.apis.core.node_selection import term_matches, untolerated
from pinnace.machinery.meta import Obj, get_in

if TYPE_CHECKING:
    from pinnace.machinery.cel.environment import Program

_NEWEST = 99  # every function of CEL that there is
MOST_STEPS = 100_000  # of looking for devices, for one pod on one node

DeviceId = tuple[str, str, str]
"""Driver, pool and name."""


class TooManySteps(Exception):
    """The claims are too intricate."""


class _Domains(dict[str, Any]):
    """Names by domain; domains without any are empty."""

    def __missing__(self, domain: str) -> dict[str, Any]:
        return {}


class Device:
    """One device; what selectors say of it is remembered."""

    __slots__ = ("_verdicts", "attributes", "id", "selector", "taints", "variable")

    def __init__(self, driver: str, pool: str, obj: Obj, selector: Obj | None) -> None:
        attributes, capacity = obj.get("attributes") or {}, obj.get("capacity") or {}
        self.id = driver, pool, obj["name"]
        self.selector = selector  # the NodeSelector of the nodes that can use it; None: all can
        self.taints: list[Obj] = obj.get("taints") or []
        self.attributes = {_full_name(name, driver): _value(value) for name, value in attributes.items()}
        amounts = {_full_name(name, driver): _quantity(value.get("value", "0")) for name, value in capacity.items()}
        self.variable = {  # what selectors know as `device`
            "driver": driver,
            "attributes": _by_domain(self.attributes),
            "capacity": _by_domain(amounts),
            "allowMultipleAllocations": bool(obj.get("allowMultipleAllocations")),
        }
        self._verdicts: dict[str, bool] = {}

    def is_meant(self, expression: str) -> bool:
        """Whether a selector means the device; one that fails means none."""
        verdict = self._verdicts.get(expression)
        if verdict is None:
            verdict = self._verdicts[expression] = _run(_program(expression), {"device": self.variable}) is True
        return verdict


def _full_name(name: str, driver: str) -> str:
    return name if "/" in name else f"{driver}/{name}"


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


class Inventory:
    """All devices there are: of every pool the newest generation, if it is complete."""

    def __init__(self, slices: Iterable[Obj]) -> None:
        pools: dict[tuple[str, str], list[Obj]] = {}
        for one in slices:
            pools.setdefault((one["spec"]["driver"], one["spec"]["pool"]["name"]), []).append(one["spec"])
        self.devices: list[Device] = []
        for specs in pools.values():
            newest = max(spec["pool"].get("generation", 0) for spec in specs)
            current = [spec for spec in specs if spec["pool"].get("generation", 0) == newest]
            if len(current) == current[0]["pool"].get("resourceSliceCount", len(current)):
                self.devices += [device for spec in current for device in _devices_of(spec)]

    def on(self, node_name: str, labels: Mapping[str, str]) -> list[Device]:
        """Those that a node can use."""
        return [device for device in self.devices if _selects(device.selector, node_name, labels)]


def _devices_of(spec: Obj) -> Iterator[Device]:
    driver = spec["driver"]
    for obj in spec.get("devices") or ():
        if obj.get("consumesCounters"):
            continue
        where = obj if spec.get("perDeviceNodeSelection") else spec
        yield Device(driver, spec["pool"]["name"], obj, _selector_of(where))


def _selector_of(where: Obj) -> Obj | None:
    if where.get("allNodes"):
        return None
    if where.get("nodeName"):
        field_ = {"key": "metadata.name", "operator": "In", "values": [where["nodeName"]]}
        return {"nodeSelectorTerms": [{"matchFields": [field_]}]}
    found: Obj = where.get("nodeSelector") or {"nodeSelectorTerms": []}
    return found


def _selects(selector: Obj | None, node_name: str, labels: Mapping[str, str]) -> bool:
    if selector is None:
        return True
    return any(term_matches(term, node_name, labels) for term in selector.get("nodeSelectorTerms") or ())


def is_available(allocation: Obj, node_name: str, labels: Mapping[str, str]) -> bool:
    """Whether devices that are allocated can be used on a node."""
    return _selects(allocation.get("nodeSelector"), node_name, labels)


def allocated_devices(claims: Iterable[Obj]) -> set[DeviceId]:
    """The devices that claims have, but for those they only look at."""
    return {
        (result["driver"], result["pool"], result["device"])
        for claim in claims
        for result in get_in(claim, "status", "allocation", "devices", "results") or ()
        if not result.get("adminAccess")
    }


# Allocating.


@dataclass(slots=True)
class _Slot:
    """One device that is asked for: any of the candidates."""

    claim: int
    request: str  # `name`, or `name/alternative`
    candidates: list[Device]
    wanted: Obj


class Allocator:
    """Looks for devices for several claims at once; `classes` are DeviceClasses by name."""

    def __init__(self, claims: list[Obj], classes: Mapping[str, Obj], taken: Collection[DeviceId]) -> None:
        self._claims = claims
        self._classes = classes
        self._taken = taken

    def allocate(self, devices: list[Device]) -> list[Obj] | None:
        """`status.allocation` of each claim, from devices that one node can use; None when they do not suffice."""
        self._steps = 0
        requests = [
            (index, request)
            for index, claim in enumerate(self._claims)
            for request in get_in(claim, "spec", "devices", "requests") or ()
        ]
        chosen: list[tuple[_Slot, Device]] = []
        if not self._fill(requests, devices, chosen):
            return None
        return [self._allocation(index, chosen) for index in range(len(self._claims))]

    def _fill(self, requests: list[tuple[int, Obj]], devices: list[Device], chosen: list[tuple[_Slot, Device]]) -> bool:
        """Meet all requests, the first of their alternatives that can be met; takes back what leads nowhere."""
        if not requests:
            return True
        (index, request), rest = requests[0], requests[1:]
        alternatives = request.get("firstAvailable")
        for wanted in alternatives or [request.get("exactly") or {}]:
            name = f"{request['name']}/{wanted['name']}" if alternatives else request["name"]
            slots = self._slots(index, name, wanted, devices)
            if slots is not None and self._take(slots, rest, devices, chosen):
                return True
        return False

    def _slots(self, index: int, name: str, wanted: Obj, devices: list[Device]) -> list[_Slot] | None:
        device_class = self._classes.get(wanted.get("deviceClassName", ""))
        if device_class is None:
            return None
        selectors = [*(device_class["spec"].get("selectors") or ()), *(wanted.get("selectors") or ())]
        suitable = [device for device in devices if is_selected(device, selectors) and _is_tolerated(device, wanted)]
        admin = bool(wanted.get("adminAccess"))
        free = suitable if admin else [device for device in suitable if device.id not in self._taken]
        if wanted.get("allocationMode") == "All":
            if not suitable or len(free) < len(suitable):
                return None
            return [_Slot(index, name, [device], wanted) for device in suitable]
        return [_Slot(index, name, free, wanted)] * (wanted.get("count") or 1)

    def _take(
        self,
        slots: list[_Slot],
        rest: list[tuple[int, Obj]],
        devices: list[Device],
        chosen: list[tuple[_Slot, Device]],
    ) -> bool:
        if not slots:
            return self._fill(rest, devices, chosen)
        slot, after = slots[0], slots[1:]
        used = {device.id for other, device in chosen if not other.wanted.get("adminAccess")}
        admin = bool(slot.wanted.get("adminAccess"))
        for device in slot.candidates:
            self._steps += 1
            if self._steps > MOST_STEPS:
                raise TooManySteps
            if (device.id in used and not admin) or not self._keeps_constraints(slot, device, chosen):
                continue
            chosen.append((slot, device))
            if self._take(after, rest, devices, chosen):
                return True
            chosen.pop()
        return False

    def _keeps_constraints(self, slot: _Slot, device: Device, chosen: list[tuple[_Slot, Device]]) -> bool:
        for constraint in get_in(self._claims[slot.claim], "spec", "devices", "constraints") or ():
            concerned = constraint.get("requests") or ()
            if not _concerns(concerned, slot.request):
                continue
            others = [
                other for with_slot, other in chosen
                if with_slot.claim == slot.claim and _concerns(concerned, with_slot.request)
            ]  # fmt: skip
            same, distinct = constraint.get("matchAttribute"), constraint.get("distinctAttribute")
            mine = device.attributes.get(same or distinct or "")
            if mine is None:
                return False
            theirs = [other.attributes.get(same or distinct or "") for other in others]
            if (same and any(one != mine for one in theirs)) or (distinct and mine in theirs):
                return False
        return True

    def _allocation(self, index: int, chosen: list[tuple[_Slot, Device]]) -> Obj:
        mine = [(slot, device) for slot, device in chosen if slot.claim == index]
        results = []
        for slot, device in mine:
            driver, pool, name = device.id
            result: Obj = {"request": slot.request, "driver": driver, "pool": pool, "device": name}
            if slot.wanted.get("adminAccess"):
                result["adminAccess"] = True
            if slot.wanted.get("tolerations"):
                result["tolerations"] = slot.wanted["tolerations"]
            results.append(result)
        found: Obj = {"devices": {"results": results}}
        config = self._config(index, mine)
        if config:
            found["devices"]["config"] = config
        selector = _common_selector([device.selector for _, device in mine])
        if selector is not None:
            found["nodeSelector"] = selector
        return found

    def _config(self, index: int, mine: list[tuple[_Slot, Device]]) -> list[Obj]:
        """What drivers are told: of the classes first, then of the claim."""
        found: list[Obj] = []
        for slot in dict.fromkeys(slot.request for slot, _ in mine):
            wanted = next(one.wanted for one, _ in mine if one.request == slot)
            of_class = self._classes[wanted["deviceClassName"]]["spec"].get("config") or ()
            found += [{"source": "FromClass", "requests": [slot], **one} for one in of_class]
        of_claim = get_in(self._claims[index], "spec", "devices", "config") or ()
        return found + [{"source": "FromClaim", **one} for one in of_claim]


def _concerns(requests: Collection[str], request: str) -> bool:
    """Whether a constraint is about a request; one that names none is about all."""
    return not requests or request in requests or request.partition("/")[0] in requests


def _is_tolerated(device: Device, wanted: Obj) -> bool:
    return untolerated(device.taints, wanted.get("tolerations") or (), ("NoSchedule", "NoExecute")) is None


def _common_selector(selectors: list[Obj | None]) -> Obj | None:
    """A NodeSelector of one term that holds all requirements; None when all nodes will do."""
    fields: list[Obj] = []
    expressions: list[Obj] = []
    for selector in selectors:
        for term in (selector or {}).get("nodeSelectorTerms") or ():
            fields += [one for one in term.get("matchFields") or () if one not in fields]
            expressions += [one for one in term.get("matchExpressions") or () if one not in expressions]
    term = {name: listed for name, listed in (("matchFields", fields), ("matchExpressions", expressions)) if listed}
    return {"nodeSelectorTerms": [term]} if term else None
