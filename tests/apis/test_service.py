"""Services: what a change of type takes along."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis.core import service
from pinnace.machinery.meta import Obj


def stored(**spec: Any) -> Obj:
    port = {"port": 80, "targetPort": 80, "protocol": "TCP"}
    if spec["type"] in ("NodePort", "LoadBalancer"):
        port["nodePort"] = 30001
    obj = {"metadata": {"name": "s"}, "spec": {"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"], "ports": [port]}}
    obj["spec"].update(spec)
    service.default(obj)
    service.prepare(obj, None)
    return obj


def changed(old: Obj, **spec: Any) -> Obj:
    new: Obj = {"metadata": dict(old["metadata"]), "spec": {**old["spec"], **spec}}
    new["spec"]["ports"] = [dict(port) for port in new["spec"]["ports"]]
    service.default(new)
    service.prepare(new, old)
    return new


def words(obj: Obj) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in service.validate(obj)]


@pytest.mark.parametrize("before", ["NodePort", "LoadBalancer"])
def test_a_service_that_is_no_longer_external_drops_what_made_it_so(before: str) -> None:
    new = changed(stored(type=before), type="ClusterIP")
    assert not words(new)
    assert "nodePort" not in new["spec"]["ports"][0]
    assert "externalTrafficPolicy" not in new["spec"]
    assert "allocateLoadBalancerNodePorts" not in new["spec"]
    assert new["spec"]["clusterIP"] == "10.0.0.9"


def test_an_external_name_has_no_address() -> None:
    new = changed(stored(type="ClusterIP"), type="ExternalName", externalName="example.com")
    assert not words(new)
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & new["spec"].keys()


def test_a_balanced_service_keeps_its_node_port_as_a_node_port() -> None:
    new = changed(stored(type="LoadBalancer"), type="NodePort")
    assert not words(new)
    assert new["spec"]["ports"][0]["nodePort"] == 30001
    assert new["spec"]["externalTrafficPolicy"] == "Cluster"


def test_the_health_check_port_goes_with_the_local_policy() -> None:
    old = stored(type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=30002)
    assert changed(old)["spec"]["healthCheckNodePort"] == 30002
    assert "healthCheckNodePort" not in changed(old, externalTrafficPolicy="Cluster")["spec"]


def test_what_the_author_sets_anew_is_judged_and_not_dropped() -> None:
    old = stored(type="NodePort")
    new = changed(old, type="ClusterIP", ports=[{**old["spec"]["ports"][0], "nodePort": 30003}])
    assert words(new) == ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]
    new = changed(old, type="ClusterIP", externalTrafficPolicy="Local")
    assert words(new) == [
        'spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services'
    ]
