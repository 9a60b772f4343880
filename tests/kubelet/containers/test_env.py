"""The environment of containers: variables, where they come from, and what is said where they do not."""

from __future__ import annotations

import base64

import pytest

from pinnace.kubelet.containers.env import ConfigError, Environment, PodFacts, expand, service_environment
from pinnace.machinery.errors import not_found
from tests.kubelet.pods import both, pod


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)-$(B)", "1-$(B)"),
        ("$$(A)", "$(A)"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("$$$(A)", "$1"),
        ("", ""),
    ],
)
def test_expansion(text, expected):
    assert expand(text, {"A": "1"}) == expected


def test_service_environment():
    services = [
        {
            "metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]},
        },
        {
            "metadata": {"name": "my-db", "namespace": "d"},
            "spec": {"clusterIP": "10.96.0.5", "ports": [{"port": 5432, "protocol": "TCP"}]},
        },
        {"metadata": {"name": "headless", "namespace": "d"}, "spec": {"clusterIP": "None", "ports": []}},
    ]
    found = service_environment(services, "d", True)
    assert found["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert found["KUBERNETES_SERVICE_PORT_HTTPS"] == "443"
    assert found["KUBERNETES_PORT_443_TCP_ADDR"] == "10.96.0.1"
    assert found["MY_DB_PORT"] == "tcp://10.96.0.5:5432"
    assert not any(name.startswith("HEADLESS") for name in found)
    assert "MY_DB_PORT" not in service_environment(services, "d", False)


async def fetch(kind, namespace, name):
    known = {
        ("ConfigMap", "cm"): {"data": {"k": "v", "other": "w"}},
        ("Secret", "s"): {"data": {"pw": base64.b64encode(b"hidden").decode()}},
    }
    if (kind, name) not in known:
        raise not_found(kind.lower(), name)
    return known[kind, name]


def environment(**spec):
    facts = PodFacts(
        pod(both(cpu="1500m", memory="64Mi"), nodeName="n1", **spec),
        host_ips=["192.0.2.7"],
        pod_ips=["10.0.0.9"],
        allocatable={"cpu": 4000, "memory": 8 << 30},
    )
    return Environment(facts, fetch, {"SVC": "svc"})


async def test_environment():
    container = {
        "name": "c0",
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "no", "optional": True}}],
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)$(SVC)$(P_k)"},
            {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}},
            {"name": "NO", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k", "optional": True}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}},
        ],
    }
    assert await environment().build(container) == {
        "P_k": "v",
        "P_other": "w",
        "A": "1",
        "B": "1svcv",
        "PW": "hidden",
        "NODE": "n1",
        "IP": "10.0.0.9",
        "LABEL": "1",
        "CPU": "2",
        "MEM": "64",
        "SVC": "svc",
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "no", "key": "k"}}, 'configmap "no" not found'),
        ({"secretKeyRef": {"name": "no", "key": "k"}}, 'secret "no" not found'),
        ({"configMapKeyRef": {"name": "cm", "key": "no"}}, "couldn't find key no in ConfigMap d/cm"),
        ({"secretKeyRef": {"name": "s", "key": "no"}}, "couldn't find key no in Secret d/s"),
    ],
)
async def test_environment_errors(source, message):
    with pytest.raises(ConfigError) as error:
        await environment().build({"name": "c0", "env": [{"name": "A", "valueFrom": source}]})
    assert str(error.value) == message


def test_labels_as_a_field():
    facts = PodFacts(pod(), host_ips=[], pod_ips=[], allocatable={})
    assert facts.field("metadata.labels") == 'a="1"\nb="say \\"x\\""'
