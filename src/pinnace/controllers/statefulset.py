"""Keeps the pods of a StatefulSet under their names and with their storage, and changes them in order.

What comes and goes next is decided in `stateful_pods.py`, templates of the past are kept by `revisions.py`. Since names
say which pod is which, nothing can be made twice, and no expectations are needed. Specified by
https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence

from pinnace.apis.resources import CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS
from pinnace.client.controller import Controller, itself
from pinnace.client.store import by_namespace
from pinnace.controllers import stateful_pods
from pinnace.controllers.ownership import by_claim, claim_all, claimable
from pinnace.controllers.pods import phase
from pinnace.controllers.replicaset import next_available
from pinnace.controllers.revisions import HASH_LABEL, current_revision, delete_surplus, surplus
from pinnace.controllers.stateful_pods import POD_INDEX, POD_NAME, REVISION_LABEL, Step, ordinal_of
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    controller_of,
    get_in,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    replace_in,
    uid_of,
    utc_now,
)
from pinnace.machinery.selectors import LabelSelector


class StatefulSetController(Controller):
    """One key is one StatefulSet."""

    name = "statefulset-controller"

    def setup(self) -> None:
        self.stateful_sets = self.watch(STATEFUL_SETS, itself)
        self.stateful_sets.add_index("namespace", by_namespace)
        self.revisions = self.watch(CONTROLLER_REVISIONS, self._owners_of)
        self.revisions.add_index("claim", by_claim)
        self.pods = self.watch(PODS, self._owners_of)
        self.pods.add_index("claim", by_claim)
        self.claims = self.use(PERSISTENT_VOLUME_CLAIMS)

    def _owners_of(self, obj: Obj) -> Iterable[str]:
        """The owner of a pod or revision, or those that may want to adopt it."""
        owner = controller_of(obj)
        if owner is not None:
            return (f"{namespace_of(obj)}/{owner['name']}",) if owner["kind"] == "StatefulSet" else ()
        labels = labels_of(obj)
        candidates = self.stateful_sets.store.by_index("namespace", namespace_of(obj))
        return [key_of(candidate) for candidate in candidates if _selector(candidate).matches(labels)]

    async def reconcile(self, key: str) -> float | None:
        stateful_set = self.stateful_sets.store.get(key)
        if stateful_set is None:
            return None
        update, revisions = await self._revisions(stateful_set)
        in_use = get_in(stateful_set, "status", "currentRevision", default="")
        current = next((one for one in revisions if name_of(one) == in_use), update)
        pods = await self._claim(stateful_set)
        try:
            if not is_deleting(stateful_set):
                await self._keep_claims(stateful_set, pods)
                await self._mend(stateful_set, pods)
                step = stateful_pods.plan(stateful_set, pods, name_of(update), utc_now())
                await self._carry_out(stateful_set, step, current, update)
        finally:
            status = stateful_pods.status_of(stateful_set, pods, name_of(current), name_of(update), utc_now())
            await self._write_status(stateful_set, status)
        live = {labels_of(pod).get(HASH_LABEL, "") for pod in pods} | {name_of(update), status["currentRevision"]}
        await delete_surplus(
            self.client, surplus(revisions, get_in(stateful_set, "spec", "revisionHistoryLimit"), live)
        )
        return next_available(pods, stateful_pods.min_ready(stateful_set), utc_now())

    async def _revisions(self, stateful_set: Obj) -> tuple[Obj, list[Obj]]:
        """The revision of the present template, and all there are."""
        candidates = claimable(self.revisions.store, stateful_set)
        selector = _selector(stateful_set)
        owned = await claim_all(self.client, STATEFUL_SETS, stateful_set, selector, CONTROLLER_REVISIONS, candidates)
        update = await current_revision(self.client, STATEFUL_SETS, stateful_set, owned, REVISION_LABEL)
        return update, [*(one for one in owned if uid_of(one) != uid_of(update)), update]

    async def _claim(self, stateful_set: Obj) -> list[Obj]:
        everyone = claimable(self.pods.store, stateful_set)
        candidates = [pod for pod in everyone if ordinal_of(stateful_set, name_of(pod)) is not None]
        return await claim_all(self.client, STATEFUL_SETS, stateful_set, _selector(stateful_set), PODS, candidates)

    # Pods.

    async def _carry_out(self, stateful_set: Obj, step: Step, current: Obj, update: Obj) -> None:
        key = key_of(stateful_set)
        for pod in step.ended:
            if phase(pod) == "Failed":
                message = f"StatefulSet {key} is recreating failed Pod {name_of(pod)}"
                self.recorder.event(stateful_set, "Warning", "RecreatingFailedPod", message)
            else:
                message = f"StatefulSet {key} is recreating terminated Pod {name_of(pod)}"
                self.recorder.event(stateful_set, "Normal", "RecreatingTerminatedPod", message)
        for pod in step.doomed:
            await self._delete(stateful_set, pod)
        for ordinal in step.ordinals:
            revision = current if stateful_pods.wants_current(stateful_set, ordinal) else update
            await self._create(stateful_set, stateful_pods.make_pod(stateful_set, revision, ordinal), ordinal)

    async def _create(self, stateful_set: Obj, pod: Obj, ordinal: int) -> None:
        what = f"Pod {name_of(pod)} in StatefulSet {name_of(stateful_set)}"
        await self._make_claims(stateful_set, name_of(pod), ordinal)
        going = stateful_pods.going_claims(stateful_set, ordinal, self.claims.store.get)
        if going:
            error = ApiError(409, "Conflict", ", ".join(f"pvc {name} is being deleted" for name in going))
            self.recorder.event(stateful_set, "Warning", "FailedCreate", f"create {what} failed error: {error.message}")
            raise error
        await self._try(stateful_set, "Create", what, "successful", self.client.create(PODS, pod))

    async def _make_claims(self, stateful_set: Obj, pod: str, ordinal: int) -> None:
        """Make those of a pod's claims that are not there."""
        for claim in stateful_pods.make_claims(stateful_set, ordinal):
            if self.claims.store.get(key_of(claim)) is None:
                what = f"Claim {name_of(claim)} Pod {pod} in StatefulSet {name_of(stateful_set)}"
                creation = self.client.create(PERSISTENT_VOLUME_CLAIMS, claim)
                await self._try(stateful_set, "Create", what, "success", creation)

    async def _mend(self, stateful_set: Obj, pods: Sequence[Obj]) -> None:
        """Give pods what they lack: those that wait, claims that are gone; those that were adopted, their labels."""
        for pod in pods:
            ordinal = ordinal_of(stateful_set, name_of(pod))
            if ordinal is None or ordinal not in stateful_pods.ordinals(stateful_set) or is_deleting(pod):
                continue
            if phase(pod) == "Pending":
                await self._make_claims(stateful_set, name_of(pod), ordinal)
            if labels_of(pod).get(POD_NAME) != name_of(pod):
                what = f"Pod {name_of(pod)} in StatefulSet {name_of(stateful_set)}"
                labels = {POD_NAME: name_of(pod), POD_INDEX: str(ordinal)}
                metadata = {"uid": uid_of(pod), "labels": labels}
                change = self.client.patch(PODS, name_of(pod), {"metadata": metadata}, namespace_of(pod))
                await self._try(stateful_set, "Update", what, "successful", change)

    async def _delete(self, stateful_set: Obj, pod: Obj) -> None:
        what = f"Pod {name_of(pod)} in StatefulSet {name_of(stateful_set)}"
        deletion = self.client.delete(PODS, name_of(pod), namespace_of(pod), uid=uid_of(pod))
        await self._try(stateful_set, "Delete", what, "successful", deletion)

    async def _try(self, stateful_set: Obj, verb: str, what: str, well: str, call: Awaitable[Obj]) -> None:
        """Do it and say so; that it is done already is no failure, for the cache may be behind."""
        try:
            await call
        except ApiError as error:
            if error.is_already_exists or (verb == "Delete" and (error.is_not_found or error.is_conflict)):
                return
            message = f"{verb.lower()} {what} failed error: {error.message}"
            self.recorder.event(stateful_set, "Warning", f"Failed{verb}", message)
            raise
        self.recorder.event(stateful_set, "Normal", f"Successful{verb}", f"{verb.lower()} {what} {well}")

    # Storage and status.

    async def _keep_claims(self, stateful_set: Obj, pods: Sequence[Obj]) -> None:
        """Let claims go with the set, or with a pod that is one too many, if the retention policy says so."""
        wanted = stateful_pods.ordinals(stateful_set)
        for pod in pods:
            ordinal = ordinal_of(stateful_set, name_of(pod))
            for made in stateful_pods.make_claims(stateful_set, ordinal or 0):
                claim = self.claims.store.get(key_of(made))
                if claim is None:
                    continue
                owners = stateful_pods.claim_owners(stateful_set, claim, pod, condemned=ordinal not in wanted)
                if owners != (claim["metadata"].get("ownerReferences") or []):
                    patch = {"metadata": {"uid": uid_of(claim), "ownerReferences": owners or None}}
                    await self.client.patch(PERSISTENT_VOLUME_CLAIMS, name_of(claim), patch, namespace_of(claim))

    async def _write_status(self, stateful_set: Obj, status: Obj) -> None:
        if status != (stateful_set.get("status") or {}):
            await self.client.update_status(STATEFUL_SETS, replace_in(stateful_set, status, "status"))


def _selector(stateful_set: Obj) -> LabelSelector:
    return LabelSelector.from_json(get_in(stateful_set, "spec", "selector", default={}))
