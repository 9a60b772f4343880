"""Which devices claims get: classes, selectors, counts, alternatives, constraints, shares; a table each."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pinnace.machinery.meta import Obj
from pinnace.scheduler import device_binding
from pinnace.scheduler.device_allocation import Allocator, Taken, preference, taken_by
from pinnace.scheduler.device_amounts import consumption
from pinnace.scheduler.devices import Inventory, is_available

DRIVER = "gpu.example.com"


def device(name: str, model: str = "a", memory: str = "8Gi", numa: int = 0, **more: Any) -> Obj:
    attributes = {"model": {"string": model}, "numa": {"int": numa}, "version": {"version": "1.2.3"}}
    return {"name": name, "attributes": attributes, "capacity": {"memory": {"value": memory}}, **more}


def resource_slice(*devices: Obj, node: str = "n", pool: str = "", generation: int = 1, **more: Any) -> Obj:
    where = {} if more.keys() & {"allNodes", "nodeSelector", "perDeviceNodeSelection"} else {"nodeName": node}
    found = {"name": pool or node, "generation": generation, "resourceSliceCount": more.pop("count", 1)}
    return {"spec": {"driver": DRIVER, "pool": found, "devices": list(devices), **where, **more}}


def selector(expression: str) -> list[Obj]:
    return [{"cel": {"expression": expression}}]


def device_class(*expressions: str, **more: Any) -> Obj:
    return {"spec": {"selectors": [one for text in expressions for one in selector(text)], **more}}


CLASSES = {"gpu": device_class(f'device.driver == "{DRIVER}"'), "none": device_class("false"), "any": device_class()}


def request(name: str = "r", class_name: str = "gpu", **more: Any) -> Obj:
    return {"name": name, "exactly": {"deviceClassName": class_name, "allocationMode": "ExactCount", **more}}


def claim(*requests: Obj, constraints: list[Obj] | None = None, **more: Any) -> Obj:
    return {"spec": {"devices": {"requests": list(requests), "constraints": constraints or [], **more}}}


def allocated(claims: list[Obj], *slices: Obj, taken: Taken | None = None) -> list[list[tuple[str, str]]] | None:
    """Request and device of every result, claim by claim."""
    inventory, taken = Inventory(slices), taken or Taken()
    left = inventory.counters_left(taken.every)
    found = Allocator(claims, CLASSES, taken, left).allocate(inventory.on("n", {"zone": "a"}), "n")
    if found is None:
        return None
    return [[(one["request"], one["device"]) for one in each["devices"]["results"]] for each in found]


def where(expression: str) -> Obj:
    return request(selectors=selector(expression))


TWO = resource_slice(device("d1", "a", "8Gi", 0), device("d2", "b", "16Gi", 1))
FOUR = resource_slice(*(device(f"d{n}", numa=n // 2) for n in range(4)))
SAME = [{"matchAttribute": f"{DRIVER}/numa"}]
FIRST = {"name": "r", "firstAvailable": [
    {"name": "big", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1,
     "selectors": selector(f'device.attributes["{DRIVER}"].model == "z"')},
    {"name": "any", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}]}  # fmt: skip
TAINTED = device("d1", taints=[{"key": "broken", "effect": "NoSchedule"}])

CASES: list[tuple[str, list[Obj], list[Obj], list[list[tuple[str, str]]] | None]] = [
    ("one of a class", [claim(request())], [TWO], [[("r", "d1")]]),
    ("a class that means none", [claim(request(class_name="none"))], [TWO], None),
    ("a class that is not there", [claim(request(class_name="gone"))], [TWO], None),
    ("by attribute", [claim(where(f'device.attributes["{DRIVER}"].model == "b"'))], [TWO], [[("r", "d2")]]),
    ("by capacity", [claim(where(f'device.capacity["{DRIVER}"].memory.compareTo(quantity("10Gi")) > 0'))], [TWO],
     [[("r", "d2")]]),
    ("by version", [claim(where(f'device.attributes["{DRIVER}"].version.isLessThan(semver("2.0.0"))'))], [TWO],
     [[("r", "d1")]]),
    ("a selector that fails", [claim(where('device.attributes["x"].y == 1'))], [TWO], None),
    ("several", [claim(request(count=2))], [TWO], [[("r", "d1"), ("r", "d2")]]),
    ("more than there are", [claim(request(count=3))], [TWO], None),
    ("all", [claim(request(allocationMode="All"))], [TWO], [[("r", "d1"), ("r", "d2")]]),
    ("all of none", [claim(request(allocationMode="All"))], [], None),
    ("two claims share nothing", [claim(request("a")), claim(request("b"))], [TWO], [[("a", "d1")], [("b", "d2")]]),
    ("what is asked for later is left", [claim(request("a"), request("b", selectors=selector(
        f'device.attributes["{DRIVER}"].model == "a"')))], [TWO], [[("a", "d2"), ("b", "d1")]]),
    ("the first alternative that can be had", [claim(FIRST)], [TWO], [[("r/any", "d1")]]),
    ("of one kind", [claim(request(count=2), constraints=SAME)], [FOUR], [[("r", "d0"), ("r", "d1")]]),
    ("too many of one kind", [claim(request(count=3), constraints=SAME)], [FOUR], None),
    ("of different kinds", [claim(request(count=2), constraints=[{"distinctAttribute": f"{DRIVER}/numa"}])], [FOUR],
     [[("r", "d0"), ("r", "d2")]]),
    ("constraints of other requests", [claim(request("a", count=3), request("b"), constraints=[
        {**SAME[0], "requests": ["b"]}])], [FOUR], [[("a", "d0"), ("a", "d1"), ("a", "d2"), ("b", "d3")]]),
    ("tainted", [claim(request())], [resource_slice(TAINTED)], None),
    ("tolerated", [claim(request(tolerations=[{"operator": "Exists"}]))], [resource_slice(TAINTED)], [[("r", "d1")]]),
    ("of another node", [claim(request())], [resource_slice(device("d1"), node="m")], None),
    ("of all nodes", [claim(request())], [resource_slice(device("d1"), allNodes=True)], [[("r", "d1")]]),
    ("of nodes like this", [claim(request())], [resource_slice(device("d1"), nodeSelector={"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]})], [[("r", "d1")]]),
    ("each where it says", [claim(request())], [resource_slice(
        device("d1", nodeName="m"), device("d2", nodeName="n"), perDeviceNodeSelection=True)], [[("r", "d2")]]),
    ("the newest generation counts", [claim(request())],
     [resource_slice(device("old")), resource_slice(device("new"), generation=2)], [[("r", "new")]]),
    ("a pool that is not whole does not", [claim(request())], [resource_slice(device("d1"), count=2)], None),
]  # fmt: skip


@pytest.mark.parametrize(("claims", "slices", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_allocations(claims: list[Obj], slices: list[Obj], expected: list[list[tuple[str, str]]] | None) -> None:
    assert allocated(claims, *slices) == expected


def test_what_others_have_is_left_to_them_unless_it_is_only_looked_at() -> None:
    has: Obj = {"devices": {"results": [
        {"driver": DRIVER, "pool": "n", "device": "d1"},
        {"driver": DRIVER, "pool": "n", "device": "d2", "adminAccess": True}]}}  # fmt: skip
    taken = taken_by([has])
    assert taken.devices == {(DRIVER, "n", "d1")}
    assert allocated([claim(request())], TWO, taken=taken) == [[("r", "d2")]]
    assert allocated([claim(request(adminAccess=True))], TWO, taken=taken) == [[("r", "d1")]]


@pytest.mark.parametrize(("met", "expected"), [("r/big", 8), ("r/any", 7), ("r", 0)])
def test_earlier_alternatives_are_better(met: str, expected: int) -> None:
    assert preference([claim(FIRST)], [{"devices": {"results": [{"request": met}]}}]) == expected


# Capacity that requests share.


def shared(name: str, policy: Obj | None = None, **more: Any) -> Obj:
    memory = {"value": "8Gi", **({"requestPolicy": policy} if policy else {})}
    return {"name": name, "allowMultipleAllocations": True, "capacity": {"memory": memory}, **more}


def wanting(memory: str, name: str = "r", **more: Any) -> Obj:
    return request(name, capacity={"requests": {"memory": memory}}, **more)


STEPS = {"default": "1Gi", "validRange": {"min": "1Gi", "step": "2Gi", "max": "7Gi"}}
VALUES = {"default": "2Gi", "validValues": ["2Gi", "4Gi"]}


@pytest.mark.parametrize(
    ("policy", "asked", "granted"),
    [
        (None, None, "8Gi"),
        (None, "3Gi", "3Gi"),
        (None, "9Gi", None),
        ({"default": "1Gi"}, None, "1Gi"),
        ({"default": "1Gi"}, "500Mi", "500Mi"),
        (STEPS, None, "1Gi"),
        (STEPS, "100Mi", "1Gi"),
        (STEPS, "2Gi", "3Gi"),
        (STEPS, "5Gi", "5Gi"),
        (STEPS, "8Gi", None),
        (VALUES, None, "2Gi"),
        (VALUES, "3Gi", "4Gi"),
        (VALUES, "4Gi", "4Gi"),
        (VALUES, "5Gi", None),
    ],
)
def test_what_a_request_takes_of_shared_capacity(policy: Obj | None, asked: str | None, granted: str | None) -> None:
    found = consumption({"memory": asked} if asked else {}, shared("d", policy)["capacity"], DRIVER)
    shown = None if found is None else str(found["memory"])
    assert shown == granted


def test_a_capacity_that_a_device_has_not_cannot_be_had() -> None:
    assert consumption({"cores": "1"}, shared("d")["capacity"], DRIVER) is None
    assert consumption({f"{DRIVER}/memory": "1Gi"}, shared("d")["capacity"], DRIVER) is not None


@pytest.mark.parametrize(
    ("claims", "devices", "expected"),
    [
        ([claim(wanting("4Gi", count=2))], [shared("d")], ["d", "d"]),
        ([claim(wanting("4Gi", count=3))], [shared("d")], None),
        ([claim(wanting("5Gi")), claim(wanting("5Gi"))], [shared("d"), shared("e")], ["d", "e"]),
        ([claim(wanting("5Gi")), claim(wanting("3Gi"))], [shared("d"), shared("e")], ["d", "d"]),
        ([claim(request()), claim(wanting("1Gi"))], [shared("d"), shared("e")], ["d", "e"]),
        ([claim(wanting("10Gi"))], [device("d", memory="8Gi"), device("e", memory="16Gi")], ["e"]),
        ([claim(wanting("1Gi", count=2))], [device("d")], None),
    ],
)
def test_shared_devices_are_given_out_until_they_are_full(
    claims: list[Obj], devices: list[Obj], expected: list[str] | None
) -> None:
    found = allocated(claims, resource_slice(*devices))
    assert ([one for each in found for _, one in each] if found else None) == expected


def test_shares_say_what_they_are_and_count_for_others() -> None:
    inventory = Inventory([resource_slice(shared("d", STEPS))])
    ids = (f"share-{number}" for number in itertools.count())

    def allocate(memory: str, taken: Taken) -> list[Obj] | None:
        allocator = Allocator([claim(wanting(memory))], CLASSES, taken, None, lambda: next(ids))
        return allocator.allocate(inventory.devices, "n")

    [first] = allocate("4Gi", Taken()) or []
    assert first["devices"]["results"] == [
        {
            "request": "r", "driver": DRIVER, "pool": "n", "device": "d", "shareID": "share-0",
            "consumedCapacity": {"memory": "5Gi"},
        }
    ]  # fmt: skip
    taken = taken_by([first])
    assert allocate("4Gi", taken) is None
    [second] = allocate("3Gi", taken) or []
    assert second["devices"]["results"][0]["shareID"] == "share-1"


# Counters that devices share.


def part(name: str, memory: str, **more: Any) -> Obj:
    needs = [{"counterSet": "gpu-0", "counters": {"memory": {"value": memory}}}]
    return {"name": name, "consumesCounters": needs, **more}


COUNTERS = resource_slice(
    sharedCounters=[{"name": "gpu-0", "counters": {"memory": {"value": "40Gi"}}}], pool="n", count=2
)


@pytest.mark.parametrize(
    ("asked", "taken", "expected"),
    [
        (1, (), ["whole"]),
        (2, (), ["half-0", "half-1"]),
        (3, (), None),
        (1, ("half-0",), ["half-1"]),
        (2, ("half-0",), None),
        (1, ("whole",), None),
    ],
)
def test_partitions_of_a_device_share_what_it_has(
    asked: int, taken: tuple[str, ...], expected: list[str] | None
) -> None:
    parts = resource_slice(part("whole", "40Gi"), part("half-0", "20Gi"), part("half-1", "20Gi"), count=2)
    there = Taken(frozenset((DRIVER, "n", name) for name in taken))
    found = allocated([claim(request(count=asked))], parts, COUNTERS, taken=there)
    assert ([one for _, one in found[0]] if found else None) == expected


def test_counters_that_nobody_publishes_are_empty() -> None:
    assert allocated([claim(request())], resource_slice(part("half", "20Gi"))) is None


def test_a_shared_partition_takes_its_counters_once() -> None:
    several = resource_slice({**shared("half"), **part("half", "40Gi")}, count=2)
    assert allocated([claim(wanting("4Gi", count=2))], several, COUNTERS) == [[("r", "half"), ("r", "half")]]


# Where, and with what.


def test_a_rule_taints_devices() -> None:
    rule = {"spec": {"deviceSelector": {"device": "d1"}, "taint": {"key": "broken", "effect": "NoSchedule"}}}
    inventory = Inventory([TWO], [rule])
    found = Allocator([claim(request())], CLASSES, Taken()).allocate(inventory.on("n", {})) or []
    assert [one["device"] for one in found[0]["devices"]["results"]] == ["d2"]


def test_devices_that_must_be_attached_say_so_in_the_claim() -> None:
    conditions: dict[str, Any] = {
        "bindingConditions": ["attached"],
        "bindingFailureConditions": ["broken"],
        "bindsToNode": True,
    }
    inventory = Inventory([resource_slice(device("d", **conditions), allNodes=True)])
    [found] = Allocator([claim(request())], CLASSES, Taken()).allocate(inventory.on("n", {}), "n") or []
    [result] = found["devices"]["results"]
    assert (result["bindingConditions"], result["bindingFailureConditions"]) == (["attached"], ["broken"])
    assert is_available(found, "n", {})
    assert not is_available(found, "m", {})


def reported(*conditions: tuple[str, str], device: str = "d") -> Obj:
    """A claim for a device that must be attached, and what its driver says of a device."""
    result = {"driver": DRIVER, "pool": "n", "device": "d", "bindingConditions": ["attached", "up"]}
    allocation = {
        "devices": {"results": [{**result, "bindingFailureConditions": ["broken"]}]},
        "allocationTimestamp": "2026-01-01T00:00:00Z",
    }
    said = [{"type": kind, "status": status, "reason": "Why", "message": "so"} for kind, status in conditions]
    status = [{"driver": DRIVER, "pool": "n", "device": device, "conditions": said}]
    return {"metadata": {"name": "c"}, "status": {"allocation": allocation, "devices": status}}


@pytest.mark.parametrize(
    ("found", "ready", "failure"),
    [
        (reported(), False, ""),
        (reported(("attached", "True")), False, ""),
        (reported(("attached", "True"), ("up", "True")), True, ""),
        (reported(("attached", "True"), ("up", "False")), False, ""),
        (reported(("attached", "True"), ("up", "True"), device="e"), False, ""),
        (reported(("broken", "True")), False, 'claim c binding failed: reason=Why, message="so"'),
        (reported(("broken", "False")), False, ""),
        ({"metadata": {"name": "c"}, "status": {}}, True, ""),
    ],
)
def test_when_devices_are_ready(found: Obj, ready: bool, failure: str) -> None:
    assert (device_binding.is_ready(found), device_binding.failure(found)) == (ready, failure)
    after = datetime(2026, 1, 1, 0, 11, tzinfo=UTC)
    waits = device_binding.must_wait(found)
    assert device_binding.is_overdue(found, timedelta(minutes=10), after) is (waits and not ready)
    assert not device_binding.is_overdue(found, timedelta(minutes=12), after)


def test_the_whole_allocation() -> None:
    opaque = {"driver": DRIVER, "parameters": {"mode": "fast"}}
    classes = {"gpu": device_class(config=[{"opaque": opaque}])}
    asked = claim(request(), config=[{"requests": ["r"], "opaque": opaque}])
    [found] = Allocator([asked], classes, Taken()).allocate(Inventory([TWO]).on("n", {})) or []
    assert found == {
        "devices": {
            "results": [{"request": "r", "driver": DRIVER, "pool": "n", "device": "d1"}],
            "config": [
                {"source": "FromClass", "requests": ["r"], "opaque": opaque},
                {"source": "FromClaim", "requests": ["r"], "opaque": opaque},
            ],
        },
        "nodeSelector": {
            "nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]},
            ]
        },
    }
    assert is_available(found, "n", {})
    assert not is_available(found, "m", {})
