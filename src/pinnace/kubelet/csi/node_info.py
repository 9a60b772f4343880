"""What the API is told of a node's CSI drivers: the CSINode, and the node's own annotation and topology labels.

Pure. Specified by https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/csi-node-v1/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from pinnace.machinery.meta import Obj, annotations_of, name_of, uid_of

NODE_IDS = "csi.volume.kubernetes.io/nodeid"


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A driver's answer to who this node is to it."""

    node_id: str
    max_volumes: int = 0  # 0: no limit of its own
    segments: Mapping[str, str] = field(default_factory=dict)  # topology labels and their values


class TopologyCollision(ValueError):
    """Two drivers, or a driver and somebody else, say different things of where the node is."""


def with_driver(csi_node: Obj | None, node: Obj, driver: str, info: NodeInfo) -> Obj:
    """The CSINode, made new where there is none, that has the driver."""
    base = csi_node or new_csi_node(node)
    entry: Obj = {"name": driver, "nodeID": info.node_id}
    if info.segments:
        entry["topologyKeys"] = sorted(info.segments)
    if info.max_volumes > 0:
        entry["allocatable"] = {"count": min(info.max_volumes, 2**31 - 1)}
    drivers = [entry if one["name"] == driver else one for one in (base.get("spec") or {}).get("drivers") or ()]
    if entry not in drivers:
        drivers.append(entry)
    return {**base, "spec": {"drivers": drivers}}


def without_driver(csi_node: Obj, driver: str) -> Obj:
    """The CSINode without a driver that is gone."""
    drivers = (csi_node.get("spec") or {}).get("drivers") or ()
    return {**csi_node, "spec": {"drivers": [one for one in drivers if one["name"] != driver]}}


def new_csi_node(node: Obj) -> Obj:
    """A CSINode without drivers, which goes with its node."""
    owner = {"apiVersion": "v1", "kind": "Node", "name": name_of(node), "uid": uid_of(node)}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": {"name": name_of(node), "ownerReferences": [owner]},
        "spec": {"drivers": []},
    }


def node_patch(node: Obj, driver: str, info: NodeInfo) -> Obj | None:
    """What changes about the node itself, None for nothing. Raises TopologyCollision."""
    labels = node["metadata"].get("labels") or {}
    for key, value in info.segments.items():
        if labels.get(key, value) != value:
            why = f'detected topology value collision: driver reported "{key}":"{value}" but existing label is'
            raise TopologyCollision(f'{why} "{key}":"{labels[key]}"')
    ids = _ids(node)
    changed: Obj = {}
    if ids.get(driver) != info.node_id:
        changed["annotations"] = {NODE_IDS: _written({**ids, driver: info.node_id})}
    missing = {key: value for key, value in info.segments.items() if key not in labels}
    if missing:
        changed["labels"] = missing
    return {"metadata": changed} if changed else None


def node_patch_without(node: Obj, driver: str) -> Obj | None:
    """What changes about the node when a driver is gone; its labels stay, for volumes may be bound by them."""
    ids = _ids(node)
    if driver not in ids:
        return None
    left = {name: value for name, value in ids.items() if name != driver}
    return {"metadata": {"annotations": {NODE_IDS: _written(left) if left else None}}}


def _ids(node: Obj) -> dict[str, str]:
    try:
        found = json.loads(annotations_of(node).get(NODE_IDS) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _written(ids: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(ids.items())), separators=(",", ":"))
