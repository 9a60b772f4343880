"""What a check of the Pod Security Standards finds, and the words it has for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pinnace.machinery.meta import Obj


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a pod is not allowed: the rule, and what of the pod breaks it."""

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


Check = Callable[[Obj, Obj], "Finding | None"]
"""`(metadata, spec)` of a pod or of a pod template."""


def all_containers(spec: Obj) -> Iterator[Obj]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind) or ()


def context_of(part: Obj) -> Obj:
    """The security context of a pod spec or of a container."""
    return part.get("securityContext") or {}


def plural(count: int, one: str, many: str) -> str:
    return one if count == 1 else many


def quoted(values: Iterable[Any]) -> str:
    return ", ".join(f'"{value}"' for value in values)


def containers_text(names: list[str]) -> str:
    """`container "a"`, `containers "a", "b"`."""
    return f"{plural(len(names), 'container', 'containers')} {quoted(names)}"


def setters_text(on_pod: bool, names: list[str]) -> str:
    """Who set something: `pod and container "a"`."""
    return " and ".join([*(["pod"] if on_pod else []), *([containers_text(names)] if names else [])])


def setters(spec: Obj, is_bad: Callable[[Obj], bool]) -> str:
    """Which security contexts are bad: the pod's and the containers'; empty when none is."""
    names = [container.get("name") or "" for container in all_containers(spec) if is_bad(context_of(container))]
    return setters_text(is_bad(context_of(spec)), names)


def is_windows(spec: Obj) -> bool:
    return bool((spec.get("os") or {}).get("name") == "windows")
