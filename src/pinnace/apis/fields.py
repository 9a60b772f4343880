"""Readers of objects for field selectors and table cells: dotted paths made into functions, and the usual columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from pinnace.apis.kind import Column
from pinnace.machinery.duration import since
from pinnace.machinery.meta import Obj
from pinnace.machinery.selectors import LabelSelector, SelectorError

NAME = Column("Name", format="name", description="Name must be unique within a namespace.")
AGE = Column("Age", description="The time since the object was created.")

UNKNOWN = "<unknown>"
NONE = "<none>"
UNSET = "<unset>"


def column(name: str, kind: str = "string", description: str = "") -> Column:
    return Column(name, kind, description=description)


def wide(name: str, kind: str = "string", description: str = "") -> Column:
    """A column that only `-o wide` shows."""
    return Column(name, kind, priority=1, description=description)


def text_at(path: str, default: str = "") -> Callable[[Obj], str]:
    """A reader of one dotted path, as a field selector compares it: booleans are `true` and `false`."""
    steps = path.split(".")

    def read(obj: Obj) -> str:
        value: Any = obj
        for step in steps:
            value = value.get(step) if isinstance(value, dict) else None
            if value is None:
                return default
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value)

    return read


def selectable(*paths: str, **defaults: str) -> Mapping[str, Callable[[Obj], str]]:
    """Readers by their paths; `defaults` are for paths with `_` in place of dots, where absent is not empty."""
    return {path: text_at(path, defaults.get(path.replace(".", "_"), "")) for path in paths}


def name(obj: Obj) -> str:
    return obj["metadata"].get("name") or ""


def age(obj: Obj, now: datetime) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


def joined(values: Iterable[str] | None, empty: str = NONE) -> str:
    return ",".join(values or ()) or empty


def labels_text(labels: Mapping[str, str] | None) -> str:
    """`a=b,c=d` by key, `<none>` where there are none."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def selector_text(selector: Obj | None) -> str:
    """A `LabelSelector` on one line."""
    if selector is None:
        return NONE
    try:
        return str(LabelSelector.from_json(selector)) or NONE
    except SelectorError:
        return "<error>"


def containers_text(spec: Obj) -> tuple[str, str]:
    """The names and the images of a pod spec's containers."""
    containers = spec.get("containers") or ()
    names = ",".join(container.get("name") or "" for container in containers)
    return names, ",".join(container.get("image") or "" for container in containers)


def template_spec(obj: Obj) -> Obj:
    """The pod spec that a workload makes its pods from."""
    spec: Obj = (spec_of(obj).get("template") or {}).get("spec") or {}
    return spec


def spec_of(obj: Obj) -> Obj:
    return obj.get("spec") or {}


def status_of(obj: Obj) -> Obj:
    return obj.get("status") or {}
