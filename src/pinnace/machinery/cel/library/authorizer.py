"""Kubernetes' `authorizer`: what the author of a request may do elsewhere.

Checks are built step by step: `authorizer.group('apps').resource('deployments').namespace('x').check('create')`. Who
decides is a function that the evaluation is given. https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-authorizer-library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

from pinnace.machinery.cel.functions import Functions
from pinnace.machinery.cel.types import Type, opaque
from pinnace.machinery.cel.values import CelError, Opaque

function = Functions()
_PREFIX = "kubernetes.authorization."


class Question(NamedTuple):
    """What is asked; a path, or a resource. `user` is empty for the author of the request."""

    verb: str
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""
    label_selector: str = ""
    service_account: tuple[str, str] | None = None  # namespace and name, where it is not the author


NOTHING = Question("")

Decide = Callable[[Question], tuple[bool, str, str]]
"""Whether it is allowed, why, and what went wrong (empty if nothing)."""


@dataclass(frozen=True)
class Authorizer(Opaque):
    decide: Decide = field(compare=False)
    asked: Question = NOTHING
    cel_type: ClassVar[Type] = opaque(_PREFIX + "Authorizer")


@dataclass(frozen=True)
class PathCheck(Authorizer):
    cel_type: ClassVar[Type] = opaque(_PREFIX + "PathCheck")


@dataclass(frozen=True)
class GroupCheck(Authorizer):
    cel_type: ClassVar[Type] = opaque(_PREFIX + "GroupCheck")


@dataclass(frozen=True)
class ResourceCheck(Authorizer):
    cel_type: ClassVar[Type] = opaque(_PREFIX + "ResourceCheck")


@dataclass(frozen=True)
class Decision(Opaque):
    is_allowed: bool
    reason: str
    error: str
    cel_type: ClassVar[Type] = opaque(_PREFIX + "Decision")


@function(f"({_PREFIX}Authorizer).path(string): {_PREFIX}PathCheck")
def _path(one: Authorizer, path: str) -> PathCheck:
    if not path:
        raise CelError("path must not be empty")
    return PathCheck(one.decide, one.asked._replace(path=path))


@function(f"({_PREFIX}Authorizer).group(string): {_PREFIX}GroupCheck")
def _group(one: Authorizer, group: str) -> GroupCheck:
    return GroupCheck(one.decide, one.asked._replace(group=group))


@function(f"({_PREFIX}Authorizer).serviceAccount(string, string): {_PREFIX}Authorizer")
def _service_account(one: Authorizer, namespace: str, name: str) -> Authorizer:
    from pinnace.machinery import names

    if problems := names.is_dns_subdomain(name):
        raise CelError(f"Invalid service account name: {problems[0]}")
    if problems := names.is_dns_label(namespace):
        raise CelError(f"Invalid service account namespace: {problems[0]}")
    return Authorizer(one.decide, one.asked._replace(service_account=(namespace, name)))


@function(f"({_PREFIX}GroupCheck).resource(string): {_PREFIX}ResourceCheck")
def _resource(one: GroupCheck, resource: str) -> ResourceCheck:
    return ResourceCheck(one.decide, one.asked._replace(resource=resource))


def _step(name: str, part: str, since: int = 0) -> None:
    @function(f"({_PREFIX}ResourceCheck).{name}(string): {_PREFIX}ResourceCheck", since=since)
    def step(one: ResourceCheck, value: str) -> ResourceCheck:
        asked: Any = {part: value}
        return replace(one, asked=one.asked._replace(**asked))


_step("subresource", "subresource")
_step("namespace", "namespace")
_step("name", "name")
_step("fieldSelector", "field_selector", since=32)
_step("labelSelector", "label_selector", since=32)


@function(
    f"({_PREFIX}PathCheck).check(string): {_PREFIX}Decision",
    f"({_PREFIX}ResourceCheck).check(string): {_PREFIX}Decision",
)
def _check(one: Authorizer, verb: str) -> Decision:
    return Decision(*one.decide(one.asked._replace(verb=verb)))


function(f"({_PREFIX}Decision).allowed(): bool")(lambda one: one.is_allowed)
function(f"({_PREFIX}Decision).reason(): string")(lambda one: one.reason)
function(f"({_PREFIX}Decision).errored(): bool")(lambda one: bool(one.error))
function(f"({_PREFIX}Decision).error(): string")(lambda one: one.error)
