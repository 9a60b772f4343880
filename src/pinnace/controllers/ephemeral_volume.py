"""Makes the claims of generic ephemeral volumes, which belong to their pods and go with them.

Specified by https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#generic-ephemeral-volumes.
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.apis.resources import PERSISTENT_VOLUME_CLAIMS, PODS
from pinnace.client.controller import Controller, its_controller
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    controller_of,
    get_in,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    owner_reference,
    uid_of,
)


def ephemeral_volumes(pod: Obj) -> list[Obj]:
    return [volume for volume in pod["spec"].get("volumes") or () if "ephemeral" in volume]


def claim_for(pod: Obj, volume: Obj) -> Obj:
    """The claim that the template of an ephemeral volume describes."""
    template = volume["ephemeral"]["volumeClaimTemplate"]
    metadata: Obj = {
        "name": f"{name_of(pod)}-{volume['name']}",
        "namespace": namespace_of(pod),
        "ownerReferences": [owner_reference(pod)],
    }
    for part in ("labels", "annotations"):
        if given := get_in(template, "metadata", part):
            metadata[part] = given
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template["spec"]}


class EphemeralVolumeController(Controller):
    """One key is one pod."""

    name = "ephemeral-volume-controller"
    component = "ephemeral_volume"

    def setup(self) -> None:
        self.pods = self.watch(PODS, _if_it_has_any)
        self.claims = self.watch(PERSISTENT_VOLUME_CLAIMS, its_controller("Pod"))

    async def reconcile(self, key: str) -> None:
        pod = self.pods.store.get(key)
        if pod is None or is_deleting(pod):
            return
        for volume in ephemeral_volumes(pod):
            problem = await self._ensure(pod, claim_for(pod, volume))
            if problem:
                said = f"ephemeral volume {volume['name']}: {problem}"
                self.recorder.event(pod, "Warning", "FailedBinding", said)
                raise ApiError(409, "Conflict", f"pod {key}, {said}")

    async def _ensure(self, pod: Obj, claim: Obj) -> str:
        """Make the claim unless it is there; why that cannot be."""
        found = self.claims.store.get(key_of(claim))
        if found is not None:
            owner = controller_of(found)
            if owner is not None and owner["uid"] == uid_of(pod):
                return ""
            return f"PVC {key_of(claim)} was not created for pod {key_of(pod)} (pod is not owner)"
        try:
            await self.client.create(PERSISTENT_VOLUME_CLAIMS, claim)
        except ApiError as error:
            return f"create PVC {name_of(claim)}: {error.message}"
        return ""


def _if_it_has_any(pod: Obj) -> Iterable[str]:
    return (key_of(pod),) if ephemeral_volumes(pod) else ()
