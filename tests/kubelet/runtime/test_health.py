"""What the node's Ready condition says of the container runtime."""

from __future__ import annotations

import pytest

from pinnace.cri.api import RuntimeCondition
from pinnace.kubelet.runtime.health import RuntimeHealth

FINE = [RuntimeCondition(type="RuntimeReady", status=True), RuntimeCondition(type="NetworkReady", status=True)]
NO_NETWORK = [
    FINE[0],
    RuntimeCondition(
        type="NetworkReady",
        status=False,
        reason="NetworkPluginNotReady",
        message="Network plugin returns error: cni plugin not initialized",
    ),
]
DOWN = "container runtime is down"
WITHOUT_NETWORK = (
    "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
    "message:Network plugin returns error: cni plugin not initialized"
)


@pytest.mark.parametrize(
    ("silent", "conditions", "words"),
    [
        (0, FINE, ""),
        (30, FINE, ""),
        (31, FINE, DOWN),
        (180, FINE, DOWN),
        (
            185,
            FINE,
            f"[{DOWN}, PLEG is not healthy: pleg was last seen active 3m0s ago; threshold is 3m0s]",
        ),
        (3725, FINE, f"[{DOWN}, PLEG is not healthy: pleg was last seen active 1h2m0s ago; threshold is 3m0s]"),
        (0, NO_NETWORK, WITHOUT_NETWORK),
        (31, NO_NETWORK, f"[{DOWN}, {WITHOUT_NETWORK}]"),
        (0, FINE[:1], "container runtime network not ready: NetworkReady=false reason: message:"),
    ],
)
def test_a_silent_runtime_is_down_and_later_its_pods_are_unknown(
    silent: float, conditions: list[RuntimeCondition], words: str
) -> None:
    now = 1000.0
    health = RuntimeHealth(lambda: now)
    health.answered(conditions)
    health.listed()

    now += silent

    assert health.problem() == words


def test_before_the_first_answer_nothing_is_known() -> None:
    assert RuntimeHealth(lambda: 0.0).problem() == (
        "[container runtime status check may not have completed yet, "
        "PLEG is not healthy: pleg has yet to be successful]"
    )


def test_an_answer_makes_all_well_again() -> None:
    now = 0.0
    health = RuntimeHealth(lambda: now)
    health.answered(FINE)
    health.listed()
    now = 500.0
    assert health.problem().startswith(f"[{DOWN}, ")

    health.answered(FINE)
    health.listed()

    assert health.problem() == ""
