"""What of a list a caller asked for: the filters of CRI's List calls, whose fields all must match.

Pure. Ids may be given by an unambiguous beginning, as tools show them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from pinnace.cri.api import Container, ContainerStats, Image, PodSandbox, PodSandboxStats
from pinnace.cri.v1.messages import message_class


class _Listed(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def labels(self) -> dict[str, str]: ...


_T = TypeVar("_T", bound=_Listed)


def sandboxes(found: list[PodSandbox], asked: Any) -> list[PodSandbox]:
    """By a PodSandboxFilter."""
    state = _state("PodSandboxStateValue", asked)
    return [one for one in _common(found, asked) if state in ("", one.state.value)]


def containers(found: list[Container], asked: Any) -> list[Container]:
    """By a ContainerFilter."""
    state = _state("ContainerStateValue", asked)
    return [
        one
        for one in _common(found, asked)
        if state in ("", one.state.value) and one.pod_sandbox_id.startswith(asked.pod_sandbox_id)
    ]


def container_stats(found: list[ContainerStats], asked: Any, sandbox_of: Mapping[str, str]) -> list[ContainerStats]:
    """By a ContainerStatsFilter; `sandbox_of` says to which sandbox a container belongs."""
    return [one for one in _common(found, asked) if sandbox_of.get(one.id, "").startswith(asked.pod_sandbox_id)]


def sandbox_stats(found: list[PodSandboxStats], asked: Any) -> list[PodSandboxStats]:
    """By a PodSandboxStatsFilter."""
    return _common(found, asked)


def images(found: list[Image], name: str) -> list[Image]:
    """Those of an id, or of a name as the image has it."""
    if not name:
        return found
    return [one for one in found if name in (one.id, *one.repo_tags, *one.repo_digests)]


def _common(found: list[_T], asked: Any) -> list[_T]:
    wanted = asked.label_selector.items()
    return [
        one
        for one in found
        if one.id.startswith(asked.id) and all(one.labels.get(name) == value for name, value in wanted)
    ]


def _state(wrapper: str, asked: Any) -> str:
    """The name of the state that is asked for; empty for any."""
    if not asked.HasField("state"):
        return ""
    values = message_class(wrapper).DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number
    known = values.get(asked.state.state)
    return known.name if known is not None else "?"
