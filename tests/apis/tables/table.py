"""The form of a kind's table, and how its changes are applied to an object."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

Obj = dict[str, Any]

GONE = object()
"""In place of a value: the field is taken away."""

Changes = dict[str, Any]
"""By path: `spec.containers[0].name`; a key with dots or slashes in brackets: `metadata.labels[a.b/c]`."""

Cases = list[tuple[Changes, list[str]]]
"""Changes, and the errors they lead to as `field: message`; none for what is allowed."""


@dataclass
class Table:
    """One kind of one version. `minimal` and `full` are without apiVersion, kind and what every metadata has."""

    api_version: str
    kind: str
    minimal: Obj
    defaulted: Obj  # what `minimal` is when it is stored
    full: Obj = field(default_factory=dict)  # one that sets most fields, and is accepted as it is
    invalid: Cases = field(default_factory=list)  # changes to `minimal`
    invalid_full: Cases = field(default_factory=list)  # changes to `full`
    updates: Cases = field(default_factory=list)  # changes to `minimal` once it is stored
    updates_full: Cases = field(default_factory=list)
    columns: list[str] = field(default_factory=list)  # those of -o wide with a star
    cells: list[Any] = field(default_factory=list)  # of `full`, else of `minimal`
    status: Obj | None = None  # which the cells are shown with
    name: str = "web"

    @property
    def id(self) -> str:
        return f"{self.api_version}/{self.kind}"


_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]|\[([^\]]+)\]")


def changed(obj: Obj, changes: Changes) -> Obj:
    """A copy of `obj` with the changes made; what is missing on the way is made."""
    new = copy.deepcopy(obj)
    for path, value in changes.items():
        steps: list[str | int] = [int(index) if index else name or key for name, index, key in _STEP.findall(path)]
        place: Any = new
        for step, following in pairwise(steps):
            if isinstance(step, str) and step not in place:
                place[step] = [] if isinstance(following, int) else {}
            place = place[step]
        last = steps[-1]
        if value is GONE:
            del place[last]
        elif isinstance(last, int) and last == len(place):
            place.append(copy.deepcopy(value))
        else:
            place[last] = copy.deepcopy(value)
    return new
