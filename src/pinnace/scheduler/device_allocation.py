"""Which devices the claims of a pod get on a node.

Pure. Requests are met one after the other, taking back what leads nowhere; constraints tie the devices of a claim
together, capacity and counters limit what is shared. Specified by
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/ and KEP-4381.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import uuid4

from pinnace.machinery.meta import Obj, get_in
from pinnace.machinery.quantity import Quantity
from pinnace.scheduler.device_amounts import (
    Amounts,
    Counters,
    can_take,
    consumption,
    fits,
    suffices,
    take,
    total,
)
from pinnace.scheduler.devices import Device, DeviceId, is_selected, one_node, tolerates

MOST_STEPS = 100_000  # of looking for devices, for one pod on one node

MOST_ALTERNATIVES = 8  # of one request


class TooManySteps(Exception):
    """The claims are too intricate."""


@dataclass(slots=True)
class Taken:
    """What claims have: devices as a whole, and capacity of those that are shared."""

    devices: Set[DeviceId] = field(default_factory=frozenset)
    shares: Mapping[DeviceId, Amounts] = field(default_factory=dict)

    @property
    def every(self) -> Set[DeviceId]:
        return self.devices | self.shares.keys()


def taken_by(allocations: Iterable[Obj]) -> Taken:
    """What allocations take, but for devices that are only looked at."""
    devices: set[DeviceId] = set()
    shares: dict[DeviceId, Amounts] = {}
    for allocation in allocations:
        for result in get_in(allocation, "devices", "results") or ():
            device = result["driver"], result["pool"], result["device"]
            if result.get("adminAccess"):
                continue
            if result.get("shareID"):
                amounts = {name: Quantity.parse(text) for name, text in (result.get("consumedCapacity") or {}).items()}
                shares[device] = total((shares.get(device, {}), amounts))
            else:
                devices.add(device)
    return Taken(devices, shares)


def preference(claims: Iterable[Obj], allocations: Iterable[Obj]) -> int:
    """How good the alternatives are that were met: the earlier in the list of its request, the more for each."""
    found = 0
    for claim, allocation in zip(claims, allocations, strict=True):
        met = {result["request"] for result in allocation["devices"]["results"]}
        for request in get_in(claim, "spec", "devices", "requests") or ():
            for place, alternative in enumerate(request.get("firstAvailable") or ()):
                if f"{request['name']}/{alternative['name']}" in met:
                    found += MOST_ALTERNATIVES - place
    return found


@dataclass(frozen=True, slots=True)
class _Slot:
    """One device that is asked for: any of the candidates."""

    claim: int
    request: str  # `name`, or `name/alternative`
    candidates: list[Device]
    wanted: Obj

    @property
    def looks_only(self) -> bool:
        return bool(self.wanted.get("adminAccess"))


class _Choice(NamedTuple):
    slot: _Slot
    device: Device
    amounts: Amounts  # of a shared device's capacity
    left: Counters  # after it


class Allocator:
    """Looks for devices for several claims at once; `classes` are DeviceClasses by name, `counters` what is left."""

    def __init__(
        self,
        claims: list[Obj],
        classes: Mapping[str, Obj],
        taken: Taken,
        counters: Counters | None = None,
        new_share: Callable[[], str] = lambda: str(uuid4()),
    ) -> None:
        self._claims = claims
        self._classes = classes
        self._taken = taken
        self._counters = counters or {}
        self._new_share = new_share

    def allocate(self, devices: list[Device], node_name: str = "") -> list[Obj] | None:
        """`status.allocation` of each claim, from devices that one node can use; None when they do not suffice.

        Raises TooManySteps.
        """
        self._steps = 0
        requests = [
            (index, request)
            for index, claim in enumerate(self._claims)
            for request in get_in(claim, "spec", "devices", "requests") or ()
        ]
        chosen: list[_Choice] = []
        if not self._fill(requests, devices, chosen):
            return None
        return [self._allocation(index, chosen, node_name) for index in range(len(self._claims))]

    def _fill(self, requests: list[tuple[int, Obj]], devices: list[Device], chosen: list[_Choice]) -> bool:
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
        suitable = [device for device in devices if is_selected(device, selectors) and _suits(device, wanted)]
        free = suitable if wanted.get("adminAccess") else [one for one in suitable if one.id not in self._taken.devices]
        if wanted.get("allocationMode") == "All":
            if not suitable or len(free) < len(suitable):
                return None
            return [_Slot(index, name, [device], wanted) for device in suitable]
        return [_Slot(index, name, free, wanted)] * (wanted.get("count") or 1)

    def _take(
        self, slots: list[_Slot], rest: list[tuple[int, Obj]], devices: list[Device], chosen: list[_Choice]
    ) -> bool:
        if not slots:
            return self._fill(rest, devices, chosen)
        slot, after = slots[0], slots[1:]
        for device in slot.candidates:
            self._steps += 1
            if self._steps > MOST_STEPS:
                raise TooManySteps
            choice = self._choice(slot, device, chosen)
            if choice is None or not self._keeps_constraints(slot, device, chosen):
                continue
            chosen.append(choice)
            if self._take(after, rest, devices, chosen):
                return True
            chosen.pop()
        return False

    def _choice(self, slot: _Slot, device: Device, chosen: list[_Choice]) -> _Choice | None:
        """The device for the slot, if there is enough of it beside what was chosen before."""
        left = chosen[-1].left if chosen else self._counters
        if slot.looks_only:
            return _Choice(slot, device, {}, left)
        mine = [one.amounts for one in chosen if one.device is device and not one.slot.looks_only]
        amounts: Amounts = {}
        if device.is_shared:
            amounts = consumption(_requested(slot.wanted), device.capacity, device.id[0]) or {}
            if not fits(amounts, total((self._taken.shares.get(device.id, {}), *mine)), device.capacity):
                return None
        elif mine:
            return None
        if device.needs and not mine and device.id not in self._taken.shares:  # a device takes counters once
            if not can_take(left, device.needs):
                return None
            left = take(left, device.needs)
        return _Choice(slot, device, amounts, left)

    def _keeps_constraints(self, slot: _Slot, device: Device, chosen: list[_Choice]) -> bool:
        for constraint in get_in(self._claims[slot.claim], "spec", "devices", "constraints") or ():
            concerned = constraint.get("requests") or ()
            if not _concerns(concerned, slot.request):
                continue
            others = [
                one.device for one in chosen
                if one.slot.claim == slot.claim and _concerns(concerned, one.slot.request)
            ]  # fmt: skip
            same, distinct = constraint.get("matchAttribute"), constraint.get("distinctAttribute")
            mine = device.attributes.get(same or distinct or "")
            if mine is None:
                return False
            theirs = [other.attributes.get(same or distinct or "") for other in others]
            if (same and any(one != mine for one in theirs)) or (distinct and mine in theirs):
                return False
        return True

    # Results.

    def _allocation(self, index: int, chosen: list[_Choice], node_name: str) -> Obj:
        mine = [one for one in chosen if one.slot.claim == index]
        found: Obj = {"devices": {"results": [self._result(one) for one in mine]}}
        config = self._config(index, mine)
        if config:
            found["devices"]["config"] = config
        selector = _common_selector([one.device.selector for one in mine])
        if any(one.device.published.get("bindsToNode") for one in mine):
            selector = one_node(node_name)
        if selector is not None:
            found["nodeSelector"] = selector
        return found

    def _result(self, choice: _Choice) -> Obj:
        slot, device = choice.slot, choice.device
        driver, pool, name = device.id
        result: Obj = {"request": slot.request, "driver": driver, "pool": pool, "device": name}
        if slot.looks_only:
            result["adminAccess"] = True
        elif device.is_shared:
            result["shareID"] = self._new_share()
            result["consumedCapacity"] = {name: str(amount) for name, amount in choice.amounts.items()}
        if slot.wanted.get("tolerations"):
            result["tolerations"] = slot.wanted["tolerations"]
        for listed in ("bindingConditions", "bindingFailureConditions"):
            if device.published.get(listed):
                result[listed] = device.published[listed]
        return result

    def _config(self, index: int, mine: list[_Choice]) -> list[Obj]:
        """What drivers are told: of the classes first, then of the claim."""
        found: list[Obj] = []
        for request in dict.fromkeys(one.slot.request for one in mine):
            wanted = next(one.slot.wanted for one in mine if one.slot.request == request)
            of_class = self._classes[wanted["deviceClassName"]]["spec"].get("config") or ()
            found += [{"source": "FromClass", "requests": [request], **one} for one in of_class]
        of_claim = get_in(self._claims[index], "spec", "devices", "config") or ()
        return found + [{"source": "FromClaim", **one} for one in of_claim]


def _requested(wanted: Obj) -> Mapping[str, str]:
    """The capacity that a request asks of each device."""
    found: Mapping[str, str] = get_in(wanted, "capacity", "requests", default={})
    return found


def _suits(device: Device, wanted: Obj) -> bool:
    """Whether its taints and its capacity would allow for the request, were the device nobody's."""
    if not tolerates(device, wanted.get("tolerations") or ()):
        return False
    requests, driver = _requested(wanted), device.id[0]
    if device.is_shared:
        return consumption(requests, device.capacity, driver) is not None
    return suffices(requests, device.capacity, driver)


def _concerns(requests: Collection[str], request: str) -> bool:
    """Whether a constraint is about a request; one that names none is about all."""
    return not requests or request in requests or request.partition("/")[0] in requests


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
