"""The Node service of one CSI driver, by the socket it registered (gRPC). Imported when the first driver registers."""

from __future__ import annotations

import time
from typing import Any

from pinnace.cri.api import CriError
from pinnace.kubelet.csi.messages import MESSAGES, NODE
from pinnace.kubelet.csi.node_info import NodeInfo
from pinnace.kubelet.plugins.service import PluginService
from pinnace.kubelet.statistics import volume_measures

CALL_SECONDS = 120.0


class Driver:
    """Calls raise CriError with the code and the words of the driver."""

    def __init__(self, name: str, endpoint: str) -> None:
        self.name = name
        self.endpoint = endpoint
        self._service = PluginService(endpoint, NODE)

    async def info(self) -> NodeInfo:
        """How the driver calls this node, and where in its topology the node is."""
        answer = await self.call("NodeGetInfo")
        return NodeInfo(answer.node_id, answer.max_volumes_per_node, dict(answer.accessible_topology.segments))

    async def capabilities(self) -> frozenset[int]:
        answer = await self.call("NodeGetCapabilities")
        return frozenset(one.rpc.type for one in answer.capabilities)

    async def call(self, method: str, **fields: Any) -> Any:
        """One call with these fields of its request."""
        request = MESSAGES[f"{method}Request"](**fields)
        began, code = time.perf_counter(), "UNKNOWN"
        try:
            answer = await self._service.call(method, request, MESSAGES[f"{method}Response"], CALL_SECONDS)
            code = "OK"
            return answer
        except CriError as error:
            code = error.code
            raise
        finally:
            volume_measures.called(self.name, method, code, time.perf_counter() - began)

    async def close(self) -> None:
        await self._service.close()
