"""Thresholds as configured, which of them are met, and how long they count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.kubelet.eviction.thresholds import (
    DEFAULT_HARD,
    Amount,
    Observation,
    Pressure,
    Signal,
    Threshold,
    is_met,
    parse_thresholds,
    with_containerfs,
)

MI = 1024 * 1024
MEMORY, NODEFS, PIDS = Signal.MEMORY_AVAILABLE, Signal.NODEFS_AVAILABLE, Signal.PID_AVAILABLE


def test_defaults():
    found = parse_thresholds(DEFAULT_HARD, {}, {}, {})
    assert [(str(one.signal), one.value) for one in found] == [
        ("allocatableMemory.available", Amount(100 * MI)),
        ("memory.available", Amount(100 * MI)),
        ("nodefs.available", Amount(part=0.1)),
        ("nodefs.inodesFree", Amount(part=0.05)),
        ("imagefs.available", Amount(part=0.15)),
        ("imagefs.inodesFree", Amount(part=0.05)),
    ]


def test_soft_thresholds_have_grace_periods_and_any_may_reclaim_more():
    found = parse_thresholds(
        {"nodefs.available": "1Gi"},
        {"memory.available": "200Mi"},
        {"memory.available": "1m30s"},
        {"memory.available": "0Mi", "nodefs.available": "10%"},
        enforce_pods=False,
    )
    assert found == (
        Threshold(NODEFS, Amount(1 << 30), minimum_reclaim=Amount(part=0.1)),
        Threshold(MEMORY, Amount(200 * MI), 90.0, Amount(0), soft=True),
    )


def test_nothing_and_everything_are_no_thresholds():
    assert parse_thresholds({"nodefs.available": "0%", "imagefs.available": "100%"}, {}, {}, {}) == ()


@pytest.mark.parametrize(
    ("hard", "soft", "grace", "reclaim", "message"),
    [
        ({"mem": "1Gi"}, {}, {}, {}, "unsupported eviction signal mem"),
        ({"memory.available": "-1Mi"}, {}, {}, {}, "eviction threshold memory.available must be positive: -1Mi"),
        ({"memory.available": "0"}, {}, {}, {}, "eviction threshold memory.available must be positive: 0"),
        (
            {"nodefs.available": "-10%"},
            {},
            {},
            {},
            "eviction percentage threshold nodefs.available must be >= 0%: -10%",
        ),
        (
            {"nodefs.available": "110%"},
            {},
            {},
            {},
            "eviction percentage threshold nodefs.available must be <= 100%: 110%",
        ),
        (
            {},
            {"memory.available": "1Gi"},
            {},
            {},
            "grace period must be specified for the soft eviction threshold memory.available",
        ),
        (
            {},
            {"memory.available": "1Gi"},
            {"memory.available": "-30s"},
            {},
            "invalid eviction grace period specified: -30s, must be a positive value",
        ),
        (
            {},
            {},
            {},
            {"memory.available": "-1Mi"},
            "negative eviction minimum reclaim specified for memory.available",
        ),
        (
            {},
            {},
            {},
            {"memory.available": "0%"},
            "eviction percentage minimum reclaim memory.available must be positive: 0%",
        ),
    ],
)
def test_what_cannot_be_is_refused(hard, soft, grace, reclaim, message):
    with pytest.raises(ValueError, match="^" + message.replace("%", "[%]") + "$"):
        parse_thresholds(hard, soft, grace, reclaim)


@pytest.mark.parametrize(
    ("signal", "resource", "condition"),
    [
        ("memory.available", "memory", "MemoryPressure"),
        ("allocatableMemory.available", "memory", "MemoryPressure"),
        ("nodefs.available", "ephemeral-storage", "DiskPressure"),
        ("imagefs.inodesFree", "inodes", "DiskPressure"),
        ("containerfs.available", "ephemeral-storage", "DiskPressure"),
        ("pid.available", "pids", "PIDPressure"),
    ],
)
def test_signals(signal, resource, condition):
    assert (Signal(signal).resource, Signal(signal).condition) == (resource, condition)


def test_the_file_system_of_containers_has_the_thresholds_of_the_one_it_is_on():
    asked = parse_thresholds(
        {"nodefs.available": "10%", "imagefs.available": "15%", "containerfs.available": "1%"}, {}, {}, {}
    )
    of_images = with_containerfs(asked, of_images=True)
    of_node = with_containerfs(asked, of_images=False)
    assert of_images[-1] == Threshold(Signal.CONTAINERFS_AVAILABLE, Amount(part=0.15))
    assert of_node[-1] == Threshold(Signal.CONTAINERFS_AVAILABLE, Amount(part=0.1))
    assert len(of_images) == len(of_node) == 3


@given(available=st.integers(0, 1000), percent=st.integers(1, 99), more=st.integers(0, 50))
def test_what_must_be_reclaimed_is_never_less_than_what_must_be_free(available, percent, more):
    one = Threshold(NODEFS, Amount(part=percent / 100), minimum_reclaim=Amount(part=more / 100))
    seen = {NODEFS: Observation(available, 1000)}
    assert is_met(one, seen, reclaiming=True) or not is_met(one, seen)


def see(**available: int) -> dict[Signal, Observation]:
    names = {"memory": MEMORY, "disk": NODEFS, "pids": PIDS}
    return {names[name]: Observation(amount, 1000) for name, amount in available.items()}


def test_a_hard_threshold_counts_at_once_and_its_condition_lingers():
    pressure = Pressure([Threshold(MEMORY, Amount(100))], 300)
    assert pressure.observe(see(memory=100), 0) == []
    assert pressure.conditions == ()
    assert pressure.observe(see(memory=99), 10) == list(pressure.thresholds)
    assert pressure.observe(see(memory=500), 20) == []
    assert pressure.conditions == ("MemoryPressure",)
    pressure.observe(see(memory=500), 309)
    assert pressure.conditions == ("MemoryPressure",)
    pressure.observe(see(memory=500), 310)
    assert pressure.conditions == ()


def test_a_soft_threshold_counts_once_its_grace_period_is_over():
    pressure = Pressure([Threshold(MEMORY, Amount(100), grace=30, soft=True)], 0)
    assert pressure.observe(see(memory=50), 0) == []
    assert pressure.conditions == ("MemoryPressure",)
    assert pressure.observe(see(memory=50), 29) == []
    assert pressure.observe(see(memory=500), 29.5) == []  # a moment of relief, and the time begins anew
    assert pressure.observe(see(memory=50), 30) == []
    assert pressure.observe(see(memory=50), 60) == list(pressure.thresholds)


def test_what_was_reclaimed_once_goes_on_to_its_minimum():
    pressure = Pressure([Threshold(NODEFS, Amount(100), minimum_reclaim=Amount(50))], 0)
    assert pressure.observe(see(disk=120), 0) == []
    assert pressure.observe(see(disk=99), 1) == list(pressure.thresholds)
    assert pressure.observe(see(disk=149), 2) == list(pressure.thresholds)
    assert pressure.observe(see(disk=150), 3) == []
    assert pressure.observe(see(disk=149), 4) == []


def test_memory_comes_first():
    disk, memory, pids = (Threshold(signal, Amount(100)) for signal in (NODEFS, MEMORY, PIDS))
    found = Pressure([pids, disk, memory], 0).observe(see(disk=1, memory=1, pids=1), 0)
    assert found == [memory, pids, disk]


def test_what_is_not_observed_is_not_short():
    assert Pressure([Threshold(PIDS, Amount(100))], 0).observe(see(memory=1), 0) == []
