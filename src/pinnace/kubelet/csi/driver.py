"""The Node service of one CSI driver, by the socket it registered (gRPC). Imported when the first driver registers."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from pinnace.cri.api import CriError
from pinnace.kubelet.csi.messages import MESSAGES, NODE
from pinnace.kubelet.csi.node_info import NodeInfo

CALL_SECONDS = 120.0
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


class Driver:
    """Calls raise CriError with the code and the words of the driver."""

    def __init__(self, name: str, endpoint: str) -> None:
        self.name = name
        self.endpoint = endpoint
        self._channel = grpc.aio.insecure_channel(f"unix://{endpoint}", options=_OPTIONS)

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
        made = self._channel.unary_unary(
            f"/{NODE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES[f"{method}Response"].FromString,
        )
        try:
            return await made(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise CriError(error.code().name, error.details() or "") from None

    async def close(self) -> None:
        await self._channel.close(None)
