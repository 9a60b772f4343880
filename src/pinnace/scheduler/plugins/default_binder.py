"""Binds by `POST pods/{name}/binding`."""

from __future__ import annotations

from pinnace.apis.resources import PODS
from pinnace.scheduler.handle import Handle
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo


class DefaultBinder:
    name = "DefaultBinder"

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def bind(self, pod: PodInfo, node: NodeInfo) -> None:
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node.name},
        }
        await self._handle.client.create(PODS, binding, pod.namespace, name=pod.name, subresource="binding")
