"""The order in which admission plugins see a request.

First every plugin may change the object, in the order of the list; when the object is complete and valid, every plugin
may refuse it. Webhooks belong into the same two phases, after the built-in plugins, which is why both are coroutines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, annotations_of

if TYPE_CHECKING:
    from pinnace.apiserver.cache import ResourceCache
    from pinnace.apiserver.call import Call


@dataclass(slots=True)
class Attributes:
    """What is to happen, as a plugin sees it."""

    call: Call
    operation: str  # CREATE, UPDATE, DELETE, CONNECT
    obj: Obj | None  # may be changed in `mutate`; None for DELETE
    old: Obj | None  # read-only; None for CREATE
    dry_run: bool = False

    @property
    def resource(self) -> tuple[str, str]:
        """Group and plural."""
        kind = self.call.kind
        return kind.group, kind.plural

    @property
    def namespace(self) -> str:
        return self.call.info.namespace

    @property
    def subresource(self) -> str:
        return self.call.info.subresource

    @property
    def name(self) -> str:
        """Of the object, as far as it has one yet."""
        return self.call.info.name or str((self.obj or {}).get("metadata", {}).get("name") or "")

    def forbidden(self, why: str) -> ApiError:
        """The refusal of this object, for its author to read."""
        group, plural = self.resource
        return errors.forbidden(plural, self.name, why, group)


class Plugin:
    """One rule; does nothing unless it overrides one of these. Both raise ApiError to refuse."""

    async def mutate(self, attributes: Attributes) -> None:
        """Change `attributes.obj` in place."""

    async def validate(self, attributes: Attributes) -> None:
        """Look at the finished object."""


def aggregated(messages: Sequence[str]) -> str:
    """Several reasons as one text: `[a, b]`, or just `a`."""
    return messages[0] if len(messages) == 1 else f"[{', '.join(messages)}]"


def newest_default(cache: ResourceCache, marks: Sequence[str]) -> str:
    """The name of the class that an annotation marks as default, the newest of several; empty where none is."""
    defaults = [
        found.obj()["metadata"]
        for found in cache.objects.values()
        if b"is-default-class" in found.raw and any(annotations_of(found.obj()).get(mark) == "true" for mark in marks)
    ]
    newest = max((meta["creationTimestamp"] for meta in defaults), default="")
    return min((meta["name"] for meta in defaults if meta["creationTimestamp"] == newest), default="")


class Chain:
    """All plugins in order."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = list(plugins)
        self._mutating = [plugin for plugin in plugins if type(plugin).mutate is not Plugin.mutate]
        self._validating = [plugin for plugin in plugins if type(plugin).validate is not Plugin.validate]

    async def mutate(self, attributes: Attributes) -> None:
        for plugin in self._mutating:
            await plugin.mutate(attributes)

    async def validate(self, attributes: Attributes) -> None:
        for plugin in self._validating:
            await plugin.validate(attributes)
