"""The audit policy: which requests are recorded, how much of them, and at which stages.

The first rule that matches a request decides. Nothing here knows of files or clocks.
https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/#audit-k8s-io-v1-Policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from pinnace.apiserver.authn import User
from pinnace.apiserver.configuration import ConfigurationError, Shape, read_configuration, refuse
from pinnace.apiserver.rbac import matches_url, namespace_of
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery.errors import Cause, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj
from pinnace.machinery.names import is_dns_subdomain

RECEIVED, STARTED, COMPLETE, PANIC = "RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"
STAGES = (RECEIVED, STARTED, COMPLETE, PANIC)
KEPT = 20_000  # verdicts

_RULE: Shape = {
    "level": str,
    "users": [str],
    "userGroups": [str],
    "verbs": [str],
    "resources": [{"group": str, "resources": [str], "resourceNames": [str]}],
    "namespaces": [str],
    "nonResourceURLs": [str],
    "omitStages": [str],
    "omitManagedFields": bool,
}
_KINDS = {
    ("audit.k8s.io/v1", "Policy"): {"rules": [_RULE], "omitStages": [str], "omitManagedFields": bool},
}


class Level(IntEnum):
    """How much is recorded; each level holds what those before it do."""

    NONE = 0
    METADATA = 1
    REQUEST = 2
    REQUEST_RESPONSE = 3

    @property
    def word(self) -> str:
        return _WORDS[self]


_WORDS = ("None", "Metadata", "Request", "RequestResponse")


class Verdict(NamedTuple):
    """What is recorded of a request."""

    level: Level
    omit_stages: frozenset[str] = frozenset()
    omit_managed_fields: bool = False


@dataclass(slots=True)
class Rule:
    """One rule; what is empty matches everything."""

    verdict: Verdict
    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    verbs: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    urls: tuple[str, ...] = ()
    resources: Sequence[Obj] = ()

    def matches(self, user: User | None, info: RequestInfo) -> bool:
        if self.users and (user is None or user.name not in self.users):
            return False
        if self.groups and (user is None or self.groups.isdisjoint(user.groups)):
            return False
        if self.verbs and info.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            return info.is_resource and self._matches_resource(info)
        if self.urls:
            return not info.is_resource and any(url == "*" or matches_url(url, info.path) for url in self.urls)
        return True

    def _matches_resource(self, info: RequestInfo) -> bool:
        if self.namespaces and namespace_of(info) not in self.namespaces:
            return False
        return not self.resources or any(_covers(each, info) for each in self.resources)


def _covers(group: Obj, info: RequestInfo) -> bool:
    """Whether a GroupResources names what is asked for."""
    if (group.get("group") or "") != info.group:
        return False
    wanted = group.get("resources") or ()
    if not wanted:
        return True
    names = group.get("resourceNames") or ()
    if names and info.name not in names:
        return False
    whole = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    for each in wanted:
        if each in ("*", whole, f"{info.resource}/*") or (info.subresource and each == f"*/{info.subresource}"):
            return True
    return False


@dataclass(slots=True)
class Policy:
    rules: Sequence[Rule]
    otherwise: Verdict = Verdict(Level.NONE)  # noqa: RUF009 # a tuple of values
    _known: dict[tuple[str, tuple[str, ...], RequestInfo], Verdict] = field(default_factory=dict)

    def verdict(self, user: User | None, info: RequestInfo) -> Verdict:
        """What is recorded of a request; `user` is None for one who is not known."""
        key = ("", (), info) if user is None else (user.name, user.groups, info)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= KEPT:
                self._known.clear()
            found = self._known[key] = self._decide(user, info)
        return found

    def _decide(self, user: User | None, info: RequestInfo) -> Verdict:
        for rule in self.rules:
            if rule.matches(user, info):
                return rule.verdict
        return self.otherwise


def load_policy(path: Path) -> Policy:
    """The policy in a file. Raises ConfigurationError."""
    try:
        document = read_configuration(path, _KINDS)
        refuse(validate_policy(document))
        if not document.get("rules"):
            raise ConfigurationError("loaded illegal policy with 0 rules")
    except ConfigurationError as error:
        where = "" if str(path) in str(error) else f": from file {path}"
        raise ConfigurationError(f"loading audit policy file: {error}{where}") from None
    return policy_of(document)


def policy_of(document: Obj) -> Policy:
    """The policy that a valid document describes."""
    stages = frozenset(document.get("omitStages") or ())
    managed = bool(document.get("omitManagedFields"))
    rules = []
    for rule in document["rules"]:
        own = rule.get("omitManagedFields")
        verdict = Verdict(
            Level(_WORDS.index(rule["level"])),
            stages | frozenset(rule.get("omitStages") or ()),
            managed if own is None else own,
        )
        users, groups, verbs, namespaces = (
            frozenset(rule.get(name) or ()) for name in ("users", "userGroups", "verbs", "namespaces")
        )
        urls = tuple(rule.get("nonResourceURLs") or ())
        rules.append(Rule(verdict, users, groups, verbs, namespaces, urls, rule.get("resources") or ()))
    return Policy(rules, Verdict(Level.NONE, stages, managed))


# What a policy must be.


def validate_policy(document: Obj) -> list[Cause]:
    causes = _validate_stages(document, "")
    for index, rule in enumerate(document.get("rules") or ()):
        causes += _validate_rule(rule or {}, f"rules[{index}]")
    return causes


def _validate_rule(rule: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    level = rule.get("level") or ""
    if not level:
        causes.append(required(f"{path}.level"))
    elif level not in _WORDS:
        causes.append(not_supported(f"{path}.level", level, _WORDS))
    urls = rule.get("nonResourceURLs") or ()
    for index, url in enumerate(urls):
        where = f"{path}.nonResourceURLs[{index}]"
        if url != "*" and not url.startswith("/"):
            causes.append(invalid_value(where, url, "non-resource URL rules must begin with a '/' character"))
        if url != "*" and "*" in url[:-1]:
            why = "non-resource URL wildcards '*' must be the final character of the rule"
            causes.append(invalid_value(where, url, why))
    for group in rule.get("resources") or ():
        causes += _validate_resources(group or {}, f"{path}.resources")
    causes += _validate_stages(rule, f"{path}.")
    if urls and (rule.get("resources") or rule.get("namespaces")):
        why = "rules cannot apply to both regular resources and non-resource URLs"
        causes.append(invalid_value(f"{path}.nonResourceURLs", urls, why))
    return causes


def _validate_resources(group: Obj, path: str) -> list[Cause]:
    wrong = is_dns_subdomain(group["group"]) if group.get("group") else []
    causes = [invalid_value(f"{path}.group", group["group"], ",".join(wrong))] if wrong else []
    if group.get("resourceNames") and not group.get("resources"):
        why = "using resourceNames requires at least one resource"
        causes.append(invalid_value(f"{path}.resourceNames", group["resourceNames"], why))
    return causes


def _validate_stages(holder: Obj, prefix: str) -> list[Cause]:
    return [
        invalid_value(f"{prefix}omitStages[{index}]", stage, "allowed stages are " + ",".join(STAGES))
        for index, stage in enumerate(holder.get("omitStages") or ())
        if stage not in STAGES
    ]
