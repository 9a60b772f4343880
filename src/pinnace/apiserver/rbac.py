"""Role-based access control: which rules a user has, and whether they allow a request.

`Policy` holds roles and bindings, indexed by subject; it is told of every change and knows no I/O. What a user may is
gathered once (`Grants`) and each decision kept, until any role or binding changes.
https://kubernetes.io/docs/reference/access-authn-authz/rbac/.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pinnace.apiserver.authn import User
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery.meta import Obj, labels_of
from pinnace.machinery.selectors import LabelSelector

GROUP = "rbac.authorization.k8s.io"
DECISIONS = 20_000  # kept for one user
USERS = 10_000  # whose grants are kept

_ANY = frozenset(("*",))


class Rule(NamedTuple):
    """One PolicyRule, ready to be matched."""

    verbs: frozenset[str]
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    urls: tuple[str, ...] = ()

    @classmethod
    def of(cls, rule: Obj) -> Rule:
        return cls(
            frozenset(rule.get("verbs") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("resources") or ()),
            frozenset(rule.get("resourceNames") or ()),
            tuple(rule.get("nonResourceURLs") or ()),
        )

    def allows(self, info: RequestInfo) -> bool:
        """Whether this rule alone allows what `info` asks. Namespaces are the binding's affair."""
        if info.verb not in self.verbs and "*" not in self.verbs:
            return False
        if not info.is_resource:
            return any(matches_url(pattern, info.path) for pattern in self.urls)
        return (
            (info.group in self.groups or "*" in self.groups)
            and self._has_resource(info.resource, info.subresource)
            and (not self.names or info.name in self.names)
        )

    def _has_resource(self, resource: str, subresource: str) -> bool:
        if "*" in self.resources:
            return True
        if not subresource:
            return resource in self.resources
        return f"{resource}/{subresource}" in self.resources or f"*/{subresource}" in self.resources


def matches_url(pattern: str, path: str) -> bool:
    """Whether a nonResourceURL covers a path: the same, `*`, or a prefix before a trailing `*`."""
    if pattern == path:
        return True
    return pattern.endswith("*") and path.startswith(pattern.rstrip("*"))


def covers(owned: Sequence[Rule], wanted: Obj) -> list[Obj]:
    """The parts of the PolicyRule `wanted` that no rule of `owned` covers: empty when all of it is held."""
    return [part for part in _parts(wanted) if not any(_covers(rule, part) for rule in owned)]


def _parts(rule: Obj) -> Iterator[Obj]:
    """The rule as rules of one verb, group, resource and name each."""
    names = rule.get("resourceNames") or ()
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            for verb in rule.get("verbs") or ():
                base: Obj = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
                if not names:
                    yield base
                for name in names:
                    yield {**base, "resourceNames": [name]}
    for url in rule.get("nonResourceURLs") or ():
        for verb in rule.get("verbs") or ():
            yield {"nonResourceURLs": [url], "verbs": [verb]}


def _covers(owner: Rule, part: Obj) -> bool:
    """`*` in `part` is covered by `*` alone, which is why its words are compared as they are written."""
    if part["verbs"][0] not in owner.verbs and "*" not in owner.verbs:
        return False
    if "nonResourceURLs" in part:
        return any(matches_url(pattern, part["nonResourceURLs"][0]) for pattern in owner.urls)
    resource = part["resources"][0]
    _, _, subresource = resource.partition("/")
    names = part.get("resourceNames") or ()
    return (
        (part["apiGroups"][0] in owner.groups or "*" in owner.groups)
        and (
            resource in owner.resources
            or "*" in owner.resources
            or bool(subresource and f"*/{subresource}" in owner.resources)
        )
        and (not owner.names or any(name in owner.names for name in names))
    )


def compact(parts: Iterable[Obj]) -> list[Obj]:
    """Rules of one verb each, those for the same resource joined."""
    joined: dict[tuple[str, ...], Obj] = {}
    rest: list[Obj] = []
    for part in parts:
        if "resources" not in part:
            rest.append(part)
            continue
        key = (part["apiGroups"][0], part["resources"][0], *part.get("resourceNames", ()))
        found = joined.setdefault(key, {**part, "verbs": []})
        if part["verbs"][0] not in found["verbs"]:
            found["verbs"] = [*found["verbs"], part["verbs"][0]]
    return [*joined.values(), *rest]


def rule_text(rule: Obj) -> str:
    """`{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`: how messages show a rule."""
    words = (
        ("APIGroups", "apiGroups"),
        ("Resources", "resources"),
        ("NonResourceURLs", "nonResourceURLs"),
        ("ResourceNames", "resourceNames"),
        ("Verbs", "verbs"),
    )
    return "{" + ", ".join(f"{label}:{quoted(rule[key])}" for label, key in words if rule.get(key)) + "}"


def quoted(words: Iterable[str]) -> str:
    """`["a" "b"]`."""
    return "[" + " ".join(f'"{word}"' for word in words) + "]"


class RoleKey(NamedTuple):
    """A Role, or a ClusterRole where `namespace` is empty."""

    namespace: str
    name: str


class Binding(NamedTuple):
    """One binding: in a namespace, or everywhere when `namespace` is empty."""

    namespace: str
    name: str
    role: RoleKey
    subjects: tuple[tuple[str, str], ...]  # ("User", name) or ("Group", name)


class Grants:
    """All that one user may, and the decisions made so far."""

    __slots__ = ("anywhere", "decisions", "in_namespace", "missing")

    def __init__(self) -> None:
        self.anywhere: list[Rule] = []
        self.in_namespace: dict[str, list[Rule]] = {}
        self.missing: dict[str, list[str]] = {}  # namespace ("" for all) -> what is bound and not there
        self.decisions: dict[RequestInfo, bool] = {}

    def allows(self, info: RequestInfo) -> bool:
        found = self.decisions.get(info)
        if found is None:
            if len(self.decisions) >= DECISIONS:
                self.decisions.clear()
            found = self.decisions[info] = any(rule.allows(info) for rule in self.rules(namespace_of(info)))
        return found

    def rules(self, namespace: str) -> list[Rule]:
        """The rules that count in a namespace; those of ClusterRoleBindings alone when it is empty."""
        if not namespace:
            return self.anywhere
        return [*self.anywhere, *self.in_namespace.get(namespace, ())]

    def why_not(self, namespace: str) -> str:
        """What to add to a refusal: bindings that lead nowhere."""
        lost = [*self.missing.get("", ()), *(self.missing.get(namespace, ()) if namespace else ())]
        if not lost:
            return ""
        return "RBAC: " + (lost[0] if len(lost) == 1 else f"[{', '.join(lost)}]")


def namespace_of(info: RequestInfo) -> str:
    """The namespace whose bindings count; a Namespace itself is in its own."""
    if info.resource == "namespaces" and not info.group:
        return info.namespace or info.name
    return info.namespace


class Policy:
    """Every role and binding there is."""

    def __init__(self) -> None:
        self._roles: dict[RoleKey, Obj] = {}
        self._bindings: dict[tuple[str, str], Binding] = {}  # by namespace and name
        self._by_subject: dict[tuple[str, str], dict[tuple[str, str], Binding]] = {}
        self._grants: dict[tuple[str, tuple[str, ...]], Grants] = {}

    def set_role(self, key: RoleKey, role: Obj | None) -> None:
        """A role is new, changed, or (None) gone."""
        if role is None:
            self._roles.pop(key, None)
        else:
            self._roles[key] = role
        self._grants.clear()

    def set_binding(self, namespace: str, name: str, binding: Obj | None) -> None:
        """A binding is new, changed, or (None) gone."""
        key = (namespace, name)
        old = self._bindings.pop(key, None)
        for subject in old.subjects if old is not None else ():
            self._by_subject.get(subject, {}).pop(key, None)
        if binding is not None:
            made = self._bindings[key] = _read_binding(namespace, name, binding)
            for subject in made.subjects:
                self._by_subject.setdefault(subject, {})[key] = made
        self._grants.clear()

    def grants(self, user: User) -> Grants:
        """What the user may."""
        key = (user.name, user.groups)
        found = self._grants.get(key)
        if found is None:
            if len(self._grants) >= USERS:
                self._grants.clear()
            found = self._grants[key] = self._gather(user)
        return found

    def reason(self, user: User, info: RequestInfo) -> str:
        """Which binding allows what `info` asks; empty where none does. Those for all namespaces come first."""
        namespace = namespace_of(info)
        for binding in sorted(dict.fromkeys(self._bindings_of(user))):
            if binding.namespace in ("", namespace) and any(
                Rule.of(rule).allows(info) for rule in self.role_rules(binding.role) or ()
            ):
                return f"RBAC: allowed by {_described(binding, user)}"
        return ""

    def rule_objects(self, user: User, namespace: str) -> list[Obj]:
        """The PolicyRules that the user has in a namespace, as they are written."""
        found: list[Obj] = []
        for binding in self._bindings_of(user):
            if binding.namespace in ("", namespace):
                found += self.role_rules(binding.role) or ()
        return found

    def role_rules(self, key: RoleKey) -> list[Obj] | None:
        """A role's PolicyRules, with those of the roles it aggregates; None when there is no such role."""
        role = self._roles.get(key)
        if role is None:
            return None
        return self._rules_of(role, frozenset((key,)))

    def _rules_of(self, role: Obj, seen: frozenset[RoleKey]) -> list[Obj]:
        """The rules of a role; of one that aggregates, those of every ClusterRole it selects, each rule once."""
        aggregation = role.get("aggregationRule")
        if not aggregation:
            return list(role.get("rules") or ())
        chosen = [LabelSelector.from_json(selector) for selector in aggregation.get("clusterRoleSelectors") or ()]
        rules: list[Obj] = []
        for key in sorted(self._roles):
            other = self._roles[key]
            if key.namespace or key in seen or not any(each.matches(labels_of(other)) for each in chosen):
                continue
            rules += [rule for rule in self._rules_of(other, seen | {key}) if rule not in rules]
        return rules

    def _bindings_of(self, user: User) -> Iterator[Binding]:
        yield from self._by_subject.get(("User", user.name), {}).values()
        for group in dict.fromkeys(user.groups):
            yield from self._by_subject.get(("Group", group), {}).values()

    def _gather(self, user: User) -> Grants:
        grants = Grants()
        for binding in self._bindings_of(user):
            rules = self.role_rules(binding.role)
            if rules is None:
                what = "role" if binding.role.namespace else "clusterrole"
                grants.missing.setdefault(binding.namespace, []).append(
                    f'{what}.{GROUP} "{binding.role.name}" not found'
                )
                continue
            target = grants.in_namespace.setdefault(binding.namespace, []) if binding.namespace else grants.anywhere
            target += map(Rule.of, rules)
        return grants


def _described(binding: Binding, user: User) -> str:
    """`RoleBinding "x/ns" of Role "y" to User "z"`."""
    name = f"{binding.name}/{binding.namespace}" if binding.namespace else binding.name
    kind, role = ("Role", "ClusterRole")[not binding.namespace], ("Role", "ClusterRole")[not binding.role.namespace]
    return f'{kind}Binding "{name}" of {role} "{binding.role.name}" to {_described_subject(binding, user)}'


def _described_subject(binding: Binding, user: User) -> str:
    for kind, name in binding.subjects:
        if kind == "Group" and name in user.groups:
            return f'Group "{name}"'
        if kind == "User" and name == user.name:
            account = name.removeprefix("system:serviceaccount:")
            if account != name:
                namespace, _, account = account.partition(":")
                return f'ServiceAccount "{account}/{namespace}"'
            return f'User "{name}"'
    return ""


def _read_binding(namespace: str, name: str, binding: Obj) -> Binding:
    reference = binding.get("roleRef") or {}
    role = RoleKey(namespace if reference.get("kind") == "Role" else "", reference.get("name", ""))
    subjects = []
    for subject in binding.get("subjects") or ():
        kind, who = subject.get("kind"), subject.get("name", "")
        if kind == "ServiceAccount":
            account_namespace = subject.get("namespace") or namespace
            if account_namespace:
                subjects.append(("User", f"system:serviceaccount:{account_namespace}:{who}"))
        elif kind in ("User", "Group"):
            subjects.append((kind, who))
    return Binding(namespace, name, role, tuple(dict.fromkeys(subjects)))
