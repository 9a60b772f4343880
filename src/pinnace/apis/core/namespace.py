"""Namespaces: a label with their own name, and a finalizer that keeps them until they are empty.

Specified in https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.fields import AGE, NAME, age, column, name, selectable, status_of
from pinnace.apis.kind import Rules
from pinnace.apis.metadata import name_is_label
from pinnace.machinery.meta import Obj

NAME_LABEL = "kubernetes.io/metadata.name"


def default(namespace: Obj) -> None:
    meta = namespace["metadata"]
    if meta.get("name"):
        if meta.get("labels") is None:
            meta["labels"] = {}
        meta["labels"][NAME_LABEL] = meta["name"]


def prepare(namespace: Obj, old: Obj | None) -> None:
    """Only `/finalize` writes the spec's finalizers."""
    default(namespace)  # the name may have been generated since
    if old is None:
        namespace["status"] = {"phase": "Active"}
        finalizers = (namespace.get("spec") or {}).get("finalizers") or []
        namespace["spec"] = {"finalizers": finalizers if "kubernetes" in finalizers else [*finalizers, "kubernetes"]}
    else:
        namespace["spec"] = dict(old.get("spec") or {})


def row(namespace: Obj, now: datetime) -> list[Any]:
    return [name(namespace), status_of(namespace).get("phase") or "", age(namespace, now)]


NAMESPACE = Rules(
    name=name_is_label,
    columns=(NAME, column("Status", description="The status of the namespace"), AGE),
    row=row,
    default=default,
    prepare=prepare,
    selectable_fields=selectable("status.phase"),
)
