"""What one kind is to the API server: names, scope, verbs, and the functions that give it its behaviour.

Each kind's file makes one `Kind` and gives it what its schema cannot say. Functions here are pure: they take JSON
objects and return them or say what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pinnace.machinery.errors import Cause
from pinnace.machinery.meta import GVK, GVR, Obj

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

Default = Callable[[Obj], None]
"""Fills in what the author left out, in place."""

Validate = Callable[[Obj], list[Cause]]
"""What is wrong with a new object, beyond what its schema says."""

ValidateUpdate = Callable[[Obj, Obj], list[Cause]]
"""What is wrong with replacing `old` by `new`: `(new, old)`."""

Prepare = Callable[[Obj, Obj | None], None]
"""What the server itself sets before a create (`old` is None) or an update, in place: `(new, old)`."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`; `priority` above 0 shows only with `-o wide`."""

    name: str
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""


Row = Callable[[Obj, datetime], list[Any]]
"""The cells of one object, one for each column; the moment is for ages."""


Convert = Callable[[Obj], Obj]
"""An object in another version; the one given is left as it is."""

Settle = Callable[[str], Awaitable[None] | None]
"""Waits until the objects of a kind can be read, the one with the key given or all of them when it is empty.

None where nothing is to be waited for. Raises ApiError where an object cannot be converted to the kind's version."""

NameRule = Callable[[str, bool], list[str]]
"""What is wrong with a name, `(name, is_prefix)`; a prefix is a `generateName`, which may end where a name may not."""


@dataclass(frozen=True, slots=True)
class Subresource:
    """One path below an object: `pods/eviction`. The kind named is what is sent or got there."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    group: str = ""  # group and version of the kind, where they are not the parent's
    version: str = ""


@dataclass(slots=True, kw_only=True)
class Kind:
    """One resource of one version, as the API serves it."""

    group: str = ""
    version: str
    kind: str
    plural: str
    singular: str = ""  # kind in lower case unless given
    list_kind: str = ""  # kind with List behind it unless given
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    verbs: tuple[str, ...] = ALL_VERBS
    has_status: bool = False  # serves /status, and `spec` writes leave `status` alone
    scale: ScalePaths | None = None  # serves /scale
    has_generation: bool = True  # metadata.generation counts changes outside metadata and status
    columns: tuple[Column, ...] = ()  # besides Name and Age alone when empty
    row: Row | None = None
    default: Default | None = None
    validate: Validate | None = None
    validate_update: ValidateUpdate | None = None
    prepare: Prepare | None = None
    selectable_fields: Mapping[str, Callable[[Obj], str]] = field(default_factory=dict)  # besides metadata.*
    stored_fields: Mapping[str, str] = field(default_factory=dict)  # what `stored_as` calls those it names otherwise
    storage_version: str = ""  # the version it is stored as, where several are served
    status_leaves: tuple[str, ...] = ()  # fields of metadata that a write of status does not change
    stored_as: GVR | None = None  # where the objects are kept, if under another version or group than this
    to_storage: Convert | None = None  # this version -> `stored_as`
    from_storage: Convert | None = None  # `stored_as` -> this version
    subresources: tuple[Subresource, ...] = ()  # besides /status and /scale
    unconditional_update: bool = True  # whether a PUT may leave resourceVersion out
    begin_deletion: Default | None = None  # what the server sets when a deletion begins, in place
    custom: bool = False  # defined by a CustomResourceDefinition
    deprecation: str = ""  # what every request to it is warned of
    terminating: bool = False  # its definition is being deleted: nothing new is created
    settle: Settle | None = None  # for kinds whose objects other servers convert

    def __post_init__(self) -> None:
        if not self.singular:
            self.singular = self.kind.lower()
        if not self.list_kind:
            self.list_kind = f"{self.kind}List"

    @property
    def gvk(self) -> GVK:
        return GVK(self.group, self.version, self.kind)

    @property
    def gvr(self) -> GVR:
        return GVR(self.group, self.version, self.plural)

    @property
    def storage(self) -> GVR:
        """Where objects are kept: the resource itself, unless it is a second view of another."""
        return self.stored_as or self.gvr

    @property
    def is_stored(self) -> bool:
        """False for reviews and the like, which are answered and forgotten."""
        return "get" in self.verbs

    @property
    def qualified(self) -> str:
        """`deployments.apps`, or `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where a kind keeps what `/scale` shows: dotted paths without a leading dot."""

    spec_replicas: str = "spec.replicas"
    status_replicas: str = "status.replicas"
    selector: str = "spec.selector"  # a LabelSelector, or a plain map of labels


METADATA = ("annotations", "finalizers", "labels", "ownerReferences")
"""What authors write in metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What one kind's file says of it, beyond its names and its schema.

    Metadata is not the rules' to check: `registry` joins its validation, with `name` for the name, to `validate` and
    `validate_update`, and runs `validate` on updates too.
    """

    name: NameRule | None = None  # a DNS subdomain unless given
    columns: tuple[Column, ...] = ()
    row: Row | None = None
    default: Default | None = None
    validate: Validate | None = None
    validate_update: ValidateUpdate | None = None
    validate_with: Mapping[str, Validate] = field(default_factory=dict)  # in place of it where that feature is on
    validate_when_updated: Validate | None = None  # in place of `validate` on updates, where old objects may keep more
    prepare: Prepare | None = None
    begin_deletion: Default | None = None
    status_leaves: tuple[str, ...] = ()  # fields of metadata that a write of status does not change
    selectable_fields: Mapping[str, Callable[[Obj], str]] = field(default_factory=dict)
    stored_fields: Mapping[str, str] = field(default_factory=dict)
