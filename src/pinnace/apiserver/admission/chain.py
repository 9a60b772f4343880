"""The order in which admission plugins see a request.

First every plugin may change the object, in the order of the list; when the object is complete and valid, every plugin
may refuse it. Webhooks belong into the same two phases, after the built-in plugins, which is why both are coroutines.
Where one of them changed what another has seen that asked for another look (`reinvocationPolicy: IfNeeded`), all
plugins see the object once more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import orjson

from pinnace.apiserver.asking import MustAsk, going_again
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, annotations_of

if TYPE_CHECKING:
    from pinnace.apiserver.admission.configuration import Configurations
    from pinnace.apiserver.cache import ResourceCache
    from pinnace.apiserver.call import Call


class Reinvocation:
    """Who wants another look at an object that others change after them."""

    __slots__ = ("_due", "_left", "_seen", "second")

    def __init__(self) -> None:
        self.second = False  # whether this is the second round
        self._seen: list[Hashable] = []  # who was asked and wants another look
        self._due: set[Hashable] = set()  # who gets one
        self._left: bytes | None = None  # the object when the last of them was done with it

    @property
    def is_due(self) -> bool:
        return bool(self._due) and not self.second

    def is_asked(self, who: Hashable) -> bool:
        """Whether it is the turn of `who`: of everybody in the first round, in the second of those who are due."""
        return not self.second or who in self._due

    def look(self, obj: Obj | None) -> None:
        """Before the hooks of a plugin: what built-in plugins changed in the second round all must see."""
        if self.second and self._left is not None and orjson.dumps(obj) != self._left:
            self._due.update(self._seen)

    def leave(self, obj: Obj | None) -> None:
        """After the hooks of a plugin."""
        self._left = orjson.dumps(obj)

    def note(self, who: Hashable, changed: bool, again: bool) -> None:
        """`who` has seen the object, maybe changed it, and may want to see it again."""
        if changed:
            self._due.update(each for each in self._seen if each != who)
        if again and who not in self._seen:
            self._seen.append(who)


@dataclass(slots=True)
class Attributes:
    """What is to happen, as a plugin sees it."""

    call: Call
    operation: str  # CREATE, UPDATE, DELETE, CONNECT
    obj: Obj | None  # may be changed in `mutate`; None for DELETE
    old: Obj | None  # read-only; None for CREATE
    dry_run: bool = False
    reinvocation: Reinvocation | None = None  # once a webhook or a policy has seen the object

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
    def is_scale(self) -> bool:
        """Whether the request is about the Scale of the object, which is what webhooks and policies see then."""
        return self.subresource == "scale" and self.call.kind.scale is not None

    @property
    def is_part(self) -> bool:
        """Whether `obj` is no object of the resource, but what one of its subresources takes."""
        return self.obj is not None and bool(self.subresource) and self.obj.get("kind") != self.call.kind.kind

    @property
    def name(self) -> str:
        """Of the object, as far as it has one yet."""
        return self.call.info.name or str((self.obj or {}).get("metadata", {}).get("name") or "")

    def annotate(self, key: str, value: str) -> None:
        """Note something for the audit event."""
        if self.call.annotations is None:
            self.call.annotations = {}
        self.call.annotations[key] = value

    def forbidden(self, why: str) -> ApiError:
        """The refusal of this object, for its author to read."""
        group, plural = self.resource
        return errors.forbidden(plural, self.name, why, group)


class Plugin:
    """One rule; does nothing unless it overrides one of these. Both raise ApiError to refuse."""

    concerns: frozenset[tuple[str, str]] | None = None  # group and plural of what it has something to say of; None: all
    dynamic = False  # whether its rules are objects of the cluster, which may name any resource

    @classmethod
    def configured(cls, configurations: Configurations) -> Plugin:  # noqa: ARG003 - few have a configuration
        """The plugin as `--admission-control-config-file` wants it. Raises ConfigurationError."""
        return cls()

    async def mutate(self, attributes: Attributes) -> None:
        """Change `attributes.obj` in place."""

    async def validate(self, attributes: Attributes) -> None:
        """Look at the finished object."""

    async def close(self) -> None:
        """Give back what it holds: connections to others."""


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


Step = Callable[[Attributes], Awaitable[None]]


class Chain:
    """All plugins in order."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = list(plugins)
        self._mutating = [plugin for plugin in plugins if type(plugin).mutate is not Plugin.mutate]
        self._dynamic = [plugin for plugin in plugins if plugin.dynamic]
        self._validating = [plugin for plugin in plugins if type(plugin).validate is not Plugin.validate]
        self._concerned: dict[tuple[str, str], tuple[list[Step], list[Step]]] = {}

    def _of(self, resource: tuple[str, str]) -> tuple[list[Step], list[Step]]:
        """Of those with something to say of the resource: how they change it, and how they refuse it."""
        found = self._concerned.get(resource)
        if found is None:
            mutating, validating = (
                [plugin for plugin in plugins if plugin.concerns is None or resource in plugin.concerns]
                for plugins in (self._mutating, self._validating)
            )
            found = [plugin.mutate for plugin in mutating], [plugin.validate for plugin in validating]
            self._concerned[resource] = found
        return found

    async def mutate(self, attributes: Attributes) -> None:
        steps = self._of(attributes.resource)[0]
        await _take(steps, attributes)
        again = attributes.reinvocation
        if again is not None and again.is_due:
            again.second = True
            await _take(steps, attributes)

    async def admit_part(self, call: Call, obj: Obj) -> None:
        """Ask about what is sent to a subresource and is no object of its resource: a Binding, an Eviction.

        Built-in plugins have nothing to say of those. `obj` may be changed.
        """
        attributes = Attributes(call, "CREATE", obj, None, call.dry_run)
        await _take([plugin.mutate for plugin in self._dynamic], attributes)
        await _take([plugin.validate for plugin in self._dynamic], attributes)

    async def validate(self, attributes: Attributes) -> None:
        await _take(self._of(attributes.resource)[1], attributes)

    async def close(self) -> None:
        for plugin in self.plugins:
            await plugin.close()


async def _take(steps: Sequence[Step], attributes: Attributes) -> None:
    """Every plugin's word; it is asked for again when it hung on what an authorizer elsewhere says."""
    for step in steps:
        try:
            await step(attributes)
        except MustAsk as question:
            await going_again(partial(step, attributes), question)
