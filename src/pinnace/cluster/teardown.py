"""Taking a profile apart, layer by layer: servers, containers, kernel objects, files.

Every step is idempotent and none needs the one before it to have worked: what a crash left behind goes too.
"""

from __future__ import annotations

import asyncio
import os
import signal

from pinnace.cluster import control, guard
from pinnace.cluster.profile import Profile
from pinnace.cluster.reasons import STOP_TIMEOUT, ClusterError

SERVERS_TIMEOUT = 60.0  # seconds


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
    connection = control.connect(profile)
    if connection is not None:
        pid = connection.supervisor_pid
        connection.close()
        os.kill(pid, signal.SIGTERM)
        if not control.wait_for_exit(pid, SERVERS_TIMEOUT):
            os.kill(pid, signal.SIGKILL)
            if not control.wait_for_exit(pid, 5):
                raise ClusterError(STOP_TIMEOUT, f"The supervisor (pid {pid}) does not end")
    for pid in guard.processes(profile):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        control.wait_for_exit(pid, 5)


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
    engine = make_engine(profile, profile.load() if profile.exists() else None)
    await (engine.destroy() if destroy else engine.shut_down())


def remove_kernel_objects(profile: Profile) -> None:
    """Unmount, unlink and unload what is named after the profile."""
    from pinnace.cri.engine.mounts import unmount_below
    from pinnace.machine.host import remove_link
    from pinnace.proxy.proxier import remove_table

    for directory in (profile.kubelet_dir, profile.engine_dir):
        unmount_below(directory)
    remove_table(f"{profile.table_prefix}-proxy")
    remove_link(profile.machine_bridge)
    guard.remove(profile)
    unmount_below(profile.run_dir)
