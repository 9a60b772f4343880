"""The order in which admission plugins see a request.

First every plugin may change the object, in the order of the list; when the object is complete and valid, every plugin
may refuse it. Webhooks belong into the same two phases, after the built-in plugins, which is why both are coroutines.
Where one of them changed what another has seen that asked for another look (`reinvocationPolicy: IfNeeded`), all
plugins see the object once more.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter as clock
from typing import TYPE_CHECKING

import orjson

from pinnace.apiserver.admission.measures import ADMIT, VALIDATE, Measures
from pinnace.apiserver.asking import MustAsk, going_again
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, annotations_of
from pinnace.machinery.metrics import Family

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
    name = ""  # that metrics know it by; empty: nobody is told of it
    dynamic = False  # whether its rules are objects of the cluster, which may name any resource

    @classmethod
    def configured(cls, configurations: Configurations) -> Plugin:  # noqa: ARG003 - few have a configuration
        """The plugin as `--admission-control-config-file` wants it. Raises ConfigurationError."""
        return cls()

    async def mutate(self, attributes: Attributes) -> None:
        """Change `attributes.obj` in place."""

    async def validate(self, attributes: Attributes) -> None:
        """Look at the finished object."""

    def families(self) -> Sequence[Family]:
        """What it counts of its own."""
        return ()

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


class _Phase:
    """Some plugins' steps, one after the other; metrics are told when each was through."""

    def __init__(self, measures: Measures, operation: str, kind: str, plugins: Sequence[Plugin]) -> None:
        self._steps = [plugin.mutate if kind == ADMIT else plugin.validate for plugin in plugins]
        self._passes = measures.passes(operation, kind, [plugin.name for plugin in plugins])

    async def take(self, attributes: Attributes, again: bool = False) -> None:
        """Every plugin's word; it is asked for again when it hung on what an authorizer elsewhere says."""
        marks = [clock()]
        try:
            for step in self._steps:
                try:
                    await step(attributes)
                except MustAsk as question:
                    await going_again(partial(step, attributes), question)
                marks.append(clock())
        except ApiError:
            self._passes.refused([*marks, clock()])
            raise
        self._passes.add(marks, again)


class Chain:
    """All plugins in order."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = list(plugins)
        self._measures = Measures()
        self._mutating = [plugin for plugin in plugins if type(plugin).mutate is not Plugin.mutate]
        self._validating = [plugin for plugin in plugins if type(plugin).validate is not Plugin.validate]
        self._phases: dict[tuple[tuple[str, str], str], tuple[_Phase, _Phase]] = {}
        dynamic = [plugin for plugin in plugins if plugin.dynamic]
        self._of_parts = [_Phase(self._measures, "CREATE", kind, dynamic) for kind in (ADMIT, VALIDATE)]

    def families(self) -> list[Family]:
        """What there is to measure."""
        return list(
            dict.fromkeys((*self._measures.families, *(each for one in self.plugins for each in one.families())))
        )

    def _of(self, attributes: Attributes) -> tuple[_Phase, _Phase]:
        """Of those with something to say of the resource: how they change an object, and how they refuse it."""
        resource, operation = attributes.resource, attributes.operation
        found = self._phases.get((resource, operation))
        if found is None:
            mutating, validating = (
                [plugin for plugin in plugins if plugin.concerns is None or resource in plugin.concerns]
                for plugins in (self._mutating, self._validating)
            )
            found = (
                _Phase(self._measures, operation, ADMIT, mutating),
                _Phase(self._measures, operation, VALIDATE, validating),
            )
            self._phases[resource, operation] = found
        return found

    async def mutate(self, attributes: Attributes) -> None:
        phase = self._of(attributes)[0]
        await phase.take(attributes)
        again = attributes.reinvocation
        if again is not None and again.is_due:
            again.second = True
            await phase.take(attributes, again=True)

    async def admit_part(self, call: Call, obj: Obj) -> None:
        """Ask about what is sent to a subresource and is no object of its resource: a Binding, an Eviction.

        Built-in plugins have nothing to say of those. `obj` may be changed.
        """
        attributes = Attributes(call, "CREATE", obj, None, call.dry_run)
        for phase in self._of_parts:
            await phase.take(attributes)

    async def validate(self, attributes: Attributes) -> None:
        await self._of(attributes)[1].take(attributes)

    async def close(self) -> None:
        for plugin in self.plugins:
            await plugin.close()
