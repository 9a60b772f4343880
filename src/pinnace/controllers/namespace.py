"""Empties a namespace that is being deleted, then lets it go.

Everything in it is deleted, pods first; what is kept by finalizers of its own is waited for and named in conditions.
Specified by https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/ and KEP-5080.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pinnace.apis.resources import NAMESPACES, PODS
from pinnace.client.client import Client
from pinnace.client.controller import Controller, itself
from pinnace.client.informer import InformerFactory
from pinnace.client.store import by_namespace
from pinnace.controllers.aggregated import aggregated
from pinnace.controllers.conditions import with_condition
from pinnace.controllers.pods import is_finished
from pinnace.controllers.served import Resource, ServedResources
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    format_time,
    get_in,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    replace_in,
    uid_of,
    utc_now,
)

_FINALIZER = "kubernetes"
_LOOK_AGAIN = 1.0  # seconds; content that goes by itself, but for pods, takes about so long


def is_active(namespace: Obj) -> bool:
    """Whether objects may still be made in it."""
    return not is_deleting(namespace) and get_in(namespace, "status", "phase", default="Active") == "Active"


@dataclass(slots=True)
class Content:
    """What was found in a namespace after everything was asked to go."""

    remaining: Counter[str] = field(default_factory=Counter)  # `pods.`, `deployments.apps`: how many
    finalizers: Counter[str] = field(default_factory=Counter)  # how many objects each finalizer keeps
    failures: list[str] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)  # groups and versions that cannot be asked, and why
    grace: int = 0  # seconds that the pods among it may take to end

    @property
    def empty(self) -> bool:
        return not self.remaining and not self.failures and not self.unknown


def deletion_conditions(status: Obj, content: Content, now: datetime) -> list[Obj]:
    """The conditions that say how far the deletion is."""
    conditions: Sequence[Obj] = status.get("conditions") or ()
    for fresh in _conditions(content):
        conditions = with_condition(conditions, {**fresh, "lastTransitionTime": format_time(now)})
    return list(conditions)


def _conditions(content: Content) -> Iterable[Obj]:
    if content.unknown:
        why = ", ".join(f"{where}: {error}" for where, error in sorted(content.unknown.items()))
        text = (
            f"Discovery failed for some groups, {len(content.unknown)} failing: "
            f"unable to retrieve the complete list of server APIs: {why}"
        )
        yield _says("NamespaceDeletionDiscoveryFailure", True, "DiscoveryFailed", text)
    else:
        text = "All resources successfully discovered"
        yield _says("NamespaceDeletionDiscoveryFailure", False, "ResourcesDiscovered", text)
    yield _says(
        "NamespaceDeletionGroupVersionParsingFailure",
        False,
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    )
    if content.failures:
        message = "Failed to delete all resource types, %d remaining: %s"
        text = message % (len(content.failures), ", ".join(sorted(content.failures)))
        yield _says("NamespaceDeletionContentFailure", True, "ContentDeletionFailed", text)
    else:
        text = "All content successfully deleted, may be waiting on finalization"
        yield _says("NamespaceDeletionContentFailure", False, "ContentDeleted", text)
    if content.remaining:
        parts = [f"{what} has {count} resource instances" for what, count in sorted(content.remaining.items())]
        text = f"Some resources are remaining: {', '.join(parts)}"
        yield _says("NamespaceContentRemaining", True, "SomeResourcesRemain", text)
    else:
        yield _says("NamespaceContentRemaining", False, "ContentRemoved", "All content successfully removed")
    if content.finalizers:
        parts = [f"{name} in {count} resource instances" for name, count in sorted(content.finalizers.items())]
        text = f"Some content in the namespace has finalizers remaining: {', '.join(parts)}"
        yield _says("NamespaceFinalizersRemaining", True, "SomeFinalizersRemain", text)
    else:
        text = "All content-preserving finalizers finished"
        yield _says("NamespaceFinalizersRemaining", False, "ContentHasNoFinalizers", text)


def _says(type: str, status: bool, reason: str, message: str) -> Obj:  # noqa: A002
    return {"type": type, "status": "True" if status else "False", "reason": reason, "message": message}


class NamespaceController(Controller):
    """One key is one namespace."""

    name = "namespace-controller"

    def __init__(self, client: Client, informers: InformerFactory, served: ServedResources) -> None:
        self._served = served
        super().__init__(client, informers)

    def setup(self) -> None:
        self.namespaces = self.watch(NAMESPACES, itself)
        self.pods = self.watch(PODS, self._emptied_namespace)
        self.pods.add_index("namespace", by_namespace)

    def _emptied_namespace(self, pod: Obj) -> Iterable[str]:
        """A namespace that is being deleted waits for its last pod first."""
        namespace = self.namespaces.store.get(namespace_of(pod))
        if namespace is None or not is_deleting(namespace) or self.pods.store.count("namespace", key_of(namespace)):
            return ()
        return (key_of(namespace),)

    async def reconcile(self, key: str) -> float | None:
        namespace = self.namespaces.store.get(key)
        if namespace is None or not is_deleting(namespace):
            return None
        if _FINALIZER not in get_in(namespace, "spec", "finalizers", default=()):
            return None
        content = await self._empty(key)
        status = namespace.get("status") or {}
        conditions = deletion_conditions(status, content, utc_now())
        if conditions != status.get("conditions") and not (content.empty and not status.get("conditions")):
            changed = replace_in(namespace, conditions, "status", "conditions")
            namespace = await self.client.update_status(NAMESPACES, changed)
        if not content.empty:
            return content.grace // 2 + _LOOK_AGAIN  # the last pod that goes is noticed at once
        await self._let_go(namespace)
        return None

    async def _empty(self, namespace: str) -> Content:
        """Ask everything in the namespace to go: pods, and when none is left the rest."""
        elsewhere = await aggregated(self.client)
        content = Content(unknown=elsewhere.failures)
        namespaced = [*(one for one in self._served.list() if one.namespaced), *elsewhere.resources]
        pods_first = sorted(namespaced, key=lambda one: one.gvr != PODS)
        for resource in pods_first:
            await self._empty_of(resource, namespace, content)
            if resource.gvr == PODS and content.remaining:
                break
        return content

    async def _empty_of(self, resource: Resource, namespace: str, content: Content) -> None:
        try:
            if not await self._found(resource, namespace, limit=1):
                return
            await self._delete(resource, namespace)
            left = await self._found(resource, namespace)
        except ApiError as error:
            if not error.is_not_found:  # the resource itself may have gone
                content.failures.append(error.message)
            return
        if left:
            content.remaining[f"{resource.gvr.resource}.{resource.gvr.group}"] += len(left)
        for obj in left:
            content.finalizers.update(obj["metadata"].get("finalizers") or ())
        if resource.gvr == PODS:
            ending = [pod for pod in left if not is_finished(pod)]
            graces = (get_in(pod, "spec", "terminationGracePeriodSeconds", default=30) for pod in ending)
            content.grace = max(graces, default=0)

    async def _found(self, resource: Resource, namespace: str, *, limit: int = 0) -> list[Obj]:
        listed = await self.client.list(resource.gvr, namespace, limit=limit)
        items: list[Obj] = listed.get("items") or []
        return items

    async def _delete(self, resource: Resource, namespace: str) -> None:
        if resource.collection:
            await self.client.delete_collection(resource.gvr, namespace)
            return
        for obj in await self._found(resource, namespace):
            try:
                await self.client.delete(
                    resource.gvr, name_of(obj), namespace, uid=uid_of(obj), propagation_policy="Background"
                )
            except ApiError as error:
                if not error.is_not_found:
                    raise

    async def _let_go(self, namespace: Obj) -> None:
        """Take our finalizer off, which ends the namespace unless others hold it."""
        finalizers = [one for one in get_in(namespace, "spec", "finalizers", default=()) if one != _FINALIZER]
        try:
            await self.client.update(
                NAMESPACES, replace_in(namespace, finalizers, "spec", "finalizers"), subresource="finalize"
            )
        except ApiError as error:
            if not error.is_not_found:
                raise
