"""What authors are warned of."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis import warnings

from .objects import kind_of

NAMED = "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "spec": spec}


def container(**more: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", **more}]}


@pytest.mark.parametrize(
    ("spec", "messages"),
    [
        (container(), []),
        (
            {"nodeSelector": {"beta.kubernetes.io/os": "linux"}},
            ['spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead'],
        ),
        (
            {"volumes": [{"name": "v", "gitRepo": {}}, {"name": "w", "rbd": {}}]},
            [
                "spec.volumes[0].gitRepo: deprecated in v1.11",
                "spec.volumes[1].rbd: deprecated in v1.28, non-functional in v1.31+",
            ],
        ),
        ({"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}, ['spec.imagePullSecrets[1].name: duplicate name "a"']),
        (
            container(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
            ['spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply'],
        ),
        (container(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "$(A):2"}]), []),
        (
            container(ports=[{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP"}]),
            ["spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"],
        ),
        (
            container(resources={"requests": {"memory": "100m", "cpu": "100m"}}),
            [
                'spec.containers[0].resources.requests[memory]: fractional byte value "100m" is invalid, must be an integer'
            ],
        ),
    ],
)
def test_about_a_pod(spec: dict[str, Any], messages: list[str]) -> None:
    assert warnings.on_create("", "Pod", pod(**spec)) == messages


@pytest.mark.parametrize(
    ("group", "kind", "obj", "messages"),
    [
        ("apps", "Deployment", {"metadata": {"name": "a.b"}, "spec": {}}, [NAMED]),
        (
            "apps",
            "Deployment",
            {"metadata": {"name": "a"}, "spec": {"template": pod(nodeSelector={"beta.kubernetes.io/arch": "x"})}},
            [
                'spec.template.spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use "kubernetes.io/arch" instead'
            ],
        ),
        (
            "networking.k8s.io",
            "Ingress",
            {"metadata": {"name": "a", "annotations": {"kubernetes.io/ingress.class": "n"}}},
            ["annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"],
        ),
        (
            "",
            "Service",
            {"metadata": {"name": "a"}, "spec": {"clusterIP": "None", "sessionAffinity": "ClientIP"}},
            ["spec.SessionAffinity is ignored for headless services"],
        ),
        (
            "",
            "PersistentVolumeClaim",
            {"metadata": {"name": "a"}, "spec": {"resources": {"requests": {"storage": "1500m"}}}},
            ['spec.resources.requests[storage]: fractional byte value "1500m" is invalid, must be an integer'],
        ),
        ("", "ConfigMap", {"metadata": {"name": "a"}}, []),
    ],
)
def test_about_other_kinds(group: str, kind: str, obj: dict[str, Any], messages: list[str]) -> None:
    assert warnings.on_create(group, kind, obj) == messages


def test_an_update_warns_where_a_spec_is_changed() -> None:
    old = {"metadata": {"name": "a.b"}, "spec": {"replicas": 1}}
    assert warnings.on_update("apps", "Deployment", {**old, "spec": {"replicas": 2}}, old) == [NAMED]
    assert warnings.on_update("apps", "Deployment", old, old) == []


def test_endpoints_are_deprecated() -> None:
    assert kind_of("v1", "Endpoints").deprecation == (
        "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
    )
    assert warnings.deprecation("", "v1", "Endpoints", 32) == ""
