"""Nobody hands out rights they do not hold: roles and bindings are refused where they would grant more.

The verbs `escalate` on roles and `bind` on a role are the two ways around.
https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping.
"""

from __future__ import annotations

from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.apiserver.authn import User
from pinnace.apiserver.rbac import GROUP, Policy, RoleKey, compact, covers, quoted, rule_text
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery import errors
from pinnace.machinery.meta import Obj

_ROLES = ("roles", "clusterroles")
_BINDINGS = ("rolebindings", "clusterrolebindings")
_EVERYTHING: list[Obj] = [
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
]


class Escalation(Plugin):
    """Not a plugin that can be turned off: the storage of RBAC's own objects is what refuses here."""

    concerns = frozenset((GROUP, plural) for plural in (*_ROLES, *_BINDINGS))

    async def validate(self, attributes: Attributes) -> None:
        group, resource = attributes.resource
        if group != GROUP or attributes.obj is None or attributes.operation not in ("CREATE", "UPDATE"):
            return
        if resource in _ROLES:
            self._check_role(attributes, attributes.obj, attributes.old)
        elif resource in _BINDINGS:
            self._check_binding(attributes, attributes.obj, attributes.old)

    def _check_role(self, attributes: Attributes, role: Obj, old: Obj | None) -> None:
        if old is not None and all(role.get(part) == old.get(part) for part in ("rules", "aggregationRule")):
            return
        call = attributes.call
        asked = call.info._replace(verb="escalate", name=role["metadata"]["name"])
        if call.api.authorizer.decide(call.user, asked)[0]:
            return
        wanted = list(role.get("rules") or ())
        if role.get("aggregationRule"):  # what it will hold is not for its author to say
            wanted = _EVERYTHING
        self._check(attributes, wanted)

    def _check_binding(self, attributes: Attributes, binding: Obj, old: Obj | None) -> None:
        parts = ("roleRef", "subjects")
        if old is not None and all(binding.get(part) == old.get(part) for part in parts):
            return
        call, reference = attributes.call, binding["roleRef"]
        resource = "roles" if reference.get("kind") == "Role" else "clusterroles"
        namespace, name = attributes.namespace, reference["name"]
        asked = RequestInfo("bind", "", True, GROUP, call.info.version, resource, namespace, name)
        if call.api.authorizer.decide(call.user, asked)[0]:
            return
        key = RoleKey(namespace if resource == "roles" else "", name)
        rules = call.api.authorizer.policy.role_rules(key)
        if rules is None:
            raise errors.not_found(resource, name, GROUP)
        self._check(attributes, rules)

    def _check(self, attributes: Attributes, wanted: list[Obj]) -> None:
        call = attributes.call
        assert attributes.obj is not None
        text = lacking(call.api.authorizer.policy, call.user, attributes.namespace, wanted)
        if text:
            raise errors.forbidden(call.kind.plural, attributes.obj["metadata"]["name"], text, GROUP)


def lacking(policy: Policy, user: User, namespace: str, wanted: list[Obj]) -> str:
    """What `user` does not hold of the rules, worded as the refusal; empty when nothing is lacking."""
    owned = policy.grants(user).rules(namespace)
    missing = compact(part for rule in wanted for part in covers(owned, rule))
    if not missing:
        return ""
    groups = quoted(user.groups)
    lines = sorted({rule_text(rule) for rule in missing})
    head = f'user "{user.name}" (groups={groups}) is attempting to grant RBAC permissions not currently held:'
    return "\n".join((head, *lines))
