"""Taking a profile apart, layer by layer: servers, containers, kernel objects, files.

Every step is idempotent and none needs the one before it to have worked: what a crash left behind goes too.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from pinnace.cluster import control, guard, turns
from pinnace.cluster.preflight import search_path
from pinnace.cluster.profile import Profile
from pinnace.cluster.reasons import STOP_TIMEOUT, ClusterError

if TYPE_CHECKING:
    from pinnace.cri.engine.engine import Engine

SERVERS_TIMEOUT = 60.0  # seconds
SHUTDOWN_GRACE = 10  # seconds from SIGTERM to SIGKILL for containers
_MNT_DETACH = 2


def tear_down(profile: Profile) -> None:
    """Remove all there is of a profile."""
    from pinnace.cluster.context import remove_context

    stop_servers(profile)
    destroy_containers(profile)
    remove_kernel_objects(profile)
    remove_context(profile)
    profile.remove()


def stop_servers(profile: Profile) -> None:
    """End the supervisor, which ends the servers; what does not end in time is killed."""
    guard.disarm(profile)
    permit = turns.WithdrawnPermit(profile)
    try:
        pid = permit.holder()
    finally:
        permit.close()
    if pid is not None:
        _end_supervisor(pid)
    while pids := guard.processes(profile):  # a server may have been forked since the last look
        for pid in pids:
            _signal(pid, signal.SIGKILL)
            if not control.wait_for_exit(pid, 5):
                raise ClusterError(STOP_TIMEOUT, f"The server with pid {pid} does not end")


def _end_supervisor(pid: int) -> None:
    _signal(pid, signal.SIGTERM)
    if control.wait_for_exit(pid, SERVERS_TIMEOUT):
        return
    _signal(pid, signal.SIGKILL)
    if not control.wait_for_exit(pid, 5):
        raise ClusterError(STOP_TIMEOUT, f"The supervisor (pid {pid}) does not end")


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has just ended


def stop_containers(profile: Profile) -> None:
    """End every container and sandbox, as a machine that is switched off does; their records stay."""
    if profile.exists():
        asyncio.run(_with_engine(profile, destroy=False))


def destroy_containers(profile: Profile) -> None:
    """End every container and remove all that the engine ever made."""
    asyncio.run(_with_engine(profile, destroy=True))


async def _with_engine(profile: Profile, *, destroy: bool) -> None:
    from pinnace.cluster.node import make_engine

    if not profile.engine_dir.exists():
        return
    os.environ["PATH"] = search_path()  # the engine runs nft
    engine = make_engine(profile, profile.load() if profile.exists() else None)
    await engine.start()
    if destroy:
        await engine.destroy()
        return
    await _stop_everything(engine)
    await engine.monitor.shutdown()
    await engine.stop()


async def _stop_everything(engine: Engine) -> None:
    """As at the end of a machine: SIGTERM to every container, SIGKILL after a while, then the sandboxes."""
    from pinnace.cri.api import ContainerState

    running = [one.id for one in await engine.list_containers() if one.state is ContainerState.RUNNING]
    await asyncio.gather(*(engine.stop_container(one, SHUTDOWN_GRACE) for one in running))
    sandboxes = await engine.list_pod_sandbox()
    await asyncio.gather(*(engine.stop_pod_sandbox(one.id) for one in sandboxes))


def remove_kernel_objects(profile: Profile) -> None:
    """Unmount, unlink and unload what is named after the profile."""
    from pinnace.machine.host import remove_link

    unmount_below(profile.kubelet_dir)
    unmount_below(profile.engine_dir)
    _remove_table(f"{profile.table_prefix}-proxy")
    remove_link(profile.machine_bridge)
    remove_link(profile.pod_bridge)
    guard.remove(profile)
    unmount_below(profile.run_dir)


def unmount_below(directory: Path) -> None:
    """Unmount everything mounted in `directory`, the innermost first; what is busy goes when its last user does."""
    below = f"{directory}/"
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    libc = ctypes.CDLL(None, use_errno=True)
    for point in reversed([point.encode().decode("unicode_escape") for point in points]):
        if point.startswith(below) or point == str(directory):
            libc.umount2(os.fsencode(point), _MNT_DETACH)


def _remove_table(name: str) -> None:
    """Delete an nftables table of each family; one that is not there is deleted already."""
    for family in ("ip", "ip6"):
        script = f"table {family} {name}\ndelete table {family} {name}\n"
        subprocess.run(
            ["nft", "-f", "-"], input=script, text=True, capture_output=True, check=False,
            env=os.environ | {"PATH": search_path()},
        )  # fmt: skip
