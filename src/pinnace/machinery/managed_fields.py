"""Who manages which fields of an object: `metadata.managedFields`, kept up to date by every write.

`update` is for writes that send a whole new state: what changed now belongs to the writer. `apply` is for server-side
apply: the configuration is merged, what others own and it would change is a conflict, and what its manager no longer
applies goes. Both are pure; the object as other versions show it comes from a `Versions`.
https://kubernetes.io/docs/reference/using-api/server-side-apply/.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from pinnace.machinery import fieldset, typed_check
from pinnace.machinery.errors import ApiError, Cause, bad_request
from pinnace.machinery.fieldset import EMPTY, LEAF, Fields, FieldsError
from pinnace.machinery.meta import Obj
from pinnace.machinery.typed import Node, created, field_set
from pinnace.machinery.typed_compare import Comparison, compare
from pinnace.machinery.typed_merge import merge, remove, with_named_fields

APPLY = "Apply"
UPDATE = "Update"
UNKNOWN = "unknown"  # the manager of a write that names none
BEFORE_FIRST_APPLY = "before-first-apply"
ANCIENT_CHANGES = "ancient-changes"
MAX_UPDATERS = 10  # entries of updates; the oldest of more become one
MAX_MANAGER = 128  # bytes of a manager's name

_SERVERS = (
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
)
_STRIPPED: Fields = {
    "f:apiVersion": LEAF,
    "f:kind": LEAF,
    "f:metadata": {fieldset.SELF: LEAF, **{"f:" + name: LEAF for name in _SERVERS}},
}


class Identity(NamedTuple):
    """What makes two entries one. An applier stays itself whatever version it applies."""

    manager: str
    operation: str
    api_version: str  # empty for an applier
    subresource: str

    @property
    def shown(self) -> str:
        """As conflicts name it: `"kubectl" with subresource "scale" using apps/v1`."""
        text = json.dumps(self.manager, ensure_ascii=False)
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == UPDATE else text


class Entry(NamedTuple):
    """What one manager owns."""

    api_version: str  # of the paths
    fields: Fields
    time: str = ""


Managed = dict[Identity, Entry]


class Versions(Protocol):
    """The kind in each of its versions, by `apiVersion`."""

    def node(self, api_version: str) -> Node | None:
        """How its fields are owned; None for a version that is not served (any more)."""

    def convert(self, obj: Obj, api_version: str) -> Obj:
        """The object, of the version of the request, in another one."""

    def revert(self, obj: Obj, api_version: str) -> Obj:
        """Undo `convert`: from `api_version` to the version of the request."""


class Author(NamedTuple):
    """Who writes, and how."""

    manager: str
    api_version: str  # of what is written
    subresource: str = ""
    ignored: Fields = EMPTY  # what this path cannot change
    only: Fields | None = None  # all that this path can change, where that is less

    def identity(self, operation: str) -> Identity:
        version = "" if operation == APPLY else self.api_version
        return Identity(self.manager or UNKNOWN, operation, version, self.subresource)

    def reach(self, fields: Fields) -> Fields:
        """The part of `fields` that can be theirs."""
        if self.only is not None:
            fields = fieldset.within(fields, self.only)
        return fieldset.recursive_difference(fields, self.ignored)


class ApplyConflict(ApiError):
    """What others own would change: `(identity, path)` of every such field."""

    def __init__(self, found: list[tuple[Identity, fieldset.Path]]) -> None:
        self.found = found
        causes = [
            Cause("FieldManagerConflict", f"conflict with {who.shown}", fieldset.path_text(path)).to_json()
            for who, path in found
        ]
        super().__init__(409, "Conflict", _conflict_text(found), details={"causes": causes})


def _conflict_text(found: list[tuple[Identity, fieldset.Path]]) -> str:
    if len(found) == 1:
        who, path = found[0]
        return f"Apply failed with 1 conflict: conflict with {who.shown}: {fieldset.path_text(path)}"
    lines: list[str] = []
    for who in dict.fromkeys(who for who, _ in found):
        lines.append(f"conflicts with {who.shown}:")
        lines += [f"- {fieldset.path_text(path)}" for other, path in found if other == who]
    return f"Apply failed with {len(found)} conflicts: " + "\n".join(lines)


# Entries.


def decode(entries: Any) -> Managed:
    """The managers that `metadata.managedFields` tells. Raises FieldsError for what no server has written."""
    managed: Managed = {}
    for index, entry in enumerate(entries or ()):
        operation, api_version = entry.get("operation"), entry.get("apiVersion")
        if operation not in (APPLY, UPDATE):
            raise FieldsError("operation must be `Apply` or `Update`")
        if not api_version:
            raise FieldsError("apiVersion must not be empty")
        if entry.get("fieldsType") != "FieldsV1":
            raise FieldsError(f"missing or invalid fieldsType in managed fields entry {index}")
        version = "" if operation == APPLY else api_version
        who = Identity(entry.get("manager") or "", operation, version, entry.get("subresource") or "")
        managed[who] = Entry(api_version, entry.get("fieldsV1") or EMPTY, entry.get("time") or "")
    return managed


def encode(managed: Managed) -> list[Obj]:
    """`metadata.managedFields`: appliers first, older entries before newer ones."""
    entries = [_encode(who, entry) for who, entry in managed.items()]
    if len(entries) > 1:
        entries.sort(key=_rank)
    return entries


def _encode(who: Identity, entry: Entry) -> Obj:
    encoded: Obj = {"manager": who.manager, "operation": who.operation, "apiVersion": entry.api_version}
    if entry.time:
        encoded["time"] = entry.time
    encoded["fieldsType"] = "FieldsV1"
    encoded["fieldsV1"] = entry.fields
    if who.subresource:
        encoded["subresource"] = who.subresource
    return encoded


def _rank(entry: Obj) -> tuple[str, ...]:
    names = ("operation", "time", "manager", "apiVersion", "subresource")
    return tuple(entry.get(name, "") for name in names)


def same_but_times(left: list[Obj], right: list[Obj]) -> bool:
    """Whether two lists of entries say the same of the fields."""
    return len(left) == len(right) and all(
        one.get("fieldsV1") == other.get("fieldsV1")
        and all(one.get(name) == other.get(name) for name in ("manager", "operation", "apiVersion", "subresource"))
        for one, other in zip(left, right, strict=True)
    )


def starting_point(live: Any, sent: Any, subresource: str) -> Managed:
    """The managers before a write: those that the client sent, if it may and did, or else those there were.

    A list with a single empty entry forgets them all.
    """
    if sent and not subresource and sent is not live and sent != live:
        if sent == [{}]:
            return {}
        try:
            found = {who: entry._replace(fields=fieldset.parse(entry.fields)) for who, entry in decode(sent).items()}
        except FieldsError:
            found = {}
        if found:
            return found
    try:
        return decode(live)
    except FieldsError:
        return {}


# Writing a whole state.


def create(author: Author, node: Node, obj: Obj, sent: Any, now: str) -> list[Obj]:
    """`managedFields` of a new object, from those that its author sent."""
    fields = author.reach(fieldset.difference(created(node, present=True)(obj), _STRIPPED))
    who = author.identity(UPDATE)
    entry = Entry(author.api_version, fields, now)
    managed = starting_point(None, sent, author.subresource) if sent else {}
    if not managed:
        return [_encode(who, entry)] if fields else []
    managed = _lose(managed, dict.fromkeys(managed, fields))
    return encode(_gain(managed, who, entry) if fields else managed)


def update(author: Author, versions: Versions, old: Obj, new: Obj, now: str) -> list[Obj]:
    """`managedFields` of an object that a write brought from `old` to `new`; that of `old` if nothing changed."""
    live = old["metadata"].get("managedFields")
    sent = new["metadata"].get("managedFields")
    managed = starting_point(live, sent, author.subresource)
    if not managed:
        return []  # nobody has been tracked: that starts with the first apply
    node = versions.node(author.api_version)
    if node is None:
        return encode(managed)
    found = _compare(author, node, old, new)
    if found.is_same:
        return live if sent == live or not sent else encode(managed)
    mine = fieldset.difference(found.changed, _STRIPPED)
    managed = _disown(author, versions, managed, old, new, found)
    if mine:
        managed = _gain(managed, author.identity(UPDATE), Entry(author.api_version, mine, now))
    return encode(_capped(managed))


def _compare(author: Author, node: Node, old: Obj, new: Obj) -> Comparison:
    found = compare(node, old, new)
    if author.only is not None:
        found = Comparison(*(fieldset.within(each, author.only) for each in found))
    return found.without(author.ignored)


def _untracked(obj: Obj) -> Obj:
    """The object without what no manager owns: neither is compared."""
    meta = {name: item for name, item in obj["metadata"].items() if name not in _SERVERS}
    return {**obj, "metadata": meta}


def _disown(
    author: Author,
    versions: Versions,
    managed: Managed,
    old: Obj,
    new: Obj,
    found: Comparison,
    spare: Identity | None = None,
) -> Managed:
    """Take from all but `spare` what changed or went."""
    lost: dict[Identity, Fields] = {}
    by_version: dict[str, Comparison | None] = {author.api_version: found}
    for who, entry in managed.items():
        if who == spare:
            continue
        version = entry.api_version
        if version not in by_version:
            by_version[version] = _compare_in(author, versions, version, old, new)
        comparison = by_version[version]
        lost[who] = entry.fields if comparison is None else fieldset.union(comparison.changed, comparison.removed)
    return _lose(managed, lost)


def _compare_in(author: Author, versions: Versions, version: str, old: Obj, new: Obj) -> Comparison | None:
    """The comparison in another version; None where that is not served."""
    node = versions.node(version)
    if node is None:
        return None
    return _compare(author, node, versions.convert(old, version), versions.convert(new, version))


def _lose(managed: Managed, lost: dict[Identity, Fields]) -> Managed:
    kept: Managed = {}
    for who, entry in managed.items():
        fields = fieldset.difference(entry.fields, lost[who]) if who in lost else entry.fields
        if fields:
            kept[who] = entry._replace(fields=fields)
    return kept


def _gain(managed: Managed, who: Identity, entry: Entry) -> Managed:
    before = managed.get(who)
    fields = fieldset.grown(before.fields if before is not None else EMPTY, entry.fields)
    return {**managed, who: entry._replace(fields=fields)}


def _capped(managed: Managed) -> Managed:
    """No more updaters than allowed: the oldest of each version become one entry."""
    updaters = [who for who in managed if who.operation == UPDATE]
    excess = len(updaters) - MAX_UPDATERS
    if excess <= 0:
        return managed
    updaters.sort(key=lambda who: (managed[who].time, who))
    kept = dict(managed)
    first: dict[str, Identity] = {}
    for who in updaters:
        if excess <= 0:
            break
        version = kept[who].api_version
        bucket = Identity(ANCIENT_CHANGES, UPDATE, version, "")
        if version not in first:
            first[version] = who
            continue
        if bucket not in kept:
            kept[bucket] = kept.pop(first[version])
        newest = kept.pop(who)
        kept = _gain(kept, bucket, newest)
        excess -= 1
    return kept


# Applying.


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply makes: the object without `managedFields`, and those."""

    obj: Obj
    entries: list[Obj]


def apply(author: Author, versions: Versions, live: Obj | None, config: Obj, force: bool, now: str) -> Applied:
    """Merge `config` into `live`, both of the author's version; `live` is None for an object that is not there yet.

    Raises ApplyConflict unless `force`, and 400 for a configuration that its kind cannot have.
    """
    node = versions.node(author.api_version)
    assert node is not None
    _check(node, author, config)
    who = author.identity(APPLY)
    managed = _managed_before(author, node, live)
    before = {"metadata": {}} if live is None else {**live, "metadata": _without_tracking(live["metadata"])}
    fields = author.reach(field_set(node, config))
    merged = merge(node, before, config)
    merged["metadata"] = merged.get("metadata") or {}  # null says nothing
    last = managed.get(who)
    managed = {**managed, who: Entry(author.api_version, fields, last.time if last else "")}
    if last is not None:
        merged = _pruned(author, versions, merged, managed, last, fields)
    found = _compare(author, node, _untracked(before), _untracked(merged))
    if live is not None and not found.is_same:
        conflicts = _conflicts(author, versions, managed, before, merged, found, who)
        if conflicts and not force:
            raise ApplyConflict(conflicts)
        managed = _disown(author, versions, managed, before, merged, found, who)
    return Applied(merged, encode(_settled(managed, who, last, not found.is_same, now)))


def _without_tracking(meta: Obj) -> Obj:
    return {name: item for name, item in meta.items() if name != "managedFields"}


def _check(node: Node, author: Author, config: Obj) -> None:
    meta = config.get("metadata")
    if isinstance(meta, dict) and meta.get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")
    found = typed_check.problems(node, config)
    if found:
        raise untyped(config, author.api_version, found)


def untyped(config: Obj, api_version: str, found: list[str]) -> ApiError:
    """The error for a configuration that its kind cannot have, for these reasons."""
    meta = config.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    group, _, version = api_version.rpartition("/")
    kind = f"{group}/{version}, Kind={config.get('kind') or ''}"
    named = f"{meta.get('namespace') or ''}/{meta.get('name') or ''}; {kind}"
    return bad_request(f"failed to create typed patch object ({named}): {typed_check.worded(found)}")


def _managed_before(author: Author, node: Node, live: Obj | None) -> Managed:
    """The managers there are; of an object that was never tracked, everything there is has one."""
    if live is None:
        return {}
    managed = starting_point(live["metadata"].get("managedFields"), None, "")
    if managed:
        return managed
    fields = fieldset.difference(created(node, present=True)(_untracked(live)), _STRIPPED)
    fields = fieldset.recursive_difference(fields, author.ignored)
    if not fields:
        return {}
    return {
        Identity(BEFORE_FIRST_APPLY, UPDATE, author.api_version, author.subresource): Entry(author.api_version, fields)
    }


def _conflicts(
    author: Author, versions: Versions, managed: Managed, old: Obj, new: Obj, found: Comparison, mine: Identity
) -> list[tuple[Identity, fieldset.Path]]:
    """Every field of another manager that has another value now, by manager."""
    by_version: dict[str, Comparison | None] = {author.api_version: found}
    conflicts: list[tuple[Identity, fieldset.Path]] = []
    for who in sorted(managed):
        entry = managed[who]
        if who == mine:
            continue
        if entry.api_version not in by_version:
            by_version[entry.api_version] = _compare_in(author, versions, entry.api_version, old, new)
        comparison = by_version[entry.api_version]
        if comparison is not None:
            common = fieldset.intersection(comparison.changed, entry.fields)
            conflicts += [(who, path) for path in fieldset.paths(common)]
    return conflicts


def _settled(managed: Managed, who: Identity, last: Entry | None, changed: bool, now: str) -> Managed:
    """The applier's entry as it is stored: with a new time if the object or the entry changed, or not at all."""
    entry = managed.get(who)
    if entry is None:
        return managed
    fields = fieldset.ordered(fieldset.difference(entry.fields, _STRIPPED))
    if not fields:
        return {other: each for other, each in managed.items() if other != who}
    same = last is not None and last.fields == fields and last.api_version == entry.api_version and not changed
    time = last.time if last is not None and same else now
    return {**managed, who: entry._replace(fields=fields, time=time)}


def _pruned(author: Author, versions: Versions, merged: Obj, managed: Managed, last: Entry, fields: Fields) -> Obj:
    """`merged` without what its applier owned before, does not apply now, and nobody else owns."""
    dropped = last.fields
    if last.api_version == author.api_version:
        dropped = fieldset.difference(last.fields, fields)
        if not dropped:
            return merged
    node = versions.node(last.api_version)
    if node is None:
        return merged
    here = last.api_version == author.api_version
    whole = merged if here else versions.convert(merged, last.api_version)
    before = with_named_fields(node, last.fields)
    pruned = remove(node, whole, before)
    pruned = _add_back(versions, author.api_version, last.api_version, whole, pruned, managed.values())
    kept = with_named_fields(node, field_set(node, pruned))
    everything = with_named_fields(node, field_set(node, whole))
    gone = fieldset.intersection(fieldset.difference(everything, kept), before)
    result: Obj = remove(node, whole, gone)
    return result if here else versions.revert(result, last.api_version)


def _add_back(versions: Versions, home: str, version: str, whole: Obj, pruned: Obj, entries: Iterable[Entry]) -> Obj:
    """`pruned` with everything of `whole` again that some manager owns, whatever the version it says so in."""
    owned: dict[str, Fields] = {version: EMPTY}  # the version of the objects first
    for entry in entries:
        owned[entry.api_version] = fieldset.union(owned.get(entry.api_version, EMPTY), entry.fields)
    for each, fields in owned.items():
        node = versions.node(each)
        if node is None:
            continue
        full, cut = (_move(versions, home, obj, version, each) for obj in (whole, pruned))
        there = with_named_fields(node, field_set(node, full))
        kept = fieldset.union(with_named_fields(node, field_set(node, cut)), with_named_fields(node, fields))
        restored = remove(node, full, fieldset.difference(there, kept))
        pruned = _move(versions, home, restored, each, version)
    return pruned


def _move(versions: Versions, home: str, obj: Obj, source: str, target: str) -> Obj:
    """An object of one version in another, by way of the request's."""
    if source == target:
        return obj
    if source != home:
        obj = versions.revert(obj, source)
    return obj if target == home else versions.convert(obj, target)
