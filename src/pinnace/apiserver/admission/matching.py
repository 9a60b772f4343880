"""Which requests a webhook, a policy or a binding is about: rules, selectors, and equivalent versions.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#matching-requests-rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pinnace.apis.kind import Kind
from pinnace.apis.registry import Registry
from pinnace.apis.resources import NAMESPACES
from pinnace.apiserver.admission.chain import Attributes
from pinnace.apiserver.cache import CachedObject
from pinnace.machinery.meta import GVR, Obj, labels_of
from pinnace.machinery.selectors import LabelSelector

T = TypeVar("T")


class PerObject(Generic[T]):
    """What is made of each object of a cache, made again when the object has changed."""

    def __init__(self, make: Callable[[Obj], T]) -> None:
        self._make = make
        self._made: dict[str, tuple[int, T]] = {}

    def of(self, found: CachedObject) -> T:
        known = self._made.get(found.key)
        if known is not None and known[0] == found.revision:
            return known[1]
        if len(self._made) > 2 * len(found.cache.objects) + 10:  # of objects that are gone
            self._made.clear()
        made = self._make(found.obj())
        self._made[found.key] = (found.revision, made)
        return made


class Match:
    """Criteria, compiled: those of a webhook (`rules`), a policy or a binding (`resourceRules`)."""

    def __init__(self, criteria: Obj, rules: Sequence[Obj] | None = None) -> None:
        self._rules = criteria.get("resourceRules") or () if rules is None else rules
        self._excluded = criteria.get("excludeResourceRules") or ()
        self._exact = criteria.get("matchPolicy") == "Exact"
        self._anything = rules is None and not self._rules  # a binding need not name resources
        of_object, of_namespace = criteria.get("objectSelector"), criteria.get("namespaceSelector")
        self._of_object = LabelSelector.from_json(of_object) if of_object else None
        self._of_namespace = LabelSelector.from_json(of_namespace) if of_namespace else None

    def kind(self, attributes: Attributes) -> Kind | None:
        """The kind in which the object is to be seen: another version where rules name only that. None: no match."""
        if self._excluded and self._named(self._excluded, attributes) is not None:
            return None
        found = attributes.call.kind if self._anything else self._named(self._rules, attributes)
        return found if found is not None and self._selects(attributes) else None

    def _named(self, rules: Sequence[Obj], attributes: Attributes) -> Kind | None:
        kind, operation, subresource = attributes.call.kind, attributes.operation, attributes.subresource
        name = attributes.name
        if any(rule_matches(rule, operation, kind, subresource, name) for rule in rules):
            return kind
        if self._exact:
            return None
        for other in equivalents(attributes.call.api.registry, kind):
            if any(rule_matches(rule, operation, other, subresource, name) for rule in rules):
                return other
        return None

    def _selects(self, attributes: Attributes) -> bool:
        if self._of_object is not None:
            selector = self._of_object
            both = [obj for obj in (attributes.obj, attributes.old) if obj is not None and "metadata" in obj]
            if not any(selector.matches(labels_of(obj)) for obj in both):
                return False
        if self._of_namespace is not None:
            labels = _namespace_labels(attributes)
            return labels is None or self._of_namespace.matches(labels)
        return True


_equivalents: dict[int, tuple[Registry, int, dict[GVR, list[Kind]]]] = {}  # of each server in this process


def equivalents(registry: Registry, kind: Kind) -> list[Kind]:
    """The other kinds that show the same objects. Remembered until a kind comes or goes."""
    known = _equivalents.get(id(registry))
    if known is None or known[0] is not registry or known[1] != registry.generation:
        if len(_equivalents) > 8:
            _equivalents.clear()
        known = _equivalents[id(registry)] = (registry, registry.generation, {})
    found = known[2].get(kind.gvr)
    if found is None:
        others = [other for other in registry.kinds if other is not kind and other.is_stored and _is_same(kind, other)]
        found = known[2][kind.gvr] = others
    return found


def _is_same(kind: Kind, other: Kind) -> bool:
    """Whether two kinds are versions of one resource, which this server can convert."""
    if kind.custom:
        return kind.settle is None and other.custom and (kind.group, kind.plural) == (other.group, other.plural)
    return kind.storage == other.storage


def rule_matches(rule: Obj, operation: str, kind: Kind, subresource: str, name: str = "") -> bool:
    """Whether one rule names the operation, group, version, scope, resource and, where it lists any, the name."""
    scope = rule.get("scope") or "*"
    return (
        _names(rule, "operations", operation)
        and _names(rule, "apiGroups", kind.group)
        and _names(rule, "apiVersions", kind.version)
        and (scope == "*" or (scope == "Namespaced") == kind.namespaced)
        and any(_is_resource(each, kind.plural, subresource) for each in rule.get("resources") or ())
        and (not rule.get("resourceNames") or name in rule["resourceNames"])
    )


def _names(rule: Obj, key: str, value: str) -> bool:
    words = rule.get(key) or ()
    return "*" in words or value in words


def _is_resource(pattern: str, plural: str, subresource: str) -> bool:
    resource, _, part = pattern.partition("/")
    return resource in ("*", plural) and part in ("*", subresource)


def _namespace_labels(attributes: Attributes) -> dict[str, str] | None:
    """The labels of the namespace the object is in, or is; None for what is in none, which every selector lets by."""
    if attributes.resource == ("", "namespaces"):
        subject = attributes.obj or attributes.old
        return labels_of(subject) if subject is not None else {}
    found = namespace_of(attributes)
    if found is None:
        return {} if attributes.namespace else None
    return labels_of(found)


def namespace_of(attributes: Attributes) -> Obj | None:
    """The Namespace that the object is in; None for a Namespace itself and for what is in none."""
    if not attributes.namespace or attributes.resource == ("", "namespaces"):
        return None
    found = attributes.call.api.storage.cache(NAMESPACES).get(attributes.namespace)
    return found.obj() if found is not None else None
