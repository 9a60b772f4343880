"""Deletes objects whose owners are gone, and holds back or lets loose what is deleted together with its dependents.

A graph of every object and its owners is kept from metadata alone. What it suggests is checked against the API before
anything is deleted. Specified by https://kubernetes.io/docs/concepts/architecture/garbage-collection/.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum

import structlog

from pinnace.apis.resources import EVENTS
from pinnace.client.client import Client
from pinnace.client.controller import Controller
from pinnace.client.informer import InformerFactory
from pinnace.controllers.served import Resource, ServedResources
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj, is_deleting, name_of, namespace_of, parse_api_version, uid_of

_log = structlog.get_logger()

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
_ABSENT_REMEMBERED = 500
_EVENTS_GROUP = "events.k8s.io"
_NOBODY: AbstractSet[str] = frozenset()

# The graph.


@dataclass(slots=True, eq=False)
class Node:
    """One object, as little of it as is needed."""

    uid: str
    resource: GVR
    namespace: str
    name: str
    owners: tuple[tuple[str, bool], ...]  # uid, blockOwnerDeletion
    foreground: bool  # being deleted, waits for its dependents
    orphaning: bool  # being deleted, wants its dependents let go


class Graph:
    """Objects and who owns them. Changes return the uids to look at because of them."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self._dependents: dict[str, set[str]] = {}  # by uid of the owner, known or not, where there are any

    def put(self, resource: GVR, obj: Obj) -> list[str]:
        """Take in a new or changed object."""
        uid = uid_of(obj)
        old = self.nodes.get(uid)
        node = self._node(resource, obj)
        self.nodes[uid] = node
        before = {owner for owner, _ in old.owners} if old is not None else set()
        after = {owner for owner, _ in node.owners}
        for owner in before - after:
            self._unlink(owner, uid)
        for owner in after - before:
            self._link(owner, uid)
        return self._affected(node, old)

    def _affected(self, node: Node, old: Node | None) -> list[str]:
        affected = [] if self.is_settled(node) else [node.uid]
        if node.foreground and not (old and old.foreground):
            affected += self.dependents(node)
        if old is not None and old.owners != node.owners:
            affected += [owner for owner, _ in old.owners]  # one of them may wait for nobody now
        return affected

    def remove(self, uid: str) -> list[str]:
        """Forget an object that was deleted: its dependents may be garbage, its owners may wait no longer."""
        node = self.nodes.pop(uid, None)
        if node is None:
            return []
        for owner, _ in node.owners:
            self._unlink(owner, uid)
        waiting = [owner for owner, _ in node.owners if owner in self.nodes and self.nodes[owner].foreground]
        return [*self.dependents(node), *waiting]

    def dependents(self, node: Node) -> AbstractSet[str]:
        """The uids of the objects that name this one as an owner."""
        return self._dependents.get(node.uid, _NOBODY)

    def is_settled(self, node: Node) -> bool:
        """Whether the graph alone says that nothing is to be done: every owner is there, and nothing is deleted."""
        if node.foreground or node.orphaning:
            return False
        owners = [self.nodes.get(owner) for owner, _ in node.owners]
        return all(
            owner is not None and not owner.foreground and owner.namespace in ("", node.namespace) for owner in owners
        )

    def blocking(self, node: Node) -> list[str]:
        """The dependents that hold back the deletion of `node`."""
        return [uid for uid in self.dependents(node) if (node.uid, True) in self.nodes[uid].owners]

    def closes_circle(self, node: Node) -> bool:
        """Whether a dependent already waits for its own: with `node` waiting for it, none of a circle would ever go."""
        return any(self.nodes[uid].foreground for uid in self.dependents(node))

    def _node(self, resource: GVR, obj: Obj) -> Node:
        metadata = obj["metadata"]
        references = metadata.get("ownerReferences") or ()
        owners = tuple((ref["uid"], bool(ref.get("blockOwnerDeletion"))) for ref in references)
        finalizers = metadata.get("finalizers") or ()
        going = is_deleting(obj)
        return Node(
            uid=uid_of(obj),
            resource=resource,
            namespace=namespace_of(obj),
            name=name_of(obj),
            owners=owners,
            foreground=going and FOREGROUND in finalizers,
            orphaning=going and ORPHAN in finalizers,
        )

    def _link(self, owner: str, uid: str) -> None:
        self._dependents.setdefault(owner, set()).add(uid)

    def _unlink(self, owner: str, uid: str) -> None:
        found = self._dependents.get(owner)
        if found is not None:
            found.discard(uid)
            if not found:
                del self._dependents[owner]


# Decisions.


class Owner(Enum):
    """How an owner stands."""

    SOLID = "solid"  # it exists
    ABSENT = "absent"  # it does not, or another object has its name
    WAITING = "waiting"  # it is being deleted and waits for this dependent


class Action(Enum):
    NOTHING = "nothing"
    DROP_REFERENCES = "drop references"  # to owners that are absent or waiting
    DELETE = "delete"
    DELETE_FOREGROUND = "delete, dependents first"


def decide(owners: Sequence[Owner], *, has_dependents: bool) -> Action:
    """What becomes of an object whose owners stand like this."""
    if not owners or all(owner is Owner.SOLID for owner in owners):
        return Action.NOTHING
    if Owner.SOLID in owners:
        return Action.DROP_REFERENCES
    if Owner.WAITING in owners and has_dependents:
        return Action.DELETE_FOREGROUND
    return Action.DELETE


def policy_of(obj: Obj) -> str:
    """How to delete an object: as its own finalizers ask, else in the background."""
    finalizers = obj["metadata"].get("finalizers") or ()
    if ORPHAN in finalizers:
        return "Orphan"
    return "Foreground" if FOREGROUND in finalizers else "Background"


# Carrying them out.


class GarbageCollector(Controller):
    """One key is the uid of one object."""

    name = "garbage-collector-controller"
    workers = 20

    def __init__(self, client: Client, informers: InformerFactory, served: ServedResources) -> None:
        self._served = served
        self.graph = Graph()
        self._absent: OrderedDict[tuple[str, str], None] = (
            OrderedDict()
        )  # (uid, namespace) of owners known not to exist
        self._followed: set[GVR] = set()
        super().__init__(client, informers)

    def setup(self) -> None:
        for resource in self._served.list():
            self._follow(resource)
        self._served.on_change(self._follow, self._unfollow)

    def _follow(self, resource: Resource) -> None:
        """Take in the objects of a resource. Events are many, own nothing, and expire by themselves."""
        gvr = resource.gvr
        if gvr in self._followed or not resource.watchable or gvr == EVENTS or gvr.group == _EVENTS_GROUP:
            return
        self._followed.add(gvr)
        informer = self.informers.metadata_informer(gvr)
        informer.add_handler(
            lambda new: self._look_at(self.graph.put(gvr, new)),
            lambda _, new: self._look_at(self.graph.put(gvr, new)),
            lambda old: self._look_at(self.graph.remove(uid_of(old))),
        )
        if not self.informers.started:
            self._watched.append(informer)

    def _unfollow(self, resource: Resource) -> None:
        if resource.gvr in self._followed:
            self._followed.discard(resource.gvr)
            self.informers.drop_metadata_informer(resource.gvr)
            for uid in [uid for uid, node in self.graph.nodes.items() if node.resource == resource.gvr]:
                self._look_at(self.graph.remove(uid))

    def _look_at(self, uids: Iterable[str]) -> None:
        for uid in uids:
            self.queue.add(uid)

    async def reconcile(self, key: str) -> None:
        node = self.graph.nodes.get(key)
        if node is None or self.graph.is_settled(node):
            return
        obj = await self._live(node)
        if obj is None:
            self._look_at(self.graph.remove(key))
            return
        if is_deleting(obj):
            await self._help_to_go(node, obj)
        else:
            await self._judge(node, obj)

    async def _live(self, node: Node) -> Obj | None:
        """The object as the API has it now; None if it is gone or another has its name."""
        try:
            obj = await self.client.get(node.resource, node.name, node.namespace)
        except ApiError as error:
            if error.is_not_found:
                return None
            raise
        return obj if uid_of(obj) == node.uid else None

    async def _help_to_go(self, node: Node, obj: Obj) -> None:
        """An object that is being deleted: see to its dependents, then take the finalizer off."""
        finalizers = obj["metadata"].get("finalizers") or ()
        if ORPHAN in finalizers:
            for uid in list(self.graph.dependents(node)):
                await self._drop_references(uid, {node.uid})
            await self._remove_finalizer(node, obj, ORPHAN)
        elif FOREGROUND in finalizers:
            blocking = self.graph.blocking(node)
            if blocking:
                self._look_at(uid for uid in blocking if not self.graph.nodes[uid].foreground)
            else:
                await self._remove_finalizer(node, obj, FOREGROUND)

    async def _judge(self, node: Node, obj: Obj) -> None:
        references: list[Obj] = obj["metadata"].get("ownerReferences") or []
        owners = [await self._standing(reference, node) for reference in references]
        self._report_elsewhere(node, obj, references)
        action = decide(owners, has_dependents=bool(self.graph.dependents(node)))
        if action is Action.DROP_REFERENCES:
            gone = {ref["uid"] for ref, owner in zip(references, owners, strict=True) if owner is not Owner.SOLID}
            await self._patch_references(node, obj, gone)
        elif action in (Action.DELETE, Action.DELETE_FOREGROUND):
            if action is Action.DELETE_FOREGROUND and self.graph.closes_circle(node):
                obj = await self._unblock(node, obj)
            policy = "Foreground" if action is Action.DELETE_FOREGROUND else policy_of(obj)
            await self._delete(node, obj, policy)

    def _report_elsewhere(self, node: Node, obj: Obj, references: Iterable[Obj]) -> None:
        """Tell of owners that are in another namespace, where they cannot own this object."""
        for reference in references:
            known = self.graph.nodes.get(reference["uid"])
            if known is not None and known.namespace not in ("", node.namespace):
                kind, name = f"{reference['apiVersion']}/{reference['kind']}", reference["name"]
                owner = f"[{kind}, namespace: {node.namespace}, name: {name}, uid: {reference['uid']}]"
                said = f'ownerRef {owner} does not exist in namespace "{node.namespace}"'
                self.recorder.event(obj, "Warning", "OwnerRefInvalidNamespace", said)

    async def _standing(self, reference: Obj, node: Node) -> Owner:
        known = self.graph.nodes.get(reference["uid"])
        if known is not None and known.namespace in ("", node.namespace) and not known.foreground:
            return Owner.SOLID
        if (reference["uid"], node.namespace) in self._absent:
            return Owner.ABSENT
        owner = await self._fetch(reference, node)
        if owner is None:
            self._absent[reference["uid"], node.namespace] = None
            if len(self._absent) > _ABSENT_REMEMBERED:
                self._absent.popitem(last=False)
            return Owner.ABSENT
        waits = is_deleting(owner) and FOREGROUND in (owner["metadata"].get("finalizers") or ())
        return Owner.WAITING if waits and reference.get("blockOwnerDeletion") else Owner.SOLID

    async def _fetch(self, reference: Obj, node: Node) -> Obj | None:
        """The owner that a reference names, if it exists and is the one meant."""
        group, _ = parse_api_version(reference["apiVersion"])
        resource = self._served.of_kind(group, reference["kind"])
        if resource is None:
            message = f"no resource is known for owner kind {reference['kind']} in {reference['apiVersion']}"
            raise ApiError(404, "", message)
        if resource.namespaced and not node.namespace:
            return None  # a cluster-scoped object cannot be owned by one in a namespace
        try:
            owner = await self.client.get(
                resource.gvr, reference["name"], node.namespace if resource.namespaced else ""
            )
        except ApiError as error:
            if error.is_not_found:
                return None
            raise
        return owner if uid_of(owner) == reference["uid"] else None

    # Calls; what is gone already needs no more.

    async def _drop_references(self, uid: str, owners: set[str]) -> None:
        node = self.graph.nodes.get(uid)
        obj = await self._live(node) if node is not None else None
        if node is not None and obj is not None:
            await self._patch_references(node, obj, owners)

    async def _patch_references(self, node: Node, obj: Obj, owners: set[str]) -> None:
        kept = [ref for ref in obj["metadata"].get("ownerReferences") or () if ref["uid"] not in owners]
        await self._patch_metadata(node, obj, {"ownerReferences": kept or None})

    async def _unblock(self, node: Node, obj: Obj) -> Obj:
        """Let the owners go before this object; the object as it is then."""
        references = [{**ref, "blockOwnerDeletion": False} for ref in obj["metadata"].get("ownerReferences") or ()]
        return await self._patch_metadata(node, obj, {"ownerReferences": references}) or obj

    async def _remove_finalizer(self, node: Node, obj: Obj, finalizer: str) -> None:
        kept = [one for one in obj["metadata"].get("finalizers") or () if one != finalizer]
        await self._patch_metadata(node, obj, {"finalizers": kept or None})

    async def _patch_metadata(self, node: Node, obj: Obj, change: Obj) -> Obj | None:
        """The object after the change; None if it is gone."""
        metadata = {"uid": node.uid, "resourceVersion": obj["metadata"]["resourceVersion"], **change}
        try:
            return await self.client.patch(node.resource, node.name, {"metadata": metadata}, node.namespace)
        except ApiError as error:
            if error.is_not_found:
                return None
            raise

    async def _delete(self, node: Node, obj: Obj, policy: str) -> None:
        try:
            await self.client.delete(
                node.resource,
                node.name,
                node.namespace,
                propagation_policy=policy,
                uid=node.uid,
                resource_version=obj["metadata"]["resourceVersion"],
            )
        except ApiError as error:
            if not error.is_not_found:
                raise
            return
        _log.debug("collected", resource=node.resource.resource, namespace=node.namespace, object=node.name)
