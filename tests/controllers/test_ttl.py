"""Nodes are told how long to cache."""

from __future__ import annotations

import pytest

from pinnace.apis.resources import NODES
from pinnace.controllers.ttl import ANNOTATION, TtlController, next_step
from pinnace.machinery.meta import annotations_of
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import running


@pytest.mark.parametrize(
    ("step", "nodes", "expected"),
    [(0, 100, 0), (0, 101, 1), (1, 95, 1), (1, 89, 0), (0, 1500, 3), (4, 10, 0), (4, 1800, 4), (5, 20_000, 5)],
)
def test_the_steps_overlap(step: int, nodes: int, expected: int) -> None:
    assert next_step(step, nodes) == expected


async def test_nodes_are_told() -> None:
    api = FakeApi()
    async with running(api, TtlController):
        await api.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n0"}})
        await api.until(lambda: annotations_of(api.all(NODES)[0]).get(ANNOTATION) == "0")
        for number in range(1, 101):
            await api.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{number}"}})
        await api.until(lambda: annotations_of(api.find(NODES, "n100") or {"metadata": {}}).get(ANNOTATION) == "15")
