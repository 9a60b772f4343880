"""Attribute-based access control: a file of policies, one JSON object a line. Pure but for reading the file.

https://kubernetes.io/docs/reference/access-authn-authz/abac/.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from pinnace.apiserver.authn import AUTHENTICATED, User
from pinnace.apiserver.authz import Opinion
from pinnace.apiserver.configuration import ConfigurationError
from pinnace.apiserver.rbac import matches_url, namespace_of
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery.meta import Obj

_VERSION = "abac.authorization.kubernetes.io/v1beta1"
_READS = ("get", "list", "watch")


class Abac:
    """Allows what one of `policies` matches."""

    name = "ABAC"

    def __init__(self, policies: Sequence[Obj]) -> None:
        self._policies = tuple(policies)

    def decide(self, user: User, info: RequestInfo) -> Opinion:
        for policy in self._policies:
            if _is_of(policy, user) and (info.verb in _READS or not policy.get("readonly")) and _covers(policy, info):
                return Opinion(True, "")
        return Opinion(None, "No policy matched.")

    def rules(self, user: User, namespace: str) -> list[Obj]:
        found: list[Obj] = []
        for policy in self._policies:
            if not _is_of(policy, user) or (policy.get("namespace") or "") not in ("*", namespace):
                continue
            verbs = list(_READS) if policy.get("readonly") else ["*"]
            resource, path = policy.get("resource"), policy.get("nonResourcePath")
            if resource:
                found.append({"verbs": verbs, "apiGroups": [policy.get("apiGroup") or ""], "resources": [resource]})
            if path:
                found.append({"verbs": verbs, "nonResourceURLs": [path]})
        return found


def _is_of(policy: Obj, user: User) -> bool:
    """Both the user and the group must fit, as far as they are given; a policy for nobody fits nobody."""
    name, group = policy.get("user") or "", policy.get("group") or ""
    if name not in ("", "*", user.name) or (group not in ("", "*") and group not in user.groups):
        return False
    return bool(name or group)


def _covers(policy: Obj, info: RequestInfo) -> bool:
    if not info.is_resource:
        pattern = policy.get("nonResourcePath") or ""
        return bool(pattern) and matches_url(pattern, info.path)
    asked = {"namespace": namespace_of(info), "resource": info.resource, "apiGroup": info.group}
    return all((policy.get(name) or "") in ("*", word) for name, word in asked.items())


def load_policies(path: Path) -> Abac:
    """The policies in a file. Raises ConfigurationError naming the line."""
    policies = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            policies.append(_policy(orjson.loads(line)))
        except ValueError as error:
            raise ConfigurationError(f"error reading policy file {path}, line {number}: {line}: {error}") from None
    return Abac(policies)


def _policy(said: Any) -> Obj:
    """The attributes of a line. Raises ValueError."""
    if not isinstance(said, dict):
        raise ValueError("not an object")
    if "apiVersion" not in said and "kind" not in said:
        return _of_old(said)
    if (said.get("apiVersion"), said.get("kind")) != (_VERSION, "Policy"):
        what = f'no kind "{said.get("kind")}" is registered for version "{said.get("apiVersion")}"'
        raise ValueError(what)
    spec = said.get("spec")
    return spec if isinstance(spec, dict) else {}


def _of_old(said: Obj) -> Obj:
    """The form without a version: what it leaves out it does not restrict."""
    everybody = not said.get("user") and not said.get("group")
    return {
        "user": said.get("user") or "",
        "group": AUTHENTICATED if everybody else said.get("group") or "",
        "namespace": said.get("namespace") or "*",
        "resource": said.get("resource") or "*",
        "apiGroup": "*",
        "nonResourcePath": "" if said.get("namespace") or said.get("resource") else "*",
        "readonly": bool(said.get("readonly")),
    }
