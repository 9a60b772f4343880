"""Alpha and beta versions: which are served, and their conversions."""

from __future__ import annotations

import pytest

from pinnace.apis import builtin, prerelease
from pinnace.apis.runtime_config import RuntimeConfig, RuntimeConfigError, maturity, parse_runtime_config
from pinnace.machinery.meta import GVK, Obj
from pinnace.machinery.schema import Schemas

GROUPS = builtin.GROUPS
NOT_RESOURCES = {"DeleteOptions", "WatchEvent", "Status", "Eviction"}


@pytest.mark.parametrize("minor", Schemas.minors())
def test_every_alpha_and_beta_kind_of_the_schemas_is_known(minor: int) -> None:
    schemas = Schemas.load(minor)
    known = {GVK(row.group, row.version, row.kind) for row in prerelease.KINDS if row.since <= minor <= row.until}
    known |= {GVK(row.group, row.version, row.kind) for row in builtin.KINDS}
    meant = {
        gvk
        for gvk in schemas.kinds
        if maturity(gvk.version) != "ga" and not gvk.kind.endswith("List") and gvk.kind not in NOT_RESOURCES
    }

    assert meant - known == set()
    assert {gvk for gvk in known if maturity(gvk.version) != "ga" and gvk not in schemas.kinds} - {
        GVK("flowcontrol.apiserver.k8s.io", "v1beta3", kind) for kind in ("FlowSchema", "PriorityLevelConfiguration")
    } == set()


@pytest.mark.parametrize(
    ("text", "served"),
    [
        ("", {"v1": True, "v1beta1": False, "v1alpha1": False}),
        ("api/all=true", {"v1": True, "v1beta1": True, "v1alpha1": True}),
        ("api/all=false,storage.k8s.io/v1=true", {"v1": True, "v1beta1": False, "v1alpha1": False}),
        ("api/beta=true", {"v1": True, "v1beta1": True, "v1alpha1": False}),
        ("storage.k8s.io/v1alpha1", {"v1": True, "v1beta1": False, "v1alpha1": True}),
        ("api/all,storage.k8s.io/v1beta1=0", {"v1": True, "v1beta1": False, "v1alpha1": True}),
        ("storage.k8s.io/v1/storageclasses=false", {"v1": False, "v1beta1": False, "v1alpha1": False}),
    ],
)
def test_a_closer_switch_wins(text: str, served: dict[str, bool]) -> None:
    config = parse_runtime_config(text, GROUPS)

    found = {
        version: config.serves("storage.k8s.io", version, "storageclasses", default=version == "v1")
        for version in served
    }

    assert found == served


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("api/gamma=true", "runtime-config invalid key api/gamma"),
        ("storage.k8s.io=true", "runtime-config invalid key storage.k8s.io"),
        ("storage.k8s.io/one=true", "runtime-config invalid key storage.k8s.io/one"),
        ("nosuch.k8s.io/v1=true,other/v1", "unknown api groups nosuch.k8s.io,other"),
        ("api/all=maybe", "runtime-config invalid value 'maybe' of api/all: true or false is meant"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(text: str, message: str) -> None:
    with pytest.raises(RuntimeConfigError) as caught:
        parse_runtime_config(text, GROUPS)

    assert str(caught.value) == message


def test_nothing_said_means_kubernetes_own_choice() -> None:
    assert RuntimeConfig().serves("apps", "v1", "deployments", default=True)


FLAT_REQUEST = {"name": "gpu", "deviceClassName": "gpu.example.com", "count": 2, "allocationMode": "ExactCount"}
NESTED_REQUEST = {
    "name": "gpu",
    "exactly": {"deviceClassName": "gpu.example.com", "count": 2, "allocationMode": "ExactCount"},
}
ONE_OF = {"name": "any", "firstAvailable": [{"name": "a", "deviceClassName": "x"}]}


def claim(*requests: Obj) -> Obj:
    return {"metadata": {"name": "c"}, "spec": {"devices": {"requests": list(requests)}}}


def template(*requests: Obj) -> Obj:
    return {"metadata": {"name": "t"}, "spec": {"spec": claim(*requests)["spec"]}}


def devices(*listed: Obj) -> Obj:
    return {"metadata": {"name": "s"}, "spec": {"driver": "d", "devices": list(listed)}}


@pytest.mark.parametrize(
    ("kind", "version", "stored", "shown", "kept"),
    [
        ("ResourceClaim", "v1beta1", "v1", claim(FLAT_REQUEST, ONE_OF), claim(NESTED_REQUEST, ONE_OF)),
        ("ResourceClaim", "v1beta2", "v1", claim(NESTED_REQUEST), claim(NESTED_REQUEST)),
        ("ResourceClaimTemplate", "v1beta1", "v1", template(FLAT_REQUEST), template(NESTED_REQUEST)),
        (
            "ResourceSlice",
            "v1beta1",
            "v1",
            devices({"name": "d0", "basic": {"capacity": {"memory": {"value": "1Gi"}}}}),
            devices({"name": "d0", "capacity": {"memory": {"value": "1Gi"}}}),
        ),
        (
            "ResourceSlice",
            "v1alpha3",
            "v1beta2",
            devices({"name": "d0", "basic": {"capacity": {"memory": "1Gi"}}}),
            devices({"name": "d0", "capacity": {"memory": {"value": "1Gi"}}}),
        ),
        (
            "ResourceSlice",
            "v1alpha3",
            "v1beta1",
            devices({"name": "d0", "basic": {"capacity": {"memory": "1Gi"}}}),
            devices({"name": "d0", "basic": {"capacity": {"memory": {"value": "1Gi"}}}}),
        ),
        ("DeviceClass", "v1beta1", "v1", {"metadata": {"name": "x"}}, {"metadata": {"name": "x"}}),
    ],
)
def test_versions_are_converted_there_and_back(kind: str, version: str, stored: str, shown: Obj, kept: Obj) -> None:
    up, down = prerelease.conversion(GVK("resource.k8s.io", version, kind), stored)

    there = up(shown | {"apiVersion": f"resource.k8s.io/{version}"})
    back = down(there)

    assert there == kept | {"apiVersion": f"resource.k8s.io/{stored}"}
    assert back == shown | {"apiVersion": f"resource.k8s.io/{version}"}
