"""ControllerRevisions: what the template of a DaemonSet or StatefulSet was, so that a rollout can be told and undone.

A revision keeps the template as a strategic merge patch, which is what `kubectl rollout undo` applies. Specified by
https://kubernetes.io/docs/tasks/manage-daemon/rollback-daemon-set/ and the API reference of ControllerRevision.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

from pinnace.apis.resources import CONTROLLER_REVISIONS
from pinnace.client.client import Client
from pinnace.controllers.names import short_hash
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    GVR,
    Obj,
    annotations_of,
    controller_of,
    get_in,
    name_of,
    namespace_of,
    owner_reference,
    replace_in,
    uid_of,
)

HASH_LABEL = "controller-revision-hash"  # of pods

# Decisions.


def data_of(owner: Obj) -> Obj:
    """The patch that gives the owner its present template back, in sorted order: clients compare its bytes."""
    template: Obj = _sorted({**owner["spec"]["template"], "$patch": "replace"})
    return {"spec": {"template": template}}


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def number_of(revision: Obj) -> int:
    return int(revision.get("revision") or 0)


def in_order(revisions: Iterable[Obj]) -> list[Obj]:
    """Oldest first."""
    return sorted(
        revisions, key=lambda one: (number_of(one), one["metadata"].get("creationTimestamp", ""), name_of(one))
    )


def with_data(revisions: Iterable[Obj], data: Obj) -> Obj | None:
    """The latest revision that keeps this template."""
    return next((one for one in reversed(in_order(revisions)) if one.get("data") == data), None)


def new_revision(owner: Obj, number: int, hash_label: str) -> Obj:
    """The revision for the owner's present template; `hash_label` names the label its hash goes under."""
    data = data_of(owner)
    digest = short_hash(data, get_in(owner, "status", "collisionCount"))
    metadata: Obj = {
        "name": f"{name_of(owner)}-{digest}",
        "namespace": namespace_of(owner),
        "labels": {**get_in(owner, "spec", "template", "metadata", "labels", default={}), hash_label: digest},
        "ownerReferences": [owner_reference(owner)],
    }
    if annotations_of(owner):
        metadata["annotations"] = dict(annotations_of(owner))
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "data": data,
        "revision": number,
    }


def surplus(revisions: Iterable[Obj], limit: int | None, live: Container[str]) -> list[Obj]:
    """The oldest revisions beyond `limit`, among those whose names are not `live`."""
    dead = [one for one in in_order(revisions) if name_of(one) not in live]
    return dead[: max(0, len(dead) - (10 if limit is None else limit))]


# Carrying them out.


async def current_revision(client: Client, resource: GVR, owner: Obj, revisions: Sequence[Obj], hash_label: str) -> Obj:
    """The revision of the owner's present template, made or brought to the front if need be."""
    found = with_data(revisions, data_of(owner))
    last = max((number_of(one) for one in revisions if one is not found), default=0)
    if found is None:
        return await _create(client, resource, owner, new_revision(owner, last + 1, hash_label))
    if number_of(found) <= last:
        return await client.update(CONTROLLER_REVISIONS, {**found, "revision": last + 1})
    return found


async def _create(client: Client, resource: GVR, owner: Obj, wanted: Obj) -> Obj:
    try:
        return await client.create(CONTROLLER_REVISIONS, wanted)
    except ApiError as error:
        if not error.is_already_exists:
            raise
        found = await client.get(CONTROLLER_REVISIONS, name_of(wanted), namespace_of(wanted))
        holder = controller_of(found)
        if holder is not None and holder["uid"] == uid_of(owner) and found.get("data") == wanted["data"]:
            return found  # our own, which the cache has not shown yet
        collisions = get_in(owner, "status", "collisionCount", default=0) + 1
        await client.update_status(resource, replace_in(owner, collisions, "status", "collisionCount"))
        raise


async def delete_surplus(client: Client, doomed: Iterable[Obj]) -> None:
    for revision in doomed:
        try:
            await client.delete(CONTROLLER_REVISIONS, name_of(revision), namespace_of(revision), uid=uid_of(revision))
        except ApiError as error:
            if not error.is_not_found:
                raise
