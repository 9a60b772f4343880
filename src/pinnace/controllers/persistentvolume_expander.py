"""Says of claims that are to grow who is to see to it: an external resizer, for all volumes are somebody else's.

Specified by https://kubernetes.io/docs/concepts/storage/persistent-volumes/#expanding-persistent-volumes-claims.
"""

from __future__ import annotations

from pinnace.apis.core.volume_binding import is_meant_for, request_of
from pinnace.apis.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from pinnace.client.controller import Controller
from pinnace.machinery.meta import Obj, get_in, key_of
from pinnace.machinery.quantity import Quantity

_WAITING = "waiting for an external controller to expand this PVC"
_NOBODY = (
    "Ignoring the PVC: didn't find a plugin capable of expanding the volume; waiting for an external controller to "
    "process this PVC."
)


def is_to_grow(claim: Obj) -> bool:
    """Whether a bound claim asks for more than it has."""
    has = Quantity.parse(get_in(claim, "status", "capacity", "storage", default="0"))
    return get_in(claim, "status", "phase") == "Bound" and request_of(claim) > has


class PersistentVolumeExpander(Controller):
    """One key is one claim."""

    name = "persistentvolume-expander-controller"
    component = "volume_expand"
    workers = 1

    def setup(self) -> None:
        self.claims = self.use(PERSISTENT_VOLUME_CLAIMS)
        self.claims.add_handler(self._seen, self._changed)
        self.volumes = self.use(PERSISTENT_VOLUMES)

    def _seen(self, claim: Obj) -> None:
        if is_to_grow(claim):
            self.queue.add(key_of(claim))

    def _changed(self, old: Obj, new: Obj) -> None:
        """Only a new wish is spoken of: the resizer's own progress would repeat it."""
        if is_to_grow(new) and (request_of(new) > request_of(old) or not is_to_grow(old)):
            self.queue.add(key_of(new))

    async def reconcile(self, key: str) -> None:
        claim = self.claims.store.get(key)
        if claim is None or not is_to_grow(claim):
            return
        volume = self.volumes.store.get(get_in(claim, "spec", "volumeName", default=""))
        if volume is None or not is_meant_for(volume, claim):
            return
        if get_in(volume, "spec", "csi") or get_in(volume, "spec", "flexVolume"):
            self.recorder.event(claim, "Normal", "ExternalExpanding", _WAITING)
        else:
            self.recorder.event(claim, "Warning", "ExternalExpanding", _NOBODY)
