"""GET of one object as plain JSON: what most requests are, answered without the steps that have nothing to say of it.

Of a path only what cannot change is remembered: where objects of a built-in kind are that are stored as they are shown,
in a store of this server alone. All else takes the whole way (`request_path`), objects that are not there included.
"""

from __future__ import annotations

from pinnace.apiserver.api import Api
from pinnace.apiserver.cache import ResourceCache
from pinnace.apiserver.compression import LEAST_BYTES
from pinnace.apiserver.negotiate import PLAIN, format_of
from pinnace.apiserver.render import JSON_HEADERS
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery.meta import GVR
from pinnace.wire.http import Request, Response

REMEMBERED = 20_000  # paths
LONGEST = 1024  # characters of such a path

_Place = tuple[ResourceCache, str] | None  # an object's cache and its key there; None for what is no such object


class PlainReads:
    """Answers what it can; who may read has been settled before."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._places: dict[str, _Place] = {}

    def answer(self, request: Request, info: RequestInfo) -> Response | None:
        """The object that a request without a query names, None where the whole way must be taken. Raises 406."""
        path = request.path
        try:
            place = self._places[path]
        except KeyError:
            place = self._learn(path, info)
        if place is None or request.method != "GET":
            return None
        found = place[0].objects.get(place[1])
        headers = request.headers
        if found is None or format_of(headers.get("accept", "*/*"), None, headers.get("user-agent", "")) != PLAIN:
            return None
        body = found.body()
        return Response(200, JSON_HEADERS, body) if len(body) <= LEAST_BYTES else None

    def _learn(self, path: str, info: RequestInfo) -> _Place:
        place = self._place(info)
        if len(path) <= LONGEST:
            if len(self._places) >= REMEMBERED:
                self._places.clear()
            self._places[path] = place
        return place

    def _place(self, info: RequestInfo) -> _Place:
        storage = self._api.storage
        kind = self._api.registry.by_gvr(GVR(info.group, info.version, info.resource))
        if kind is None or kind.custom or not kind.is_stored or kind.stored_as not in (None, kind.gvr):
            return None
        if kind.deprecation or kind.settle is not None or "get" not in kind.verbs or storage.store.is_shared:
            return None
        if not info.name or info.subresource or info.rest or bool(info.namespace) != kind.namespaced:
            return None
        return storage.cache(kind.storage), f"{info.namespace}/{info.name}" if info.namespace else info.name
