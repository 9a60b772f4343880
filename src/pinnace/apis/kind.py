"""What one kind is to the API server: names, scope, verbs, and the functions that give it its behaviour.

Each kind's file makes one `Kind` and gives it what its schema cannot say. Functions here are pure: they take JSON objects
and return them or say what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


@dataclass(slots=True, kw_only=True)
class Kind:
    """One resource of one version, as the API serves it."""

    group: str = ""
    version: str
    kind: str
    plural: str
    singular: str = ""  # kind in lower case unless given
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
    storage_version: str = ""  # the version it is stored as, where several are served

    def __post_init__(self) -> None:
        if not self.singular:
            self.singular = self.kind.lower()

    @property
    def gvk(self) -> GVK:
        return GVK(self.group, self.version, self.kind)

    @property
    def gvr(self) -> GVR:
        return GVR(self.group, self.version, self.plural)

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
