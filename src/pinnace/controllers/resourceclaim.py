"""Makes the ResourceClaims that pods ask for by template, and gives devices back when the pods that had them are done.

A claim stays allocated while a pod is in `status.reservedFor`. Specified by
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/ and KEP-4381.
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.apis.resources import PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS
from pinnace.client.controller import Controller
from pinnace.client.store import by_controller
from pinnace.controllers.pods import is_finished
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    annotations_of,
    controller_of,
    get_in,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    owner_reference,
    uid_of,
)

POD_CLAIM_NAME = "resource.kubernetes.io/pod-claim-name"
FINALIZER = "resource.kubernetes.io/delete-protection"

# Decisions.


def is_done(pod: Obj) -> bool:
    """Whether it needs its devices no more, or never will."""
    return is_finished(pod) or (is_deleting(pod) and not get_in(pod, "spec", "nodeName"))


def claim_for(pod: Obj, name: str, template: Obj) -> Obj:
    """The claim of a pod that a template describes; `name` is what the pod calls it."""
    metadata: Obj = {
        "generateName": f"{name_of(pod)}-{name}-",
        "namespace": namespace_of(pod),
        "ownerReferences": [owner_reference(pod)],
    }
    given = get_in(template, "spec", "metadata", default={})
    if given.get("labels"):
        metadata["labels"] = dict(given["labels"])
    metadata["annotations"] = {**(given.get("annotations") or {}), POD_CLAIM_NAME: name}
    return {
        "apiVersion": RESOURCE_CLAIMS.api_version,
        "kind": "ResourceClaim",
        "metadata": metadata,
        "spec": get_in(template, "spec", "spec", default={}),
    }


def claim_names(pod: Obj) -> dict[str, str]:
    """The names of the pod's claims, as far as they are known, by what it calls them."""
    made = {one["name"]: one.get("resourceClaimName") for one in get_in(pod, "status", "resourceClaimStatuses") or ()}
    found = {}
    for one in get_in(pod, "spec", "resourceClaims") or ():
        name = one.get("resourceClaimName") or made.get(one["name"])
        if name:
            found[one["name"]] = name
    return found


def still_reserved(claim: Obj, pods: dict[str, Obj]) -> list[Obj]:
    """Of those that a claim is reserved for, the ones that may still need it; `pods` are by name."""
    kept = []
    for consumer in get_in(claim, "status", "reservedFor") or ():
        if consumer.get("apiGroup") or consumer.get("resource") != "pods":
            kept.append(consumer)  # somebody else's to look after
            continue
        pod = pods.get(consumer["name"])
        if pod is not None and uid_of(pod) == consumer["uid"] and not is_done(pod):
            kept.append(consumer)
    return kept


# The controller.


class ResourceClaimController(Controller):
    """One key is `pod:` or `claim:` and the key of one."""

    name = "resourceclaim-controller"
    component = "resource_claim"

    def setup(self) -> None:
        self.pods = self.watch(PODS, self._of_pod)
        self.claims = self.watch(RESOURCE_CLAIMS, self._of_claim)
        self.claims.add_index("controller", by_controller)
        self.templates = self.watch(RESOURCE_CLAIM_TEMPLATES, self._waiting_for)

    def _of_pod(self, pod: Obj) -> Iterable[str]:
        extended = get_in(pod, "status", "extendedResourceClaimStatus", "resourceClaimName")
        if extended:  # which the scheduler made
            yield f"claim:{namespace_of(pod)}/{extended}"
        if pod["spec"].get("resourceClaims"):
            yield f"pod:{key_of(pod)}"
            for name in claim_names(pod).values():
                yield f"claim:{namespace_of(pod)}/{name}"

    def _of_claim(self, claim: Obj) -> Iterable[str]:
        yield f"claim:{key_of(claim)}"
        owner = controller_of(claim)
        if owner is not None and owner["kind"] == "Pod":
            yield f"pod:{namespace_of(claim)}/{owner['name']}"

    def _waiting_for(self, template: Obj) -> Iterable[str]:
        """Pods that ask for a template which comes late."""
        for pod in self.pods.store.list():
            wanted = [one.get("resourceClaimTemplateName") for one in get_in(pod, "spec", "resourceClaims") or ()]
            if namespace_of(pod) == namespace_of(template) and name_of(template) in wanted:
                yield f"pod:{key_of(pod)}"

    async def reconcile(self, key: str) -> None:
        kind, _, key = key.partition(":")
        if kind == "claim":
            claim = self.claims.store.get(key)
            if claim is not None:
                await self._release(claim)
            return
        pod = self.pods.store.get(key)
        if pod is not None and not is_deleting(pod) and not is_done(pod):
            await self._furnish(pod)

    async def _furnish(self, pod: Obj) -> None:
        """See that each claim by template is there, and that the pod's status names it."""
        known = claim_names(pod)
        statuses = {one["name"]: one for one in get_in(pod, "status", "resourceClaimStatuses") or ()}
        for one in get_in(pod, "spec", "resourceClaims") or ():
            template = one.get("resourceClaimTemplateName")
            if not template or f"{namespace_of(pod)}/{known.get(one['name'], '')}" in self.claims.store:
                continue
            try:
                statuses[one["name"]] = {"name": one["name"], "resourceClaimName": await self._claim(pod, one)}
            except ApiError as error:
                said = f"PodResourceClaim {one['name']}: {error.message}"
                self.recorder.event(pod, "Warning", "FailedResourceClaimCreation", said)
                raise
        wanted = list(statuses.values())
        if wanted != (get_in(pod, "status", "resourceClaimStatuses") or []):
            patch = {"metadata": {"uid": uid_of(pod)}, "status": {"resourceClaimStatuses": wanted}}
            await self.client.patch(PODS, name_of(pod), patch, namespace_of(pod), subresource="status")

    async def _claim(self, pod: Obj, wanted: Obj) -> str:
        """The name of the claim that was made for the pod, now or before it could be written down."""
        for claim in self.claims.store.by_index("controller", uid_of(pod)):
            if annotations_of(claim).get(POD_CLAIM_NAME) == wanted["name"]:
                return name_of(claim)
        name = wanted["resourceClaimTemplateName"]
        template = self.templates.store.get(f"{namespace_of(pod)}/{name}")
        if template is None:
            missing = f'resourceclaimtemplate.resource.k8s.io "{name}" not found'
            raise ApiError(404, "NotFound", f'resource claim template "{name}": {missing}')
        made = await self.client.create(RESOURCE_CLAIMS, claim_for(pod, wanted["name"], template))
        return name_of(made)

    async def _release(self, claim: Obj) -> None:
        """Take pods that are done off the claim; without any, its devices are free, and it may go."""
        namespace = namespace_of(claim)
        before = get_in(claim, "status", "reservedFor") or []
        pods = {one["name"]: pod for one in before if (pod := await self._pod(namespace, one)) is not None}
        kept = still_reserved(claim, pods)
        if kept != before:
            status = {key: value for key, value in claim["status"].items() if key != "reservedFor"}
            if kept:
                status["reservedFor"] = kept
            else:
                for part in ("allocation", "devices"):
                    status.pop(part, None)
            claim = await self.client.update_status(RESOURCE_CLAIMS, {**claim, "status": status})
        if not kept and not get_in(claim, "status", "allocation"):
            await self._let_go(claim)
        owner = controller_of(claim)
        if owner is not None and owner["kind"] == "Pod" and not is_deleting(claim):
            pod = self.pods.store.get(f"{namespace}/{owner['name']}")
            if pod is not None and uid_of(pod) == owner["uid"] and is_done(pod):
                await self._delete(claim)

    async def _pod(self, namespace: str, consumer: Obj) -> Obj | None:
        """A pod in the cache or, if the cache may be behind, from the server."""
        pod = self.pods.store.get(f"{namespace}/{consumer['name']}")
        if pod is not None and uid_of(pod) == consumer["uid"]:
            return pod
        try:
            return await self.client.get(PODS, consumer["name"], namespace)
        except ApiError as error:
            if error.is_not_found:
                return None
            raise

    async def _let_go(self, claim: Obj) -> None:
        finalizers = claim["metadata"].get("finalizers") or []
        if FINALIZER in finalizers:
            kept = [one for one in finalizers if one != FINALIZER]
            metadata = {"finalizers": kept or None, "resourceVersion": claim["metadata"]["resourceVersion"]}
            await self.client.patch(RESOURCE_CLAIMS, name_of(claim), {"metadata": metadata}, namespace_of(claim))

    async def _delete(self, claim: Obj) -> None:
        try:
            await self.client.delete(RESOURCE_CLAIMS, name_of(claim), namespace_of(claim), uid=uid_of(claim))
        except ApiError as error:
            if not error.is_not_found:
                raise
