"""The registry against the definitions of every minor, as an installed package carries them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import orjson
import pytest

from pinnace.apis import builtin, resources
from pinnace.apis.registry import Registry
from pinnace.machinery.meta import GVK, GVR

MINORS = range(builtin.OLDEST, builtin.NEWEST + 1)

# Kinds that are bodies of requests or of subresources, with no collection of their own.
BODIES = {"APIGroup", "APIVersions", "Eviction", "Scale", "Status", "TokenRequest"}
BETA_ON = {
    GVK("flowcontrol.apiserver.k8s.io", "v1beta3", kind) for kind in ("FlowSchema", "PriorityLevelConfiguration")
}


def definitions(minor: int) -> dict[str, Any]:
    spec = importlib.util.find_spec("kubernetes_validate")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "kubernetes-json-schema" / f"v1.{minor}.0-local" / "_definitions.json"
    document: dict[str, Any] = orjson.loads(path.read_bytes())
    found: dict[str, Any] = document.get("$defs") or document["definitions"]
    return found


def kinds_with_schema(minor: int) -> set[GVK]:
    found = set()
    for definition in definitions(minor).values():
        gvks = definition.get("x-kubernetes-group-version-kind") or []
        if len(gvks) == 1:
            found.add(GVK(gvks[0]["group"], gvks[0]["version"], gvks[0]["kind"]))
    return {gvk for gvk in found if not gvk.kind.endswith("List")}


@pytest.mark.parametrize("minor", MINORS)
def test_every_stable_kind_of_a_minor_is_served_and_nothing_else(minor: int) -> None:
    known = kinds_with_schema(minor)
    expected = {
        gvk for gvk in known if gvk.version.isalnum() and gvk.version in ("v1", "v2") and gvk.kind not in BODIES
    }
    expected |= known & BETA_ON
    assert {kind.gvk for kind in Registry(minor).kinds} == expected


@pytest.mark.parametrize("minor", MINORS)
def test_status_is_served_where_the_schema_has_one(minor: int) -> None:
    reviews = {"CSINode"}
    by_gvk = {}
    for definition in definitions(minor).values():
        gvks = definition.get("x-kubernetes-group-version-kind") or []
        if len(gvks) == 1:
            by_gvk[GVK(gvks[0]["group"], gvks[0]["version"], gvks[0]["kind"])] = definition
    for kind in Registry(minor).kinds:
        if kind.is_stored and kind.kind not in reviews:
            assert kind.has_status == ("status" in by_gvk[kind.gvk]["properties"]), kind.qualified


def test_names_are_unique_within_a_group_version() -> None:
    for minor in MINORS:
        kinds = Registry(minor).kinds
        assert len({kind.gvr for kind in kinds}) == len(kinds)


def test_short_names_belong_to_one_resource() -> None:
    owners: dict[str, set[str]] = {}
    for kind in Registry().kinds:
        for short in kind.short_names:
            owners.setdefault(short, set()).add(kind.plural)
    assert all(len(plurals) == 1 for plurals in owners.values())


def test_groups_come_in_the_order_of_discovery() -> None:
    groups = Registry(30).groups()
    assert [group for group, _ in groups][:8] == [
        "",
        "apiregistration.k8s.io",
        "apps",
        "events.k8s.io",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "autoscaling",
        "batch",
    ]
    assert dict(groups)["autoscaling"] == ("v2", "v1")
    assert dict(groups)["flowcontrol.apiserver.k8s.io"] == ("v1", "v1beta3")
    assert "resource.k8s.io" not in dict(groups)
    assert "resource.k8s.io" in dict(Registry(34).groups())


def test_constants_name_resources_of_the_newest_minor() -> None:
    constants = {value for value in vars(resources).values() if isinstance(value, GVR)}
    served = {kind.gvr for kind in Registry().kinds}
    second_views = {
        GVR("events.k8s.io", "v1", "events"),
        GVR("autoscaling", "v1", "horizontalpodautoscalers"),
    }
    alpha = {GVR("internal.apiserver.k8s.io", "v1alpha1", "storageversions")}
    assert constants == served - second_views | alpha


def test_an_unknown_minor_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Kubernetes 1\.29 is not known; these are: 1\.30 to 1\.37"):
        Registry(29)


def test_resize_is_younger_than_pods() -> None:
    for minor, there in ((32, False), (33, True)):
        pods = Registry(minor).by_gvr(resources.PODS)
        assert pods is not None
        assert ("resize" in {path.name for path in pods.subresources}) is there


@pytest.mark.parametrize(
    ("minor", "gates", "least", "metric", "refused"),
    [
        (37, {}, 0, "External", False),
        (37, {}, 0, "Resource", True),
        (37, {"HPAScaleToZero": False}, 0, "External", True),
        (36, {}, 0, "External", True),
        (36, {"HPAScaleToZero": True}, 0, "External", False),
        (36, {}, 1, "Resource", False),
    ],
)
def test_features_decide_what_is_valid(
    minor: int, gates: dict[str, bool], least: int, metric: str, refused: bool
) -> None:
    kind = Registry(minor, feature_gates=gates).by_gvk(GVK("autoscaling", "v2", "HorizontalPodAutoscaler"))
    assert kind is not None
    assert kind.validate is not None
    value = {"type": "AverageValue", "averageValue": "1"}
    sources = {
        "External": {"type": "External", "external": {"metric": {"name": "queue"}, "target": value}},
        "Resource": {"type": "Resource", "resource": {"name": "cpu", "target": value}},
    }
    spec = {
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
        "minReplicas": least,
        "maxReplicas": 2,
        "metrics": [sources[metric]],
    }
    assert bool(kind.validate({"metadata": {"name": "a", "namespace": "b"}, "spec": spec})) is refused
