"""One request on its way through the server, and what its handlers give back.

HTTP requests and loop-back calls become the same `Call`; handlers return a `One`, a `Many` or a response of their own,
which `render` turns into bytes for the wire and `loopback` into objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pinnace.apis.kind import Kind, Subresource
from pinnace.apiserver.authn import User
from pinnace.apiserver.cache import CachedObject, ResourceCache
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery import errors
from pinnace.machinery.meta import GVR, Obj
from pinnace.wire.http import AnyResponse, Request

if TYPE_CHECKING:
    from pinnace.apiserver.api import Api

_INTEGER = re.compile(r"[+-]?[0-9]+")
_BEYOND = 2**63
_TRUE = ("1", "t", "T", "true", "TRUE", "True")


@dataclass(slots=True)
class Call:
    """What a handler works on."""

    api: Api
    user: User
    info: RequestInfo
    kind: Kind
    params: Mapping[str, str]
    request: Request | None  # None for a loop-back call
    document: Any = None  # the body of a loop-back call
    content_type: str = ""
    subresource: Subresource | None = None
    warnings: list[str] = field(default_factory=list)  # sent as Warning headers
    annotations: dict[str, str] | None = None  # of the audit event
    waited: float = 0.0  # seconds for its turn and for webhooks

    @property
    def cache(self) -> ResourceCache:
        try:
            return self.api.storage.cache(self.kind.storage)
        except KeyError:  # its definition went while the call was on its way
            raise errors.no_such_path() from None

    @property
    def key(self) -> str:
        """Of the object named, in its cache."""
        info = self.info
        return f"{info.namespace}/{info.name}" if info.namespace else info.name

    @property
    def body(self) -> bytes:
        return self.request.body if self.request is not None else b""

    @property
    def has_body(self) -> bool:
        return bool(self.request.body) if self.request is not None else self.document is not None

    def flag(self, name: str) -> bool:
        """A boolean query parameter, as Go reads one."""
        return self.params.get(name, "") in _TRUE

    def number(self, name: str) -> int | None:
        """An integer query parameter of 64 bits; raises 400 for anything else."""
        text = self.params.get(name)
        if not text:
            return None
        if not _INTEGER.fullmatch(text):
            raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
        number = int(text) if len(text) < 64 else _BEYOND
        if not -_BEYOND <= number < _BEYOND:
            raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": value out of range')
        return number

    @property
    def dry_run(self) -> bool:
        """Whether nothing is to be stored. Raises 422 for a value other than `All`."""
        value = self.params.get("dryRun")
        if not value:
            return False
        if value != "All":
            cause = errors.not_supported("dryRun", value, ["All"])
            raise errors.invalid("CreateOptions", "", [cause], "meta.k8s.io")
        return True

    def current(self) -> CachedObject:
        """The object that the path names; raises 404."""
        found = self.cache.get(self.key)
        if found is None:
            raise errors.not_found(self.kind.plural, self.info.name, self.kind.group)
        return found


def call_of(api: Api, user: User, info: RequestInfo, params: Mapping[str, str], request: Request | None = None) -> Call:
    """The call that a request to a resource is. Raises 404 for a resource that is not served."""
    kind = api.registry.by_gvr(GVR(info.group, info.version, info.resource))
    if kind is None:
        raise errors.no_such_path()
    call = Call(api, user, info, kind, params, request)
    if kind.deprecation:
        call.warnings.append(kind.deprecation)
    return call


@dataclass(slots=True)
class One:
    """One object, stored or made up."""

    obj: CachedObject | Obj
    status: int = 200
    kind: Kind | None = None  # whose columns a table has; None for an object that is of no served kind


@dataclass(slots=True)
class Many:
    """A list of stored objects."""

    items: Iterable[CachedObject]  # to be read once, at once
    metadata: Obj
    whole: tuple[ResourceCache, str] | None = None  # where the items are all of a namespace (all when empty)


Result = One | Many | AnyResponse
Show = Callable[[Obj], Obj]


def shown(kind: Kind, obj: CachedObject | Obj) -> Obj:
    """The object as `kind` shows it, where it may be stored as another version. Shared and read-only."""
    stored = obj.obj() if isinstance(obj, CachedObject) else obj
    if kind.stored_as is None or kind.stored_as == kind.gvr:
        return stored
    if kind.from_storage is not None:
        return kind.from_storage(stored)
    return {**stored, "apiVersion": kind.gvr.api_version}


def to_storage(kind: Kind, obj: Obj) -> Obj:
    """The object as it is stored, from what a client of `kind` sent."""
    if kind.stored_as is None or kind.stored_as == kind.gvr:
        return obj
    if kind.to_storage is not None:
        return kind.to_storage(obj)
    return {**obj, "apiVersion": kind.stored_as.api_version}
