"""Prefers nodes that hold the pod's images already, the more so the bigger they are and the more nodes hold them."""

from __future__ import annotations

from pinnace.scheduler.cache import Cache
from pinnace.scheduler.framework import MAX_SCORE, Normalization, Scope
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodShape

SMALL = 23 << 20  # bytes of images that are not worth a thought
BIG = 1000 << 20  # bytes per container that could not count more


def normalized_name(image: str) -> str:
    """The name with a tag: `latest` where it has neither tag nor digest."""
    return image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"


class ImageLocality:
    name = "ImageLocality"
    scope = Scope.NODE
    weight = 1
    normalization = Normalization.NONE

    def scores(self, shape: PodShape) -> bool:
        return any(shape.images)

    def score(self, shape: PodShape, node: NodeInfo, cache: Cache) -> int:
        total = 0
        if not node.images:
            return 0
        for image in shape.images:
            name = normalized_name(image)
            size = node.images.get(name, 0)
            if size:
                total += size * cache.image_nodes.get(name, 0) // max(len(cache.nodes), 1)
        most = BIG * len(shape.images)
        return MAX_SCORE * (min(max(total, SMALL), most) - SMALL) // (most - SMALL)
