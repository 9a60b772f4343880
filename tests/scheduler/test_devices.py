"""Which devices claims get: classes, selectors, counts, alternatives, constraints; a table each."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.machinery.meta import Obj
from pinnace.scheduler.devices import Allocator, Inventory, allocated_devices, is_available

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


def allocated(claims: list[Obj], *slices: Obj, taken: set[Any] | None = None) -> list[list[tuple[str, str]]] | None:
    """Request and device of every result, claim by claim."""
    devices = Inventory(slices).on("n", {"zone": "a"})
    found = Allocator(claims, CLASSES, taken or set()).allocate(devices)
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
    has: Obj = {"status": {"allocation": {"devices": {"results": [
        {"driver": DRIVER, "pool": "n", "device": "d1"},
        {"driver": DRIVER, "pool": "n", "device": "d2", "adminAccess": True}]}}}}  # fmt: skip
    taken = allocated_devices([has])
    assert taken == {(DRIVER, "n", "d1")}
    assert allocated([claim(request())], TWO, taken=taken) == [[("r", "d2")]]
    assert allocated([claim(request(adminAccess=True))], TWO, taken=taken) == [[("r", "d1")]]


def test_the_whole_allocation() -> None:
    opaque = {"driver": DRIVER, "parameters": {"mode": "fast"}}
    classes = {"gpu": device_class(config=[{"opaque": opaque}])}
    asked = claim(request(), config=[{"requests": ["r"], "opaque": opaque}])
    [found] = Allocator([asked], classes, set()).allocate(Inventory([TWO]).on("n", {})) or []
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
