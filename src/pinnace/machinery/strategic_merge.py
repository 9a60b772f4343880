"""Strategic merge patch: a merge patch that knows which lists are keyed, from the kind's schema.

Lists whose `patchStrategy` is `merge` are merged item by item on their merge key; `$patch`, `$retainKeys`,
`$setElementOrder/<list>` and `$deleteFromPrimitiveList/<list>` say what plain values cannot. Specified at
https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md.
"""

from __future__ import annotations

from typing import Any

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
        return _plain({key: value for key, value in patch.items() if key != _PATCH})
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
    return [item for item in before if not _contains(deleted, item)]


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
        raise ApiError(500, "InternalError", f"cannot merge lists without merge key for {name}")
    item_schema = schema.items if schema else None
    kept, additions = _obey_item_directives(before, patch, key)
    merged = list(kept)
    for item in additions:
        value = _key_of(item, key)
        found = next((index for index, old in enumerate(merged) if _key_is(old, key, value)), None)
        if found is None:
            merged.append(_merge_map({}, item, item_schema))
        else:
            merged[found] = _merge_map(merged[found], item, item_schema)
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
            raise ApiError(500, "InternalError", "merging lists cannot yet be specified in the patch")
        else:
            raise _unknown_directive(directive, item)
    return ([] if replace else before), additions


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
    position = 0
    for item in change:
        if _has_directive(item):
            continue
        while position < len(order) and not _same_item(order[position], item, key):
            position += 1
        if position == len(order):
            raise bad_request(_BAD_ORDER)


def _in_order(items: list[Any], order: list[Any], before: list[Any], key: str) -> list[Any]:
    """Items named in `order` in that order; the others keep their places relative to `before`."""
    named = sorted(
        (item for item in items if _position(order, item, key) >= 0), key=lambda item: _position(order, item, key)
    )
    others = [item for item in items if _position(order, item, key) < 0]
    others.sort(key=lambda item: _position(before, item, key))
    result: list[Any] = []
    while named and others:
        other, mine = _position(before, others[0], key), _position(before, named[0], key)
        other_first = 0 <= other < mine
        result.append((others if other_first else named).pop(0))
    return result + named + others


def _position(items: list[Any], wanted: Any, key: str) -> int:
    for index, item in enumerate(items):
        if _same_item(item, wanted, key):
            return index
    return -1


def _same_item(left: Any, right: Any, key: str) -> bool:
    if not key:
        return same(left, right)
    return isinstance(right, dict) and key in right and _key_is(left, key, right[key])


def _key_is(item: Any, key: str, value: Any) -> bool:
    return isinstance(item, dict) and key in item and same(item[key], value)


def _key_of(item: Any, key: str) -> Any:
    if not isinstance(item, dict) or key not in item:
        raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request", details={})
    return item[key]


def _contains(items: list[Any], wanted: Any) -> bool:
    return any(same(item, wanted) for item in items)


def _unique(items: list[Any]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if not _contains(found, item):
            found.append(item)
    return found


def _unknown_directive(directive: Any, patch: Obj) -> ApiError:
    return ApiError(500, "InternalError", f"unknown patch type: {directive} in map: {patch}")
