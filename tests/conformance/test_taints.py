"""Pods leave a tainted node when the time is over for which they tolerate it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pinnace.testing import Api, Cluster

Taint = Callable[..., None]


def tolerates(key: str, seconds: int | None = None) -> dict[str, Any]:
    toleration = {"key": key, "operator": "Exists", "effect": "NoExecute"}
    return toleration if seconds is None else {**toleration, "tolerationSeconds": seconds}


def run(api: Api, namespace: str, name: str, *tolerations: dict[str, Any]) -> None:
    """Start a pod on the node that tests taint."""
    spec = {
        "containers": [{"name": "main", "image": "example.com/any"}],
        "nodeSelector": {"kubernetes.io/hostname": "tainted"},
        "tolerations": list(tolerations),
    }
    api.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}, namespace)
    api.wait_for("pods", name, "Ready", namespace)


@pytest.fixture
def taint(cluster: Cluster) -> Iterator[Taint]:
    """Gives the node `tainted` these taints and no others, by one write."""

    def write(*keys: str) -> None:
        taints = [{"key": key, "effect": "NoExecute"} for key in keys]
        cluster.api.patch("nodes", "tainted", {"spec": {"taints": taints}})

    cluster.add_node("tainted", labels={"kubernetes.io/hostname": "tainted"})
    yield write
    cluster.api.delete("nodes", "tainted")


def test_pods_stay_as_long_as_they_tolerate(api: Api, namespace: str, taint: Taint) -> None:
    """Conformance: "Pod Eviction, Toleration limits" """
    run(api, namespace, "brief", tolerates("a", 1))
    run(api, namespace, "patient", tolerates("a", 2))
    run(api, namespace, "calm", tolerates("a"))
    taint("a")
    api.wait_gone("pods", "brief", namespace)
    api.wait_gone("pods", "patient", namespace)
    assert "deletionTimestamp" not in api.get("pods", "calm", namespace)["metadata"]


def test_a_taint_that_goes_in_time_evicts_nobody(api: Api, namespace: str, taint: Taint) -> None:
    """The second pod's time begins when the first one's is cut short: it goes last, and finds the other in place.

    Conformance: "Taint, Pod Eviction on taint removal"
    """
    run(api, namespace, "spared", tolerates("a", 2), tolerates("b"))
    run(api, namespace, "clock", tolerates("a"), tolerates("b", 3))
    taint("a")
    taint("b")
    api.wait_gone("pods", "clock", namespace)
    assert "deletionTimestamp" not in api.get("pods", "spared", namespace)["metadata"]
