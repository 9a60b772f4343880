"""Marks the node of a local cluster as its control plane, as kubeadm does.

A kubelet may not give itself these labels (NodeRestriction), so an administrator does, as soon as the node is there.
"""

from __future__ import annotations

import asyncio

import structlog

from pinnace.apis.resources import NODES
from pinnace.client.client import Client
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import labels_of

LABELS = {
    "node-role.kubernetes.io/control-plane": "",
    "node.kubernetes.io/exclude-from-external-load-balancers": "",
}

_log = structlog.get_logger()


async def keep_marked(client: Client, node_name: str) -> None:
    """Label the node whenever it appears without; until cancelled."""
    while True:
        try:
            async for event in client.watch(NODES, field_selector=f"metadata.name={node_name}", resource_version="0"):
                if event["type"] == "ADDED" and not LABELS.keys() <= labels_of(event["object"]).keys():
                    await client.patch(NODES, node_name, {"metadata": {"labels": LABELS}})
        except ApiError as error:
            _log.warning("cannot mark the node", error=error.message)
            await asyncio.sleep(1.0)
