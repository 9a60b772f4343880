"""AlwaysPullImages: who may use an image is asked of its registry each time a container starts. Off unless asked for.

https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#alwayspullimages.
"""

from __future__ import annotations

from collections.abc import Iterator

from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.machinery.meta import Obj


class AlwaysPullImages(Plugin):
    concerns = frozenset({("", "pods")})

    async def mutate(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if (
            pod is None
            or not _concerns(attributes)
            or (attributes.old is not None and not _brings(pod, attributes.old))
        ):
            return
        for container in _containers(pod):
            container["imagePullPolicy"] = "Always"
        for volume in (pod.get("spec") or {}).get("volumes") or ():
            if volume.get("image"):
                volume["image"]["pullPolicy"] = "Always"


def _concerns(attributes: Attributes) -> bool:
    return attributes.resource == ("", "pods") and attributes.subresource in ("", "ephemeralcontainers")


def _containers(pod: Obj) -> Iterator[Obj]:
    spec = pod.get("spec") or {}
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        yield from spec.get(kind) or ()


def _brings(pod: Obj, old: Obj) -> bool:
    """Whether an update names images that the pod had not."""
    return bool({one.get("image") for one in _containers(pod)} - {one.get("image") for one in _containers(old)})
