"""Strategic merge patch: a merge patch that knows which lists are keyed, from the kind's schema.

Lists whose `patchStrategy` is `merge` are merged item by item on their merge key; `$patch`, `$retainKeys`,
`$setElementOrder/<list>` and `$deleteFromPrimitiveList/<list>` say what plain values cannot. Specified at
https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md.
"""

from __future__ import annotations

from typing import Any

import orjson

from pinnace.machinery.errors import ApiError, bad_request
from pinnace.machinery.json_patch import same
from pinnace.machinery.meta import Obj
from pinnace.machinery.schema import Schema

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"

_BAD_PRIMITIVE_LIST = "invalid patch format of primitive list"
_BAD_RETAIN_KEYS = "invalid patch format of retainKeys"
_BAD_ORDER = "invalid patch format of setElementOrder list"


def apply(original: Obj, patch: Obj, schema: Schema) -> Obj:
    """`original` changed by `patch`; neither is modified, and the result may share parts with both.

    Raises ApiError: 400 for directives of a wrong form, 422 for an item without its merge key.
    """
    return _merge_map(original, patch, schema)


def _merge_map(original: Obj, patch: Obj, schema: Schema | None) -> Obj:
    directive = patch.get(_PATCH)
    if directive == "replace":
        replaced: Obj = _plain({key: value for key, value in patch.items() if key != _PATCH})
        return replaced
    if directive == "delete":
        return {}
    if _PATCH in patch and directive != "merge":
        raise _unknown_directive(directive, patch)
    merged = _retain_keys(original, patch)
    ordered = _merge_ordered_lists(merged, patch, schema)
    for key, value in patch.items():
        if key in (_PATCH, _RETAIN) or key.startswith(_ORDER) or key in ordered:
            continue
        if key.startswith(_DELETE):
            field = key.removeprefix(_DELETE)
            if field in merged:
                merged[field] = _without(merged[field], value)
        elif value is None:
            merged.pop(key, None)
        else:
            _merge_field(merged, key, value, schema.child(key) if schema else None)
    return merged


def _merge_field(merged: Obj, key: str, value: Any, schema: Schema | None) -> None:
    """Set one field to what the patch makes of it, in place."""
    before = merged.get(key)
    strategy = schema.patch_strategy if schema else ()
    if isinstance(before, dict) and isinstance(value, dict):
        merged[key] = _plain(value) if "replace" in strategy else _merge_map(before, value, schema)
    elif isinstance(before, list) and isinstance(value, list) and "merge" in strategy:
        merged[key] = _merge_list(before, value, schema)
    elif isinstance(value, dict) and value.get(_PATCH) == "delete":
        merged.pop(key, None)
    else:
        merged[key] = _plain(value)


def _plain(value: Any) -> Any:
    """A value of the patch as it enters the document: nulls and directives have done their work."""
    if isinstance(value, dict):
        return {
            key: _plain(item)
            for key, item in value.items()
            if item is not None and not _is_directive(key) and not _is_deletion(item)
        }
    if isinstance(value, list):
        return [_plain(item) for item in value if not _has_directive(item)]
    return value


def _is_directive(key: str) -> bool:
    return key in (_PATCH, _RETAIN) or key.startswith((_ORDER, _DELETE))


def _is_deletion(value: Any) -> bool:
    return isinstance(value, dict) and value.get(_PATCH) == "delete"


def _has_directive(value: Any) -> bool:
    """An item that is nothing but a directive to its list; one to be merged stays."""
    return isinstance(value, dict) and value.get(_PATCH) in ("delete", "replace")


def _retain_keys(original: Obj, patch: Obj) -> Obj:
    """A copy of `original`, without what `$retainKeys` leaves out."""
    if _RETAIN not in patch:
        return dict(original)
    retained = patch[_RETAIN]
    if not isinstance(retained, list):
        raise bad_request(_BAD_RETAIN_KEYS)
    for key, value in patch.items():
        if value is not None and not _is_directive(key) and key not in retained:
            raise bad_request(_BAD_RETAIN_KEYS)
    return {key: value for key, value in original.items() if key in retained}


def _without(before: Any, deleted: Any) -> Any:
    if not isinstance(before, list) or not isinstance(deleted, list):
        raise bad_request(_BAD_PRIMITIVE_LIST)
    gone = set(map(_token, deleted))
    return [item for item in before if _token(item) not in gone]


# Lists.


def _merge_list(before: list[Any], patch: list[Any], schema: Schema | None) -> list[Any]:
    """Items of both, those of the patch in the patch's order, the others between them where they were."""
    if not before and not patch:
        return before
    if not any(isinstance(item, dict) for item in (*before, *patch)):
        merged = _unique([*before, *patch])
        return _in_order(merged, patch, before, "")
    key = schema.patch_merge_key if schema else ""
    if not key:
        name = schema.items.short_name if schema and schema.items else ""
        raise bad_request(f"cannot merge lists without merge key for {name}")
    item_schema = schema.items if schema else None
    kept, additions = _obey_item_directives(before, patch, key)
    merged = list(kept)
    ranks = _ranks(merged, key)
    for item in additions:
        token = _token(_key_of(item, key))
        if token in ranks:
            merged[ranks[token]] = _merge_map(merged[ranks[token]], item, item_schema)
        else:
            ranks[token] = len(merged)
            merged.append(_merge_map({}, item, item_schema))
    return _in_order(merged, additions, kept, key)


def _obey_item_directives(before: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """What `$patch` in items leaves of the old list, and the patch's items without such directives."""
    additions: list[Any] = []
    replace = False
    for item in patch:
        directive = item.get(_PATCH) if isinstance(item, dict) else None
        if directive is None:
            additions.append(item)
        elif directive == "delete":
            value = _key_of(item, key)
            before = [old for old in before if not _key_is(old, key, value)]
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise bad_request("merging lists cannot yet be specified in the patch")
        else:
            raise _unknown_directive(directive, item)
    # A list that replaces is taken as it is, even where items have one key: addresses of a node have few types.
    return ([_plain(item) for item in additions], []) if replace else (before, additions)


def _merge_ordered_lists(merged: Obj, patch: Obj, schema: Schema | None) -> set[str]:
    """Merge the lists that have a `$setElementOrder`, in place; the names of those that need nothing more."""
    done = set()
    for directive, order in patch.items():
        if not directive.startswith(_ORDER):
            continue
        field = directive.removeprefix(_ORDER)
        child = schema.child(field) if schema else None
        before, change, removed = merged.get(field), patch.get(field), patch.get(_DELETE + field)
        if not isinstance(order, list) or not isinstance(change, list | None):
            raise bad_request(_BAD_ORDER)
        key = child.patch_merge_key if child else ""
        _check_order(change or [], order, key)
        if field in patch and change is None:
            continue  # null removes the list, whatever its order
        done.add(field)
        if before is None and change is None:
            continue
        old = before if isinstance(before, list) else []
        if removed is not None:
            # Applied again, without effect, when the fields follow.
            old = _without(old, removed)
        items = _merge_list(old, change, child) if change else old
        merged[field] = _in_order(items, order, old, key)
    return done


def _check_order(change: list[Any], order: list[Any], key: str) -> None:
    """The items of the patch must come in the order that the directive gives."""
    wanted = [_item_token(item, key) for item in order]
    position = 0
    for item in change:
        if _has_directive(item):
            continue
        token = _item_token(item, key)
        while position < len(wanted) and wanted[position] != token:
            position += 1
        if position == len(wanted):
            raise bad_request(_BAD_ORDER)


def _in_order(items: list[Any], order: list[Any], before: list[Any], key: str) -> list[Any]:
    """Items named in `order` in that order; the others keep their places relative to `before`."""
    wanted, old = _ranks(order, key), _ranks(before, key)
    ranked = [(wanted.get(token, -1), old.get(token, -1), item) for item in items for token in [_item_token(item, key)]]
    named = sorted((entry for entry in ranked if entry[0] >= 0), key=lambda entry: entry[0])
    others = sorted((entry for entry in ranked if entry[0] < 0), key=lambda entry: entry[1])
    result: list[Any] = []
    first = 0
    for entry in named:
        while first < len(others) and 0 <= others[first][1] < entry[1]:
            result.append(others[first][2])
            first += 1
        result.append(entry[2])
    return result + [entry[2] for entry in others[first:]]


def _ranks(items: list[Any], key: str) -> dict[Any, int]:
    """Where each item first stands."""
    ranks: dict[Any, int] = {}
    for index, item in enumerate(items):
        ranks.setdefault(_item_token(item, key), index)
    return ranks


def _item_token(item: Any, key: str) -> Any:
    """What tells an item from others: the value of its merge key, or itself."""
    if key:
        return _token(item[key]) if isinstance(item, dict) and key in item else ("keyless", id(item))
    return _token(item)


def _token(value: Any) -> Any:
    """A hashable stand-in for a JSON value; true is not 1."""
    if isinstance(value, dict | list):
        return ("compound", orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
    return (isinstance(value, bool), value)


def _key_is(item: Any, key: str, value: Any) -> bool:
    return isinstance(item, dict) and key in item and same(item[key], value)


def _key_of(item: Any, key: str) -> Any:
    if not isinstance(item, dict) or key not in item:
        raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request", details={})
    return item[key]


def _unique(items: list[Any]) -> list[Any]:
    return list({_token(item): item for item in reversed(items)}.values())[::-1]


def _unknown_directive(directive: Any, patch: Obj) -> ApiError:
    return bad_request(f"unknown patch type: {directive} in map: {patch}")
