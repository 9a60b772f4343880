"""Controller revisions: what a daemon set or stateful set once was, kept unchanged.

Specified in https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/controller-revision-v1/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import needed, not_negative, unchanged
from pinnace.apis.fields import AGE, NAME, NONE, age, column, name
from pinnace.apis.kind import Rules
from pinnace.machinery.errors import Cause
from pinnace.machinery.meta import Obj, controller_of


def validate(revision: Obj) -> list[Cause]:
    errors = needed("data", revision.get("data"), "data is mandatory")
    return errors + not_negative("revision", revision.get("revision"))


def validate_update(new: Obj, old: Obj) -> list[Cause]:
    return unchanged("data", new.get("data"), old.get("data"))


def row(revision: Obj, now: datetime) -> list[Any]:
    owner = controller_of(revision)
    return [name(revision), _owner(owner), revision.get("revision") or 0, age(revision, now)]


def _owner(owner: Obj | None) -> str:
    """`daemonset.apps/name`."""
    if owner is None:
        return NONE
    group = (owner.get("apiVersion") or "").rpartition("/")[0]
    kind = (owner.get("kind") or "").lower()
    return f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"


CONTROLLER_REVISION = Rules(
    columns=(NAME, column("Controller"), column("Revision"), AGE),
    row=row,
    validate=validate,
    validate_update=validate_update,
)
