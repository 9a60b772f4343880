"""Which features are on: defaults by minor, and what `--feature-gates` may say of them."""

from __future__ import annotations

import pytest

from pinnace.machinery.features import FeatureGateError, FeatureGates, gates_of, parse_feature_gates

MINORS = range(30, 38)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("WatchList=true", {"WatchList": True}),
        ("A=T, B=0,A=false", {"A": False, "B": False}),
        ("kube:AllAlpha=true", {"AllAlpha": True}),
    ],
)
def test_flags_are_read_as_kubernetes_reads_them(text: str, found: dict[str, bool]) -> None:
    assert parse_feature_gates(text) == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("WatchList", "missing bool value for WatchList"),
        (
            "WatchList=yes",
            'invalid value of WatchList=yes, err: strconv.ParseBool: parsing "yes": invalid syntax',
        ),
        ("wardle:Beef=true", "component not registered: wardle"),
    ],
)
def test_flags_that_cannot_be_read_are_refused(text: str, why: str) -> None:
    with pytest.raises(FeatureGateError) as error:
        parse_feature_gates(text)
    assert str(error.value) == why


@pytest.mark.parametrize(
    ("minor", "chosen", "why"),
    [
        (37, {"NoSuchThing": True}, "unrecognized feature gate: NoSuchThing"),
        (30, {"DRAAdminAccess": True}, "unrecognized feature gate: DRAAdminAccess"),  # it came with 1.32
        (37, {"SidecarContainers": True}, "unrecognized feature gate: SidecarContainers"),  # it went with 1.37
        (
            36,
            {"SidecarContainers": False},
            "cannot set feature gate SidecarContainers to false, feature is locked to true",
        ),
    ],
)
def test_gates_that_cannot_be_are_refused(minor: int, chosen: dict[str, bool], why: str) -> None:
    with pytest.raises(FeatureGateError) as error:
        FeatureGates(minor, chosen)
    assert str(error.value) == why


@pytest.mark.parametrize(
    ("minor", "chosen", "name", "on"),
    [
        (31, {}, "JobManagedBy", False),
        (32, {}, "JobManagedBy", True),
        (31, {"JobManagedBy": True}, "JobManagedBy", True),
        (32, {}, "WatchList", True),
        (33, {}, "WatchList", False),
        (30, {}, "DRAAdminAccess", False),  # not yet there
        (37, {}, "SidecarContainers", True),  # no longer a choice
        (37, {}, "AllowServiceLBStatusOnNonLB", False),
        (37, {"AllAlpha": True}, "ContainerStopSignals", True),
        (37, {"AllAlpha": True}, "MutatingAdmissionPolicy", True),
        (37, {"AllAlpha": True, "ContainerStopSignals": False}, "ContainerStopSignals", False),
        (37, {"AllBeta": False}, "WatchList", False),
        (37, {"AllBeta": False, "WatchList": True}, "WatchList", True),
        (37, {"AllBeta": False}, "SidecarContainers", True),
        (37, {}, "NoSuchThing", False),
    ],
)
def test_a_feature_is_on_or_off(minor: int, chosen: dict[str, bool], name: str, on: bool) -> None:
    assert FeatureGates(minor, chosen).enabled(name) is on


def test_gates_that_will_go_are_warned_of() -> None:
    chosen = {"KMSv1": True, "DynamicResourceAllocation": True, "WatchList": True}
    assert FeatureGates(37, chosen).warnings() == [
        "Setting GA feature gate DynamicResourceAllocation=true. It will be removed in a future release.",
        "Setting deprecated feature gate KMSv1=true. It will be removed in a future release.",
    ]


def test_the_table_tells_stage_and_state() -> None:
    table = FeatureGates(33, {"AllAlpha": True}).table()
    assert table["AllAlpha"] == ("ALPHA", True)
    assert table["AllBeta"] == ("BETA", False)
    assert table["ContainerStopSignals"] == ("ALPHA", True)
    assert table["SidecarContainers"] == ("", True)
    assert table["KMSv1"] == ("DEPRECATED", False)
    assert "DRAConsumableCapacity" not in table


@pytest.mark.parametrize("minor", MINORS)
def test_alpha_gates_are_off_and_locked_ones_are_ripe(minor: int) -> None:
    for name, gate in gates_of(minor).items():
        assert gate.stage != "ALPHA" or not gate.default or name == "WindowsHostNetwork", name
        assert not gate.locked or gate.stage in ("", "DEPRECATED"), name
