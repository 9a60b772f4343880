"""Carries a Deployment from one pod template to the next, through a ReplicaSet for each.

How far each set may grow or shrink is decided in `rollout.py`, what the status says in `deployment_status.py`; here are
revisions, names, and the calls. Specified by https://kubernetes.io/docs/concepts/workloads/controllers/deployment/.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pinnace.apis.resources import DEPLOYMENTS, PODS, REPLICA_SETS
from pinnace.client.controller import Controller, itself
from pinnace.client.store import by_controller, by_namespace
from pinnace.controllers import rollout
from pinnace.controllers.conditions import condition, with_condition
from pinnace.controllers.deployment_status import (
    check_again_in,
    counted,
    deadline_of,
    is_complete,
    new_condition,
    pause_condition,
    rolled_out,
)
from pinnace.controllers.names import short_hash
from pinnace.controllers.ownership import by_claim, claim_all, claimable
from pinnace.controllers.pods import is_finished
from pinnace.controllers.rollout import Resize, oldest_first, replicas_of
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    annotations_of,
    controller_of,
    get_in,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    owner_reference,
    replace_in,
    uid_of,
    utc_now,
)
from pinnace.machinery.selectors import LabelSelector

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
_HISTORY_LENGTH = 2000  # characters of the annotation
_NOT_COPIED = {
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    rollout.DESIRED,
    rollout.MAXIMUM,
    "deprecated.deployment.rollback.to",
}

# Decisions.


@dataclass(slots=True)
class Sets:
    """The ReplicaSets of a Deployment."""

    new: Obj | None  # the one with the current template
    old: list[Obj]

    @property
    def all(self) -> list[Obj]:
        return [*self.old, self.new] if self.new is not None else self.old


def split_sets(deployment: Obj, replica_sets: Iterable[Obj]) -> Sets:
    """Find the set of the current template: the oldest, should there be several."""
    template = get_in(deployment, "spec", "template", default={})
    new = next((one for one in oldest_first(replica_sets) if same_template(one["spec"]["template"], template)), None)
    return Sets(new, [one for one in replica_sets if one is not new])


def same_template(one: Obj, other: Obj) -> bool:
    """Whether two pod templates ask for the same pods; the label that tells sets apart does not count."""
    return _plain(one) == _plain(other)


def _plain(template: Obj) -> Obj:
    metadata = template.get("metadata") or {}
    labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name != HASH_LABEL}
    kept = {name: value for name, value in metadata.items() if name not in ("labels", "creationTimestamp")}
    return {**template, "metadata": {**kept, "labels": labels}}


def template_hash(template: Obj, collisions: int | None) -> str:
    """A short name for a template."""
    return short_hash(_plain(template), collisions)


def revision_of(obj: Obj) -> int:
    """Which rollout a Deployment or ReplicaSet belongs to; 0 for none."""
    try:
        return int(annotations_of(obj).get(REVISION, "0"))
    except ValueError:
        return 0


def sizes_annotations(deployment: Obj) -> dict[str, str]:
    """What a set's size was reckoned from, for proportional scaling."""
    surge, _ = rollout.surge_and_unavailable(deployment)
    wanted = replicas_of(deployment)
    return {rollout.DESIRED: str(wanted), rollout.MAXIMUM: str(wanted + surge)}


def new_annotations(deployment: Obj, replica_set: Obj | None, revision: int) -> dict[str, str]:
    """The annotations of the new set: the Deployment's own, its revision, and the revisions it had before."""
    annotations = dict(annotations_of(replica_set)) if replica_set is not None else {}
    annotations.update({k: v for k, v in annotations_of(deployment).items() if k not in _NOT_COPIED})
    before = annotations.get(REVISION)
    if replica_set is None or revision_of(replica_set) < revision:
        annotations[REVISION] = str(revision)
        if before:
            history = [*filter(None, annotations.get(REVISION_HISTORY, "").split(",")), before]
            while len(",".join(history)) > _HISTORY_LENGTH:
                del history[0]
            annotations[REVISION_HISTORY] = ",".join(history)
    if replica_set is None:
        annotations.update(sizes_annotations(deployment))
    return annotations


def new_replica_set(deployment: Obj, old: Sequence[Obj], revision: int) -> Obj:
    """The ReplicaSet for the Deployment's current template."""
    template = deployment["spec"]["template"]
    digest = template_hash(template, get_in(deployment, "status", "collisionCount"))
    metadata = template.get("metadata") or {}
    labels = {**(metadata.get("labels") or {}), HASH_LABEL: digest}
    selector = deployment["spec"]["selector"]
    spec: Obj = {
        "replicas": rollout.first_size(deployment, old),
        "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: digest}},
        "template": {**template, "metadata": {**metadata, "labels": labels}},
    }
    if get_in(deployment, "spec", "minReadySeconds"):
        spec["minReadySeconds"] = deployment["spec"]["minReadySeconds"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{name_of(deployment)}-{digest}",
            "namespace": namespace_of(deployment),
            "labels": labels,
            "annotations": new_annotations(deployment, None, revision),
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": spec,
    }


def surplus_history(deployment: Obj, old: Iterable[Obj]) -> list[Obj]:
    """Old sets beyond revisionHistoryLimit, lowest revisions first; only such as are empty."""
    limit = get_in(deployment, "spec", "revisionHistoryLimit")
    if limit is None or limit == 2**31 - 1:
        return []
    alive = sorted((one for one in old if not is_deleting(one)), key=revision_of)
    surplus = alive[: max(0, len(alive) - limit)]
    return [
        one
        for one in surplus
        if not get_in(one, "status", "replicas", default=0)
        and not replicas_of(one)
        and one["metadata"].get("generation", 0) <= get_in(one, "status", "observedGeneration", default=0)
    ]


# Carrying them out.


class DeploymentController(Controller):
    """One key is one Deployment."""

    name = "deployment-controller"

    def setup(self) -> None:
        self.deployments = self.watch(DEPLOYMENTS, itself)
        self.deployments.add_index("namespace", by_namespace)
        self.replica_sets = self.watch(REPLICA_SETS, self._owners_of_set)
        self.replica_sets.add_index("claim", by_claim)
        self.pods = self.watch(PODS, self._recreated_by_pod)
        self.pods.add_index("controller", by_controller)

    def _owners_of_set(self, replica_set: Obj) -> Iterable[str]:
        owner = controller_of(replica_set)
        if owner is not None:
            return (f"{namespace_of(replica_set)}/{owner['name']}",) if owner["kind"] == "Deployment" else ()
        labels = labels_of(replica_set)
        candidates = self.deployments.store.by_index("namespace", namespace_of(replica_set))
        return [key_of(candidate) for candidate in candidates if _selector(candidate).matches(labels)]

    def _recreated_by_pod(self, pod: Obj) -> Iterable[str]:
        """The Deployment that waits for this pod to go, of strategy Recreate."""
        owner = controller_of(pod)
        if owner is None or owner["kind"] != "ReplicaSet":
            return ()
        replica_set = self.replica_sets.store.get(f"{namespace_of(pod)}/{owner['name']}")
        for key in self._owners_of_set(replica_set) if replica_set is not None else ():
            deployment = self.deployments.store.get(key)
            if deployment is not None and not rollout.is_rolling(deployment):
                return (key,)
        return ()

    async def reconcile(self, key: str) -> float | None:
        deployment = self.deployments.store.get(key)
        if deployment is None:
            return None
        candidates = claimable(self.replica_sets.store, deployment)
        selector = _selector(deployment)
        owned = await claim_all(self.client, DEPLOYMENTS, deployment, selector, REPLICA_SETS, candidates)
        sets = split_sets(deployment, owned)
        if is_deleting(deployment):
            await self._write_status(deployment, counted(deployment, sets.new, sets.all, utc_now()))
            return None
        deployment = await self._note_pause(deployment)
        if get_in(deployment, "spec", "paused") or rollout.is_scaling(deployment, owned):
            return await self._scale(deployment, sets)
        if rollout.is_rolling(deployment):
            return await self._roll(deployment, sets)
        return await self._recreate(deployment, sets)

    # One step of each way to change.

    async def _scale(self, deployment: Obj, sets: Sets) -> float | None:
        deployment = await self._use_new(deployment, sets, create=False)
        for resize in rollout.scale(deployment, sets.new, sets.old):
            self._replace(sets, await self._resize(deployment, resize))
        if get_in(deployment, "spec", "paused"):
            await self._clean_up(deployment, sets)
        await self._write_status(deployment, counted(deployment, sets.new, sets.all, utc_now()))
        return None

    async def _roll(self, deployment: Obj, sets: Sets) -> float | None:
        deployment = await self._use_new(deployment, sets, create=True)
        assert sets.new is not None
        resizes = rollout.resize_new(deployment, sets.new, sets.old) or rollout.shrink_old(
            deployment, sets.new, sets.old
        )
        for resize in resizes:
            self._replace(sets, await self._resize(deployment, resize))
        return await self._finish_step(deployment, sets, settled=not resizes)

    async def _recreate(self, deployment: Obj, sets: Sets) -> float | None:
        deployment = await self._use_new(deployment, sets, create=False)
        doomed = rollout.active(sets.old)
        for replica_set in doomed:
            self._replace(sets, await self._resize(deployment, Resize(replica_set, 0)))
        if doomed or self._old_pods_run(sets):
            return await self._finish_step(deployment, sets, settled=False)
        deployment = await self._use_new(deployment, sets, create=True)
        assert sets.new is not None
        if replicas_of(sets.new) != replicas_of(deployment):
            self._replace(sets, await self._resize(deployment, Resize(sets.new, replicas_of(deployment))))
        return await self._finish_step(deployment, sets, settled=True)

    async def _finish_step(self, deployment: Obj, sets: Sets, *, settled: bool) -> float | None:
        if settled and is_complete(deployment, deployment.get("status") or {}):
            await self._clean_up(deployment, sets)
        status = rolled_out(deployment, sets.new, sets.all, utc_now())
        await self._write_status(deployment, status)
        return check_again_in(deployment, status, utc_now())

    def _old_pods_run(self, sets: Sets) -> bool:
        return any(
            not is_finished(pod) for old in sets.old for pod in self.pods.store.by_index("controller", uid_of(old))
        )

    # The new ReplicaSet.

    async def _use_new(self, deployment: Obj, sets: Sets, *, create: bool) -> Obj:
        """See that the new set exists (if `create`) and both it and the Deployment carry the right revision."""
        revision = max(map(revision_of, sets.old), default=0) + 1
        if sets.new is None:
            if not create:
                return deployment
            made = await self._create(deployment, sets, revision)
            progress = ("NewReplicaSetCreated", f'Created new replica set "{name_of(made)}"')
        else:
            made = await self._refresh(deployment, sets.new, revision)
            progress = ("FoundNewReplicaSet", f'Found new replica set "{name_of(made)}"')
        fresh = sets.new is None
        sets.new = made
        if revision_of(deployment) != revision_of(made):
            annotations = {REVISION: annotations_of(made)[REVISION]}
            patch = {"metadata": {"annotations": annotations}}
            deployment = await self.client.patch(DEPLOYMENTS, name_of(deployment), patch, namespace_of(deployment))
        if deadline_of(deployment) is not None and (fresh or condition(deployment, "Progressing") is None):
            deployment = await self._write_progress(deployment, "True", *progress)
        return deployment

    async def _refresh(self, deployment: Obj, new: Obj, revision: int) -> Obj:
        annotations = new_annotations(deployment, new, revision)
        min_ready = get_in(deployment, "spec", "minReadySeconds", default=0)
        if annotations == annotations_of(new) and get_in(new, "spec", "minReadySeconds", default=0) == min_ready:
            return new
        changed = replace_in(new, annotations, "metadata", "annotations")
        return await self.client.update(REPLICA_SETS, replace_in(changed, min_ready, "spec", "minReadySeconds"))

    async def _create(self, deployment: Obj, sets: Sets, revision: int) -> Obj:
        wanted = new_replica_set(deployment, sets.old, revision)
        try:
            made = await self.client.create(REPLICA_SETS, wanted)
        except ApiError as error:
            if error.is_already_exists:
                return await self._existing(deployment, wanted, error)
            message = f'Failed to create new replica set "{name_of(wanted)}": {error.message}'
            if deadline_of(deployment) is not None:
                await self._write_progress(deployment, "False", "FailedCreate", message)
            raise
        if replicas_of(made) > 0:
            self._say_scaled(deployment, "up", made, 0, replicas_of(made))
        return made

    async def _existing(self, deployment: Obj, wanted: Obj, error: ApiError) -> Obj:
        """The name is taken: by our own set that the cache has not shown yet, or by another template's."""
        found = await self.client.get(REPLICA_SETS, name_of(wanted), namespace_of(wanted))
        owner = controller_of(found)
        ours = owner is not None and owner["uid"] == uid_of(deployment)
        if ours and same_template(found["spec"]["template"], deployment["spec"]["template"]):
            return found
        collisions = get_in(deployment, "status", "collisionCount", default=0) + 1
        await self.client.update_status(DEPLOYMENTS, replace_in(deployment, collisions, "status", "collisionCount"))
        raise error

    # Calls.

    async def _resize(self, deployment: Obj, resize: Resize) -> Obj:
        replica_set, before = resize.replica_set, replicas_of(resize.replica_set)
        annotations = {**annotations_of(replica_set), **sizes_annotations(deployment)}
        if before == resize.replicas and annotations == annotations_of(replica_set):
            return replica_set
        changed = replace_in(replica_set, annotations, "metadata", "annotations")
        written = await self.client.update(REPLICA_SETS, replace_in(changed, resize.replicas, "spec", "replicas"))
        if before != resize.replicas:
            way = "up" if before < resize.replicas else "down"
            self._say_scaled(deployment, way, replica_set, before, resize.replicas)
        return written

    def _say_scaled(self, deployment: Obj, way: str, replica_set: Obj, before: int, after: int) -> None:
        message = f"Scaled {way} replica set {name_of(replica_set)} from {before} to {after}"
        self.recorder.event(deployment, "Normal", "ScalingReplicaSet", message)

    @staticmethod
    def _replace(sets: Sets, written: Obj) -> None:
        if sets.new is not None and uid_of(sets.new) == uid_of(written):
            sets.new = written
        sets.old = [written if uid_of(one) == uid_of(written) else one for one in sets.old]

    async def _clean_up(self, deployment: Obj, sets: Sets) -> None:
        for replica_set in surplus_history(deployment, sets.old):
            try:
                await self.client.delete(
                    REPLICA_SETS, name_of(replica_set), namespace_of(replica_set), uid=uid_of(replica_set)
                )
            except ApiError as error:
                if not error.is_not_found:
                    raise

    async def _note_pause(self, deployment: Obj) -> Obj:
        fresh = pause_condition(deployment, utc_now())
        if fresh is None:
            return deployment
        return await self._write_progress(deployment, fresh["status"], fresh["reason"], fresh["message"])

    async def _write_progress(self, deployment: Obj, status: str, reason: str, message: str) -> Obj:
        fresh = new_condition("Progressing", status, reason, message, utc_now())
        conditions = with_condition(get_in(deployment, "status", "conditions", default=()), fresh)
        changed = replace_in(deployment, conditions, "status", "conditions")
        return await self.client.update_status(DEPLOYMENTS, changed)

    async def _write_status(self, deployment: Obj, status: Obj) -> None:
        if status != (deployment.get("status") or {}):
            await self.client.update_status(DEPLOYMENTS, replace_in(deployment, status, "status"))


def _selector(deployment: Obj) -> LabelSelector:
    return LabelSelector.from_json(get_in(deployment, "spec", "selector", default={}))
