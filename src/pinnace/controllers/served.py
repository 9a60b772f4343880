"""Which resources hold objects: the built-in ones and those of CustomResourceDefinitions, one version of each.

What empties namespaces and collects garbage must reach every object there is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pinnace.apis.registry import Registry
from pinnace.apis.resources import CUSTOM_RESOURCE_DEFINITIONS
from pinnace.client.informer import Informer, InformerFactory
from pinnace.controllers.conditions import is_true
from pinnace.machinery.meta import GVK, GVR, Obj

NEEDED_VERBS = {"delete", "list"}


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection of objects that can be listed and deleted."""

    gvr: GVR
    kind: str
    namespaced: bool
    watchable: bool = True
    collection: bool = True  # can be deleted as a whole


class ServedResources:
    """The resources served now; `on_change` is told of those that come and go."""

    def __init__(self, registry: Registry, informers: InformerFactory) -> None:
        self._builtin = _builtin(registry)
        self.definitions: Informer | None = None
        if registry.by_gvr(CUSTOM_RESOURCE_DEFINITIONS) is not None:
            self.definitions = informers.informer(CUSTOM_RESOURCE_DEFINITIONS)
        self._by_kind = {GVK(found.gvr.group, "", found.kind): found for found in self._builtin}

    def list(self) -> list[Resource]:
        custom = self.definitions.store.list() if self.definitions is not None else []
        return [*self._builtin, *(found for one in custom if (found := custom_resource(one)) is not None)]

    def of_kind(self, group: str, kind: str) -> Resource | None:
        """The resource in which objects of the kind are found, whatever version they name."""
        found = self._by_kind.get(GVK(group, "", kind))
        if found is not None or self.definitions is None:
            return found
        for definition in self.definitions.store.list():
            custom = custom_resource(definition)
            if custom is not None and (custom.gvr.group, custom.kind) == (group, kind):
                return custom
        return None

    def on_change(self, added: Callable[[Resource], None], removed: Callable[[Resource], None]) -> None:
        """Call back when a CustomResourceDefinition is established, and when it goes."""
        if self.definitions is None:
            return

        def tell(callback: Callable[[Resource], None], definition: Obj) -> None:
            resource = custom_resource(definition)
            if resource is not None:
                callback(resource)

        self.definitions.add_handler(
            lambda new: tell(added, new), lambda _, new: tell(added, new), lambda old: tell(removed, old)
        )


def _builtin(registry: Registry) -> list[Resource]:
    """Every stored kind once, at the version that its group prefers among those that have it."""
    found: dict[tuple[str, str], Resource] = {}
    rank = {(group, version): place for group, versions in registry.groups() for place, version in enumerate(versions)}
    for kind in sorted(registry.kinds, key=lambda kind: rank[kind.group, kind.version]):
        verbs = set(kind.verbs)
        if verbs >= NEEDED_VERBS:
            resource = Resource(kind.gvr, kind.kind, kind.namespaced, "watch" in verbs, "deletecollection" in verbs)
            found.setdefault((kind.group, kind.plural), resource)
    return list(found.values())


def custom_resource(definition: Obj) -> Resource | None:
    """The resource that an established definition serves, at its storage version if that is served."""
    if not is_true(definition, "Established"):
        return None
    spec = definition["spec"]
    served = [version for version in spec["versions"] if version.get("served")]
    if not served:
        return None
    version = next((one for one in served if one.get("storage")), served[0])["name"]
    gvr = GVR(spec["group"], version, spec["names"]["plural"])
    return Resource(gvr, spec["names"]["kind"], spec.get("scope") == "Namespaced")
