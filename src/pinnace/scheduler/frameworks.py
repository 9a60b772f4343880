"""The profiles of a scheduler at work, by the name that pods ask for in `spec.schedulerName`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pinnace.client.events import EventRecorder
from pinnace.scheduler.evaluation import Evaluator
from pinnace.scheduler.events import Change, Hint
from pinnace.scheduler.framework import Profile
from pinnace.scheduler.handle import Handle
from pinnace.scheduler.pod import PodInfo

ProfileMaker = Callable[[Handle], Profile]


@dataclass(slots=True)
class Framework:
    """One profile with what it needs to decide and to speak."""

    profile: Profile
    evaluator: Evaluator
    recorder: EventRecorder
    hints: dict[str, list[Hint] | None] = field(init=False)  # by plugin; None: anything may help

    def __post_init__(self) -> None:
        self.hints = {plugin.name: _hints_of(plugin) for plugin in self._rejecting()}

    def _rejecting(self) -> Iterator[Any]:
        profile = self.profile
        for plugins in (profile.pre_filter, profile.filter, profile.topology, profile.reserve, profile.permit):
            yield from plugins

    def helps(self, pod: PodInfo, rejected_by: frozenset[str], change: Change) -> bool:
        """Whether a plugin that rejected the pod may judge it anew after a change."""
        for name in rejected_by:
            hints = self.hints.get(name)
            if hints is None or any(hint.concerns(pod, change) for hint in hints):
                return True
        return False


def _hints_of(plugin: Any) -> list[Hint] | None:
    ask = getattr(plugin, "events_to_register", None)
    return list(ask()) if ask is not None else None


class Frameworks:
    """All profiles. They share one queue, so the first one's order is that of all."""

    def __init__(self, makers: Mapping[str, ProfileMaker], handle_for: Callable[[str], Handle]) -> None:
        self._by_name: dict[str, Framework] = {}
        for name, make in makers.items():
            handle = handle_for(name)
            profile = make(handle)
            handle.evaluator = Evaluator(profile, handle.cache)
            self._by_name[name] = Framework(profile, handle.evaluator, handle.recorder)
        self.sort_key = next(iter(self._by_name.values())).profile.queue_sort.sort_key

    def __contains__(self, scheduler_name: object) -> bool:
        return scheduler_name in self._by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def of(self, pod: PodInfo) -> Framework:
        return self._by_name[pod.scheduler_name]

    def gate(self, pod: PodInfo) -> str | None:
        """Why a pod may not be queued yet, or None."""
        for plugin in self.of(pod).profile.pre_enqueue:
            reason = plugin.pre_enqueue(pod)
            if reason is not None:
                return reason
        return None

    def helps(self, pod: PodInfo, rejected_by: frozenset[str], change: Change) -> bool:
        return self.of(pod).helps(pod, rejected_by, change)

    def silence(self) -> None:
        """Drop events not written yet."""
        for framework in self._by_name.values():
            framework.recorder.cancel()
