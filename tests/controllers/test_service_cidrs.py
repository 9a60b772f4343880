"""ServiceCIDRs become ready, and stay as long as Services have addresses of theirs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pinnace.controllers.service_cidrs import FINALIZER, may_go, ready_condition
from pinnace.testing import ApiError, Cluster

NOW = datetime(2030, 1, 1, tzinfo=UTC)
BLOCKED = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"


def service_cidr(name: str, *cidrs: str) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": name},
        "spec": {"cidrs": list(cidrs)},
    }


def address(name: str, manager: str = "ipallocator.k8s.io") -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"ipaddress.kubernetes.io/managed-by": manager}}}


@pytest.mark.parametrize(
    ("others", "addresses", "expected"),
    [
        ((), (), True),
        ((), ("10.1.0.5",), False),
        ((), ("10.2.0.5",), True),
        (("10.1.0.0/24",), ("10.1.0.5",), True),
        (("10.0.0.0/8",), ("10.1.0.5",), True),
        (("10.1.0.0/25",), ("10.1.0.5",), True),
        (("10.1.0.0/25",), ("10.1.0.5", "10.1.0.200"), False),
        (("fd00::/64",), ("10.1.0.5",), False),
    ],
)
def test_a_range_may_go_when_its_addresses_are_of_others_too(
    others: tuple[str, ...], addresses: tuple[str, ...], expected: bool
) -> None:
    rest = [service_cidr("other", cidr) for cidr in others]
    assert may_go(service_cidr("mine", "10.1.0.0/24"), rest, [address(one) for one in addresses]) is expected


def test_addresses_that_others_look_after_hold_nothing() -> None:
    assert may_go(service_cidr("mine", "10.1.0.0/24"), [], [address("10.1.0.5", "someone.example.com")])


def test_the_condition_is_written_once_and_keeps_its_time() -> None:
    mine = service_cidr("mine", "10.1.0.0/24")
    ready = ready_condition(mine, NOW, blocked=False)
    assert ready == {
        "type": "Ready",
        "status": "True",
        "reason": "",
        "message": "Kubernetes Service CIDR is ready",
        "lastTransitionTime": "2030-01-01T00:00:00Z",
    }
    mine["status"] = {"conditions": [ready]}
    assert ready_condition(mine, NOW, blocked=False) is None
    blocked = ready_condition(mine, NOW, blocked=True)
    assert blocked is not None
    assert (blocked["status"], blocked["reason"], blocked["message"]) == ("False", "Terminating", BLOCKED)


@pytest.mark.pinnace(scheduler=False)
def test_a_further_range_gives_addresses_and_ends_after_its_services(
    pinnace: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinnace.controllers.service_cidrs.GRACE", 0.0)
    api = pinnace.api

    def service(name: str, **spec: Any) -> dict[str, Any]:
        spec["ports"] = [{"port": 80}]
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}

    def ready(obj: dict[str, Any]) -> list[str]:
        conditions = obj.get("status", {}).get("conditions", ())
        return [one["status"] for one in conditions if one["type"] == "Ready"]

    api.wait_for("servicecidrs", "kubernetes", lambda obj: ready(obj) == ["True"])
    outside = "the provided network does not match the current range"
    with pytest.raises(ApiError, match=outside):
        api.create(service("web", clusterIP="10.10.0.5"))

    api.create(service_cidr("further", "10.10.0.0/28"))
    found = api.wait_for("servicecidrs", "further", lambda obj: ready(obj) == ["True"])
    assert found["metadata"]["finalizers"] == [FINALIZER]
    api.create(service("web", clusterIP="10.10.0.5"))

    api.delete("servicecidrs", "further")
    api.wait_for("servicecidrs", "further", lambda obj: ready(obj) == ["False"])
    with pytest.raises(ApiError, match=outside):
        api.create(service("more", clusterIP="10.10.0.6"))
    api.delete("services", "web")
    api.wait_gone("servicecidrs", "further")
