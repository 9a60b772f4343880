"""Objects, the names of their kinds, and the metadata every one of them carries.

An API object is a plain JSON dict (`Obj`), shared and read-only once it left its maker: to change one, copy the path
that changes (`replace_in`) or deep-copy it. The shape of metadata is specified in the Kubernetes API conventions
(https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

Obj = dict[str, Any]
"""A JSON object as the API shows it: camelCase keys, values of JSON types."""


class GVK(NamedTuple):
    """Group, version and kind: what a document says it is."""

    group: str
    version: str
    kind: str

    @property
    def api_version(self) -> str:
        """`v1`, or `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version


class GVR(NamedTuple):
    """Group, version and resource: where a collection is served."""

    group: str
    version: str
    resource: str

    @property
    def api_version(self) -> str:
        """`v1`, or `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def prefix(self) -> str:
        """The path under which the version is served: `/api/v1`, or `/apis/apps/v1`."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, of one object in it, or of a subresource of that object."""
        path = self.prefix
        if namespace:
            path += f"/namespaces/{namespace}"
        path += f"/{self.resource}"
        if name:
            path += f"/{name}"
        if subresource:
            path += f"/{subresource}"
        return path


def parse_api_version(api_version: str) -> tuple[str, str]:
    """Split `apps/v1` into `("apps", "v1")`, and `v1` into `("", "v1")`."""
    group, _, version = api_version.rpartition("/")
    return group, version


_VERSION = re.compile(r"v([1-9]\d*)(?:(alpha|beta)([1-9]\d*))?", re.ASCII)
_STAGES = {None: 0, "beta": 1, "alpha": 2}


def version_order(version: str) -> tuple[int, int, int, str]:
    """Sorts versions of a group with the preferred first: v10, v2, v1, v11beta2, v3beta1, v12alpha1, foo10."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return 3, 0, 0, version
    return _STAGES[match[2]], -int(match[1]), -int(match[3] or 0), ""


def gvk_of(obj: Obj) -> GVK:
    """The kind that the object's own `apiVersion` and `kind` name."""
    group, version = parse_api_version(obj.get("apiVersion", ""))
    return GVK(group, version, obj.get("kind", ""))


def name_of(obj: Obj) -> str:
    """`metadata.name`, or the empty string."""
    name: str = obj["metadata"].get("name", "")
    return name


def namespace_of(obj: Obj) -> str:
    """`metadata.namespace`, or the empty string for a cluster-scoped object."""
    namespace: str = obj["metadata"].get("namespace", "")
    return namespace


def uid_of(obj: Obj) -> str:
    """`metadata.uid`, or the empty string for an object not stored yet."""
    uid: str = obj["metadata"].get("uid", "")
    return uid


def labels_of(obj: Obj) -> dict[str, str]:
    """`metadata.labels`, or an empty dict; read-only."""
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Obj) -> dict[str, str]:
    """`metadata.annotations`, or an empty dict; read-only."""
    return obj["metadata"].get("annotations") or {}


def key_of(obj: Obj) -> str:
    """`namespace/name`, or `name` for a cluster-scoped object: how caches and work queues name an object."""
    meta = obj["metadata"]
    namespace = meta.get("namespace")
    return f"{namespace}/{meta['name']}" if namespace else meta["name"]


def split_key(key: str) -> tuple[str, str]:
    """Undo `key_of`: `(namespace, name)`, the namespace empty for a cluster-scoped object."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def is_deleting(obj: Obj) -> bool:
    """Whether deletion has begun (`metadata.deletionTimestamp` is set)."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def controller_of(obj: Obj) -> Obj | None:
    """The one owner reference with `controller: true`, if there is one."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            found: Obj = reference
            return found
    return None


def owner_reference(owner: Obj, *, controller: bool = True) -> Obj:
    """A reference to `owner` that blocks its foreground deletion, as a controller sets on what it makes."""
    meta = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": controller,
        "blockOwnerDeletion": True,
    }


def get_in(obj: Any, *path: str | int, default: Any = None) -> Any:
    """The value at `path` of nested dicts and lists, or `default` where a step is missing or null."""
    for step in path:
        if isinstance(obj, Mapping):
            obj = obj.get(step)
        elif isinstance(obj, Sequence) and isinstance(step, int) and -len(obj) <= step < len(obj):
            obj = obj[step]
        else:
            return default
        if obj is None:
            return default
    return obj


def replace_in(obj: Obj, value: Any, *path: str) -> Obj:
    """A copy of `obj` with `value` at `path`; only the dicts along the path are copied, the rest is shared."""
    changed = dict(obj)
    if len(path) == 1:
        changed[path[0]] = value
    else:
        changed[path[0]] = replace_in(changed.get(path[0]) or {}, value, *path[1:])
    return changed


def deep_copy(obj: Obj) -> Obj:
    """A copy that shares nothing with `obj`."""
    return copy.deepcopy(obj)


def format_time(moment: datetime) -> str:
    """`metav1.Time`: RFC 3339 in UTC, whole seconds."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")[:-6] + "Z"


def format_micro_time(moment: datetime) -> str:
    """`metav1.MicroTime`: RFC 3339 in UTC, with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def parse_time(text: str) -> datetime:
    """Read either form of time; raises ValueError for anything that is not RFC 3339."""
    return datetime.fromisoformat(text.replace("Z", "+00:00") if text.endswith("Z") else text)


def utc_now() -> datetime:
    """The wall clock, aware of UTC: for the edges that hand a moment to pure code."""
    return datetime.now(UTC)
