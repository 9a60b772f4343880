"""What a cluster in user namespaces lacks on this machine, told when it starts. See docs/rootless.md.

Looked at from within, where a missing way out shows as a missing default route.
"""

from __future__ import annotations

from pathlib import Path

from pinnace.cri.engine.cgroups import Cgroups


def limits(*, has_cgroups: bool, has_way_out: bool) -> list[str]:
    """One line for each."""
    lines = []
    if not has_cgroups:
        lines.append(
            "limits of CPU, memory and processes are not enforced, and usage is not measured: no cgroup was delegated"
        )
    if not has_way_out:
        lines.append("pods and pulls reach no other machine: slirp4netns is missing, or may not open /dev/net/tun")
    lines.append("node ports and host ports answer at 127.0.0.1 where they are of TCP, else inside of the cluster only")
    return lines


def limits_here() -> list[str]:
    """Those of the namespaces that this process is in."""
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    return limits(
        has_cgroups=Cgroups().version > 0,
        has_way_out=any(route.split()[1] == "00000000" for route in routes),
    )
