"""Tells kubelets, by an annotation of their nodes, for how long they may keep Secrets and ConfigMaps in their caches.

The more nodes there are the longer, so that they ask less often. Between two steps the number must change by a tenth
before the time does, lest it swing. The annotation is `node.alpha.kubernetes.io/ttl`; see
https://kubernetes.io/docs/reference/labels-annotations-taints/#node-alpha-kubernetes-io-ttl.
"""

from __future__ import annotations

from typing import NamedTuple

from pinnace.apis.resources import NODES
from pinnace.client.controller import Controller, itself
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, annotations_of, key_of

ANNOTATION = "node.alpha.kubernetes.io/ttl"


class Step(NamedTuple):
    """A size of cluster, which it grows into at the upper end and out of at the lower."""

    least: int
    most: int
    seconds: int


STEPS = (
    Step(0, 100, 0),
    Step(90, 500, 15),
    Step(450, 1000, 30),
    Step(900, 2000, 60),
    Step(1800, 10_000, 300),
    Step(9000, 2**31 - 1, 600),
)


def next_step(step: int, nodes: int) -> int:
    """The place in STEPS of a cluster that was at `step` and has so many nodes now."""
    while nodes > STEPS[step].most:
        step += 1
    while nodes < STEPS[step].least:
        step -= 1
    return step


class TtlController(Controller):
    """One key is one node."""

    name = "ttl-controller"

    def setup(self) -> None:
        self._step = 0
        self.nodes = self.use(NODES)
        self.nodes.add_handler(self._came, lambda _, new: self._look_at(new), self._went)

    def _came(self, node: Obj) -> None:
        self._step = next_step(self._step, len(self.nodes.store))
        self._look_at(node)

    def _went(self, _: Obj) -> None:
        self._step = next_step(self._step, len(self.nodes.store))

    def _look_at(self, node: Obj) -> None:
        if annotations_of(node).get(ANNOTATION) != self._seconds:
            for key in itself(node):
                self.queue.add(key)

    @property
    def _seconds(self) -> str:
        return str(STEPS[self._step].seconds)

    async def reconcile(self, key: str) -> None:
        node = self.nodes.store.get(key)
        if node is None or annotations_of(node).get(ANNOTATION) == self._seconds:
            return
        try:
            await self.client.patch(NODES, key_of(node), {"metadata": {"annotations": {ANNOTATION: self._seconds}}})
        except ApiError as error:
            if not error.is_not_found:
                raise
