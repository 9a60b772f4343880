"""The machine's cgroups as a kubelet uses them, in memory."""

from __future__ import annotations

from dataclasses import dataclass

from pinnace.cri.api import LinuxContainerResources


@dataclass(frozen=True, slots=True)
class Use:
    memory_working_set: int = 0


class FakeCgroups:
    """What was made and how it was limited, by path; everything is refused while `refusal` says why."""

    def __init__(self, *there: str) -> None:
        self.there = set(there)
        self.limits: dict[str, LinuxContainerResources] = {}
        self.writes = 0
        self.refusal = ""

    @property
    def shares(self) -> dict[str, int]:
        return {path: limits.cpu_shares for path, limits in self.limits.items()}

    def create(self, path: str) -> list[str]:
        self.there.add(path)
        return [path]

    def limit(self, path: str, resources: LinuxContainerResources) -> None:
        if self.refusal:
            raise OSError(self.refusal)
        self.writes += 1
        self.limits[path] = resources

    def usage(self, path: str) -> Use:
        return Use(1 if path in self.there else 0)

    def counters(self, _path: str) -> dict[str, dict[str, int]]:
        return {}

    def remove_if_empty(self, path: str) -> None:
        self.there.discard(path)

    def missing(self, path: str) -> list[str]:
        return [] if path in self.there else [f"/sys/fs/cgroup{path}"]
