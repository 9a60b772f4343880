"""GET of one object and of a collection, from the watch cache.

A list is cut into pages by `limit` and goes on at the revision it started at, as long as the changes since then are
remembered. https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks.
"""

from __future__ import annotations

import base64
import sys
from dataclasses import replace
from itertools import islice

import orjson

from pinnace.apis.kind import Kind
from pinnace.apiserver.cache import CachedObject, Filter
from pinnace.apiserver.call import Call, Many, One
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError, Cause
from pinnace.machinery.meta import Obj
from pinnace.machinery.selectors import FieldSelector, SelectorError, parse_fields, parse_labels

INCONSISTENT = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


def get(call: Call) -> One:
    """GET of one object."""
    check_revision(call, parse_revision(call.params.get("resourceVersion", "")))
    return One(call.current(), kind=call.kind)


def filter_of(call: Call) -> Filter:
    """What the path and the selectors ask for. Raises 400 for a selector that cannot be read or is not served."""
    info = call.info
    which = Filter(info.namespace, info.name)
    label_text = call.params.get("labelSelector", "")
    field_text = call.params.get("fieldSelector", "")
    if not label_text and not field_text:
        return which
    try:
        if label_text:
            labels = parse_labels(label_text)
            which.labels = None if labels.empty else labels
        if field_text:
            _add_fields(call, which, parse_fields(field_text))
    except SelectorError as error:
        raise errors.bad_request(str(error)) from None
    return which


def _add_fields(call: Call, which: Filter, selector: FieldSelector) -> None:
    cache = call.cache
    exact = 0
    if call.kind.stored_fields:
        selector = _as_stored(call.kind, selector)
    for requirement in selector.requirements:
        field = requirement.field
        if field not in ("metadata.name", "metadata.namespace") and field not in cache.kind.selectable_fields:
            raise errors.bad_request(f"field label not supported: {field}")
        if field == "metadata.namespace" and not call.kind.namespaced:
            raise errors.bad_request(f"field label not supported: {field}")
        if requirement.operator != "=" or not requirement.value:
            continue
        if field == "metadata.name" and which.name in ("", requirement.value):
            which.name = requirement.value
            exact += 1
        elif field == "metadata.namespace" and which.namespace in ("", requirement.value):
            which.namespace = requirement.value
            exact += 1
        elif field == cache.trigger_field:
            which.trigger = requirement.value
    if exact < len(selector.requirements):
        which.fields = selector


def _as_stored(kind: Kind, selector: FieldSelector) -> FieldSelector:
    """The selector in the words of the kind that is stored; those words themselves are not this kind's."""
    for requirement in selector.requirements:
        if requirement.field in kind.stored_fields.values():
            raise errors.bad_request(f"field label not supported: {requirement.field}")
    return FieldSelector(
        tuple(replace(one, field=kind.stored_fields.get(one.field, one.field)) for one in selector.requirements)
    )


def list_objects(call: Call) -> Many:
    """GET of a collection."""
    which = filter_of(call)
    limit = call.number("limit") or 0
    if limit < 0:
        limit = 0
    token = call.params.get("continue", "")
    asked = parse_revision(call.params.get("resourceVersion", ""))
    match = _revision_match(call, asked, token)
    current = call.api.storage.revision
    if token:
        if asked:
            raise errors.bad_request("specifying resource version is not allowed when using continue")
        revision, after = _read_continue(token)
        if revision < 0:
            revision = current
        return _page_at(call, which, revision, after, limit)
    check_revision(call, asked)
    if match == "Exact" and asked:
        return _page_at(call, which, asked, "", limit)
    return _page(call, which, current, "", limit)


def _page(call: Call, which: Filter, revision: int, after: str, limit: int) -> Many:
    """A page of the state as it is now."""
    cache = call.cache
    found = cache.select(which, after)
    if not limit:
        metadata = {"resourceVersion": str(revision)}
        if which.is_everything and not which.name and not after and cache.kind is call.kind:
            return Many(found, metadata, (cache, which.namespace))
        return Many(list(found), metadata)
    items = list(islice(found, min(limit, sys.maxsize - 1) + 1))
    if len(items) <= limit:
        return Many(items, {"resourceVersion": str(revision)})
    items.pop()
    remaining = call.cache.count(which.namespace, items[-1].key) if which.is_everything and not which.name else None
    return Many(items, _go_on(revision, items[-1], remaining))


def _page_at(call: Call, which: Filter, revision: int, after: str, limit: int) -> Many:
    """A page of the state as it was at `revision`."""
    cache = call.cache
    compacted = revision < call.api.storage.store.oldest  # gone for every client, whatever this server remembers
    if revision >= cache.changed and not compacted:
        return _page(call, which, revision, after, limit)
    items = cache.select_at(revision, which, after) if not compacted else None
    if items is None:
        if not after:
            raise errors.expired(f"The resourceVersion for the provided list is too old: {revision} ({cache.oldest})")
        again = _continue_token(-1, after)
        error = errors.expired(INCONSISTENT)
        raise _ContinueExpired(error, again)
    if limit and len(items) > limit:
        remaining = len(items) - limit if which.is_everything and not which.name else None
        items = items[:limit]
        return Many(items, _go_on(revision, items[-1], remaining))
    return Many(items, {"resourceVersion": str(revision)})


class _ContinueExpired(ApiError):
    """410 with a token to go on with at the newest revision."""

    def __init__(self, error: ApiError, token: str) -> None:
        super().__init__(error.code, error.reason, error.message)
        self._token = token

    def to_status(self) -> Obj:
        return {**super().to_status(), "metadata": {"continue": self._token}}


def _go_on(revision: int, last: CachedObject, remaining: int | None) -> Obj:
    metadata: Obj = {"resourceVersion": str(revision), "continue": _continue_token(revision, last.key)}
    if remaining is not None:
        metadata["remainingItemCount"] = remaining
    return metadata


def _continue_token(revision: int, after: str) -> str:
    content = orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": after + "\0"})
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _read_continue(token: str) -> tuple[int, str]:
    try:
        content = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        revision, start = content["rv"], content["start"]
        if content["v"] != "meta.k8s.io/v1" or type(revision) is not int or not start or type(start) is not str:
            raise ValueError(token)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise errors.bad_request("continue key is not valid: illegal base64 data or unknown version") from None
    return revision, start.rstrip("\0")


def parse_revision(text: str) -> int:
    """A `resourceVersion` parameter; 0 for none and for "0". Raises 400."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or int(text) >= 1 << 64:
        cause = errors.invalid_value("resourceVersion", text, f'strconv.ParseUint: parsing "{text}": invalid syntax')
        raise errors.bad_request(f"{cause.field}: {cause.message}")
    return int(text)


def check_revision(call: Call, asked: int) -> None:
    """Raise 504 for a revision that has not come yet."""
    current = call.api.storage.revision
    if asked > current:
        message = f"Too large resource version: {asked}, current: {current}"
        cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
        raise ApiError(504, "Timeout", f"Timeout: {message}", details={"causes": [cause], "retryAfterSeconds": 1})


def _revision_match(call: Call, asked: int, token: str) -> str:
    """`resourceVersionMatch`, checked against what it goes with."""
    match = call.params.get("resourceVersionMatch", "")
    if not match:
        return ""
    given = bool(call.params.get("resourceVersion"))
    causes: list[Cause] = []
    if token:
        causes.append(errors.field_forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden for continue"))
    elif not given:
        why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        causes.append(errors.field_forbidden("resourceVersionMatch", why))
    if match not in ("Exact", "NotOlderThan"):
        causes.append(errors.not_supported("resourceVersionMatch", match, ["Exact", "NotOlderThan", ""]))
    elif match == "Exact" and given and asked == 0:
        why = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        causes.append(errors.field_forbidden("resourceVersionMatch", why))
    if causes:
        raise errors.invalid("ListOptions", "", causes, "meta.k8s.io")
    return match
