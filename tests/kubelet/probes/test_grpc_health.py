"""What a gRPC health service answers."""

from __future__ import annotations

import pytest

from pinnace.kubelet.probes.grpc_health import serving_state


@pytest.mark.parametrize(
    ("message", "state"), [(b"\0\0\0\0\2\x08\x01", 1), (b"\0\0\0\0\2\x08\x02", 2), (b"\0\0\0\0\0", 0), (b"", -1)]
)
def test_grpc_answer(message, state):
    assert serving_state(message) == state
