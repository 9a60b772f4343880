"""A profile's hollow nodes: which there shall be (`hollow.json`), and the process that plays them.

The process follows the file: groups that are added to it are registered, groups that leave it are forgotten. What a
hollow node does is in `pinnace.kubelet.hollow`; here it speaks as the cluster's administrator, over one set of
connections for all nodes.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from pinnace.cluster import process
from pinnace.cluster.profile import Profile, ProfileConfig, from_directory
from pinnace.kubelet.hollow.behaviour import Behaviour

if TYPE_CHECKING:
    from pinnace.kubelet.hollow.kubelets import HollowKubelets

_log = structlog.get_logger()

GROUP_LABEL = "hollow.pinnace.dev/group"


@dataclass(frozen=True, slots=True)
class HollowGroup:
    """Nodes that are all alike: `<name>-0` and so on."""

    name: str
    count: int
    capacity: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()
    behaviour: Behaviour = field(default_factory=Behaviour)

    @property
    def node_names(self) -> list[str]:
        return [f"{self.name}-{number}" for number in range(self.count)]


def load_groups(profile: Profile) -> dict[str, HollowGroup]:
    """The groups that there shall be, by name."""
    try:
        stored: list[dict[str, Any]] = json.loads(profile.hollow_file.read_text())
    except FileNotFoundError:
        return {}
    groups = (HollowGroup(**{**one, "behaviour": Behaviour(**one["behaviour"])}) for one in stored)
    return {group.name: group for group in groups}


def save_groups(profile: Profile, groups: Mapping[str, HollowGroup]) -> None:
    """Write the file in one step; without groups there is none."""
    if not groups:
        profile.hollow_file.unlink(missing_ok=True)
        return
    temporary = profile.hollow_file.with_suffix(".tmp")
    temporary.write_text(json.dumps([asdict(group) for group in groups.values()], indent=2) + "\n")
    temporary.replace(profile.hollow_file)


async def run(profile: Profile, config: ProfileConfig) -> None:
    """Play the profile's hollow nodes until SIGTERM."""
    from pinnace.cluster.node import connect
    from pinnace.kubelet.hollow.kubelets import HollowKubelets
    from pinnace.wire.tls import TlsConfig

    pki = profile.pki_dir
    client = connect(profile, config, "admin", "kubelet")
    tls = TlsConfig(pki / "kubelet.crt", pki / "kubelet.key", pki / "ca.crt")
    kubelets = HollowKubelets(client, tls, config.kubernetes_version)
    try:
        await process.run_together({"nodes": kubelets.run(), "groups": _follow(profile, kubelets)})
    finally:
        await client.transport.close()


async def _follow(profile: Profile, kubelets: HollowKubelets) -> None:
    """Bring the nodes in line with the file whenever it changes."""
    from pinnace.wire.inotify import DIRECTORY_CHANGES, Watcher

    watcher = Watcher()
    present: dict[str, HollowGroup] = {}
    try:
        watcher.add(profile.directory, DIRECTORY_CHANGES)
        while True:
            wanted = load_groups(profile)
            for name in present.keys() - wanted.keys():
                for node in present.pop(name).node_names:
                    kubelets.forget(node)
            for name in wanted.keys() - present.keys():
                present[name] = group = wanted[name]
                await _add(kubelets, group)
                _log.info("hollow nodes are ready", group=name, count=group.count)
            process.notify("READY=1")
            await watcher.changed.wait()
            watcher.changed.clear()
    finally:
        watcher.close()


async def _add(kubelets: HollowKubelets, group: HollowGroup) -> None:
    """Register a group's nodes; they are Ready when this returns."""
    labels = {**group.labels, GROUP_LABEL: group.name}
    taints = [dict(taint) for taint in group.taints]
    coming = [
        await kubelets.add(name, capacity=group.capacity, labels=labels, taints=taints, behaviour=group.behaviour)
        for name in group.node_names
    ]
    await asyncio.gather(*coming)


def main() -> None:
    process.die_with_parent()
    process.configure_logging(int(os.environ.get(process.VERBOSITY, "0")))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a listening socket for each node
    profile = from_directory(Path(sys.argv[1]))
    asyncio.run(run(profile, profile.load()))


if __name__ == "__main__":
    main()
