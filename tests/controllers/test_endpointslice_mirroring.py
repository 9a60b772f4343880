"""Endpoints written by hand are seen as slices."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis.resources import ENDPOINT_SLICES, ENDPOINTS, SERVICES
from pinnace.controllers.endpointslice_mirroring import (
    EndpointSliceMirroringController,
    is_mirrored,
    mirror,
    mirrored_from,
    read,
)
from pinnace.machinery.meta import Obj, annotations_of, controller_of, labels_of, replace_in
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import messages, running

HTTP = [{"name": "http", "port": 80}]


def endpoints(*subsets: Obj, **metadata: Any) -> Obj:
    meta = {"name": "db", "namespace": "default", "uid": "e", **metadata}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": list(subsets)}


def subset(*ready: str, waiting: tuple[str, ...] = (), ports: Any = HTTP) -> Obj:
    found: Obj = {"addresses": [{"ip": ip} for ip in ready], "ports": ports}
    return {**found, "notReadyAddresses": [{"ip": ip} for ip in waiting]} if waiting else found


def service(**spec: Any) -> Obj:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "default"}, "spec": spec}


@pytest.mark.parametrize(
    ("one", "owner", "expected"),
    [
        (endpoints(), service(), True),
        (endpoints(), None, False),
        (endpoints(), service(selector={"a": "b"}), False),
        (endpoints(labels={"endpointslice.kubernetes.io/skip-mirror": "true"}), service(), False),
        (endpoints(annotations={"control-plane.alpha.kubernetes.io/leader": "{}"}), service(), False),
        (endpoints(deletionTimestamp="2026-01-01T00:00:00Z"), service(), False),
    ],
)
def test_what_is_mirrored(one: Obj, owner: Obj | None, expected: bool) -> None:
    assert is_mirrored(one, owner) is expected


def test_families_and_ports_are_kept_apart() -> None:
    found = read(
        endpoints(subset("10.0.0.1", "fd00::1", waiting=("10.0.0.2",)), subset("10.0.0.3", ports=[{"port": 9}]))
    )
    shape = {
        (family, tuple(dict(port)["port"] for port in ports)): [
            (one["addresses"][0], one["conditions"]["ready"]) for one in members
        ]
        for (family, ports), members in found.groups.items()
    }
    assert shape == {
        ("IPv4", (80,)): [("10.0.0.1", True), ("10.0.0.2", False)],
        ("IPv6", (80,)): [("fd00::1", True)],
        ("IPv4", (9,)): [("10.0.0.3", True)],
    }


@pytest.mark.parametrize(
    ("addresses", "most", "invalid", "skipped"),
    [(("10.0.0.1",), 2, 0, 0), (("x", "10.0.0.1"), 2, 1, 1), (("10.0.0.1", "10.0.0.2", "10.0.0.3"), 2, 0, 1)],
)
def test_what_is_left_out_is_counted(addresses: tuple[str, ...], most: int, invalid: int, skipped: int) -> None:
    found = read(endpoints(subset(*addresses)), most)
    assert (found.invalid, found.skipped) == (invalid, skipped)


def sliced(one: Obj, name: str = "db-1") -> Obj:
    """The slice of an Endpoints object that has one group."""
    (made,) = mirror(one, read(one).groups, []).create
    return {**made, "metadata": {**made["metadata"], "name": name}}


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [
        (endpoints(subset("10.0.0.1")), [], (1, 0, 0)),
        (endpoints(subset("10.0.0.1")), [sliced(endpoints(subset("10.0.0.1")))], (0, 0, 0)),
        (endpoints(subset("10.0.0.2")), [sliced(endpoints(subset("10.0.0.1")))], (0, 1, 0)),
        (endpoints(subset("10.0.0.1"), labels={"a": "b"}), [sliced(endpoints(subset("10.0.0.1")))], (0, 1, 0)),
        (endpoints(), [sliced(endpoints(subset("10.0.0.1")))], (0, 0, 1)),
        (endpoints(subset("fd00::1")), [sliced(endpoints(subset("10.0.0.1")))], (1, 0, 1)),
        (endpoints(subset("10.0.0.1", ports=[{"port": 9}])), [sliced(endpoints(subset("10.0.0.1")))], (0, 1, 0)),
        (
            endpoints(subset("10.0.0.1")),
            [sliced(endpoints(subset("10.0.0.1"))), sliced(endpoints(subset("10.0.0.1")), "db-2")],
            (0, 0, 1),
        ),
    ],
)
def test_few_slices_are_written(now: Obj, before: list[Obj], expected: tuple[int, int, int]) -> None:
    plan = mirror(now, read(now).groups, before)
    assert (len(plan.create), len(plan.update), len(plan.delete)) == expected


async def test_slices_follow_and_go() -> None:
    api = FakeApi()
    kept = {"note": "mine", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
    target = {"kind": "VM", "name": "vm"}
    address = {"ip": "10.0.0.1", "hostname": "h", "nodeName": "n1", "targetRef": target}
    wanted = endpoints({"addresses": [address], "ports": HTTP}, labels={"team": "a"}, annotations=kept)
    async with running(api, EndpointSliceMirroringController):
        await api.client.create(SERVICES, service())
        made = await api.client.create(ENDPOINTS, wanted)
        (found,) = await api.until(lambda: api.all(ENDPOINT_SLICES))
        member = {"addresses": ["10.0.0.1"], "conditions": {"ready": True}}
        assert found["endpoints"] == [{**member, "hostname": "h", "nodeName": "n1", "targetRef": target}]
        assert found["ports"] == [{"name": "http", "port": 80, "protocol": "TCP"}]
        assert labels_of(found) == {
            "team": "a",
            "kubernetes.io/service-name": "db",
            "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
        }
        assert annotations_of(found) == {"note": "mine"}
        assert (controller_of(found) or {})["kind"] == "Endpoints"
        assert list(mirrored_from(found)) == ["default/db"]
        await api.client.update(ENDPOINTS, replace_in(made, [subset("10.0.0.9", "nonsense")], "subsets"))
        await api.until(lambda: api.all(ENDPOINT_SLICES)[0]["endpoints"][0]["addresses"] == ["10.0.0.9"])
        said = "Skipped 1 invalid IP addresses when mirroring to EndpointSlices"
        await api.until(lambda: said in messages(api, "InvalidIPAddress"))
        await api.client.patch(SERVICES, "db", {"spec": {"selector": {"a": "b"}}}, "default")
        await api.until(lambda: not api.all(ENDPOINT_SLICES))
