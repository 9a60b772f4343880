"""Every kind that is served: those of one minor of Kubernetes, their names and their rules joined, and custom ones.

`builtin` says which kinds there are and what they are called; the kinds' own files say how they behave. A kind without
rules of its own still has its metadata validated. Custom kinds come and go while the server runs; who keeps something
that is made of all kinds compares `generation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from pinnace.apis import builtin, prerelease
from pinnace.apis.builtin import Names
from pinnace.apis.disabled_fields import dropping
from pinnace.apis.kind import Kind, NameRule, Rules, Validate, ValidateUpdate
from pinnace.apis.metadata import name_is_subdomain, validate_metadata, validate_metadata_update
from pinnace.apis.prerelease import in_shape
from pinnace.apis.privileged import refusing_privileged
from pinnace.apis.rules import RULES, VIEWS
from pinnace.apis.runtime_config import RuntimeConfig
from pinnace.apis.warnings import deprecation
from pinnace.machinery.errors import Cause
from pinnace.machinery.features import FeatureGates
from pinnace.machinery.meta import GVK, GVR, Obj, version_order

_NO_RULES = Rules()
_AS_KUBERNETES = RuntimeConfig()


class Registry:
    """What `minor` (30 for Kubernetes 1.30) serves; raises ValueError for a minor that is not known."""

    def __init__(
        self,
        minor: int = builtin.NEWEST,
        runtime_config: RuntimeConfig = _AS_KUBERNETES,
        feature_gates: Mapping[str, bool] | None = None,
        *,
        allow_privileged: bool = True,
    ) -> None:
        if not builtin.OLDEST <= minor <= builtin.NEWEST:
            known = f"1.{builtin.OLDEST} to 1.{builtin.NEWEST}"
            raise ValueError(f"Kubernetes 1.{minor} is not known; these are: {known}")
        self.minor = minor
        self.features = FeatureGates(minor, feature_gates or {})
        served = _served(self.features, runtime_config)
        self._builtin_groups = _groups_in_order({(row.group, row.version) for row in served})
        rank = {gv: place for place, gv in enumerate((g, v) for g, versions in self._builtin_groups for v in versions)}
        served.sort(key=lambda row: (rank[row.group, row.version], row.plural))
        self.builtin: list[Kind] = [_join(row, self.features, _stored_version(row, served)) for row in served]
        if not allow_privileged:
            for kind in self.builtin:
                kind.validate = refusing_privileged(kind.group, kind.kind, kind.validate)
        self.custom: dict[str, tuple[Kind, ...]] = {}  # by the name of the definition
        self.generation = 0  # counts the changes of `custom`
        self._followers: list[Callable[[], None]] = []
        self._arrange()

    def serve(self, definition: str, kinds: Sequence[Kind]) -> None:
        """Serve these kinds for a CustomResourceDefinition in place of those before; none ends it."""
        if kinds:
            self.custom[definition] = tuple(kinds)
        elif self.custom.pop(definition, None) is None:
            return
        self._arrange()

    def follow(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call back when other kinds are served; returns the way out."""
        self._followers.append(changed)
        return lambda: self._followers.remove(changed)

    def _arrange(self) -> None:
        self.generation += 1
        custom = [kind for name in sorted(self.custom) for kind in self.custom[name]]
        self.kinds: list[Kind] = [*self.builtin, *custom]
        self._groups = _with_custom(self._builtin_groups, custom)
        # Built-in kinds come last: no definition takes their place.
        self._by_gvr = {kind.gvr: kind for kind in (*custom, *self.builtin)}
        self._by_gvk = {kind.gvk: kind for kind in (*custom, *self.builtin)}
        for changed in self._followers:
            changed()

    def by_gvr(self, gvr: GVR) -> Kind | None:
        return self._by_gvr.get(gvr)

    def by_gvk(self, gvk: GVK) -> Kind | None:
        """The kind with a collection of its own; `Eviction`, `Scale` and `TokenRequest` have none."""
        return self._by_gvk.get(gvk)

    def groups(self) -> list[tuple[str, tuple[str, ...]]]:
        """`(group, versions)` in the order discovery shows them, the preferred version first."""
        return self._groups

    def in_version(self, group: str, version: str) -> list[Kind]:
        """The kinds of one group and version, by plural."""
        return [kind for kind in self.kinds if kind.group == group and kind.version == version]


def _served(features: FeatureGates, config: RuntimeConfig) -> list[Names]:
    """The rows of the versions that are served."""
    minor = features.minor
    tables = ((builtin.KINDS, True), (prerelease.KINDS, False))
    return [
        row
        for table, default in tables
        for row in table
        if row.since <= minor <= row.until
        and config.serves(row.group, row.version, row.plural, default=default)
        and _is_on(prerelease.GATES.get((row.group, row.kind)), features)
    ]


def _is_on(gate: str | None, features: FeatureGates) -> bool:
    return gate is None or features.enabled(gate)


def _stored_version(row: Names, served: list[Names]) -> str:
    """The most mature of the versions that a kind is served in."""
    return min(
        (other.version for other in served if (other.group, other.kind) == (row.group, row.kind)), key=version_order
    )


def _groups_in_order(served: set[tuple[str, str]]) -> list[tuple[str, tuple[str, ...]]]:
    versions: dict[str, list[str]] = {}
    for group, version in served:
        versions.setdefault(group, []).append(version)
    return [(group, tuple(sorted(versions[group], key=version_order))) for group in builtin.GROUPS if group in versions]


def _with_custom(groups: list[tuple[str, tuple[str, ...]]], custom: list[Kind]) -> list[tuple[str, tuple[str, ...]]]:
    """Groups of custom kinds follow the built-in ones by name; a group's versions are in the order of preference."""
    added: dict[str, set[str]] = {}
    for kind in custom:
        added.setdefault(kind.group, set()).add(kind.version)
    found = []
    for group, versions in groups:
        more = added.pop(group, set()).difference(versions)
        found.append((group, versions + tuple(sorted(more, key=version_order))))
    return found + [(group, tuple(sorted(added[group], key=version_order))) for group in sorted(added)]


def _join(row: Names, features: FeatureGates, stored_version: str) -> Kind:
    """One kind, its validation made whole with that of its metadata."""
    minor = features.minor
    rules = RULES.get((row.group, row.kind), _NO_RULES)
    for gate, validate in rules.validate_with.items():
        if features.enabled(gate):
            rules = replace(rules, validate=validate)
    rules = in_shape(rules, GVK(row.group, row.version, row.kind))
    kind = Kind(
        group=row.group,
        version=row.version,
        kind=row.kind,
        plural=row.plural,
        short_names=row.short,
        categories=row.categories,
        namespaced=row.namespaced,
        verbs=row.verbs,
        has_status=row.status,
        scale=row.scale,
        has_generation=row.generation,
        columns=rules.columns,
        row=rules.row,
        default=rules.default,
        prepare=dropping(row.group, row.kind, features, rules.prepare),
        begin_deletion=rules.begin_deletion,
        selectable_fields=rules.selectable_fields,
        status_leaves=rules.status_leaves,
        stored_fields=rules.stored_fields,
        subresources=tuple(
            path
            for path in row.subresources
            if _is_on(builtin.SUBRESOURCE_GATES.get((row.plural, path.name)), features)
        ),
    )
    if kind.is_stored:
        kind.validate = _whole_validate(rules, row.namespaced)
        kind.validate_update = _whole_validate_update(rules)
    else:
        kind.validate = rules.validate
    kind.deprecation = deprecation(row.group, row.version, row.kind, minor)
    if view := VIEWS.get((row.group, row.version, row.kind)):
        kind.stored_as, kind.to_storage, kind.from_storage = view
    elif stored_version != row.version:
        kind.stored_as = GVR(row.group, stored_version, row.plural)
        kind.to_storage, kind.from_storage = prerelease.conversion(kind.gvk, stored_version)
    return kind


def _whole_validate(rules: Rules, namespaced: bool) -> Validate:
    rule: NameRule = rules.name or name_is_subdomain
    own = rules.validate

    def validate(obj: Obj) -> list[Cause]:
        errors = validate_metadata(obj["metadata"], namespaced, rule)
        if own is not None:
            errors += own(obj)
        return errors

    return validate


def _whole_validate_update(rules: Rules) -> ValidateUpdate:
    own: Callable[[Obj], list[Cause]] | None = rules.validate_when_updated or rules.validate
    change = rules.validate_update

    def validate_update(new: Obj, old: Obj) -> list[Cause]:
        errors = validate_metadata_update(new["metadata"], old["metadata"])
        if own is not None and not _same_content(new, old):
            errors += own(new)
        if change is not None:
            errors += change(new, old)
        return errors

    return validate_update


def _same_content(new: Obj, old: Obj) -> bool:
    """Whether only metadata and status differ: nothing new to judge then, and old objects may be of older rules."""
    return all(new.get(key) == old.get(key) for key in new.keys() | old.keys() if key not in ("metadata", "status"))


@cache
def registry(minor: int = builtin.NEWEST) -> Registry:
    """The registry of one minor, made once."""
    return Registry(minor)
