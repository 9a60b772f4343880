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
from pinnace.cluster.profile import CONTAINERD, ENGINE, Profile, ProfileConfig
from pinnace.cluster.reasons import RUNTIME_ENABLE, STOP_TIMEOUT, ClusterError
from pinnace.cri.programs import search_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pinnace.cri.api import PodSandbox, RuntimeService

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
        _end_containers(profile, destroy=False)


def destroy_containers(profile: Profile) -> None:
    """End every container and remove all that their runtime ever made for the profile."""
    _end_containers(profile, destroy=True)


def _end_containers(profile: Profile, *, destroy: bool) -> None:
    """Of whichever runtime has files in the profile: also where its configuration cannot be read."""
    from pinnace.cluster import containerd

    os.environ["PATH"] = search_path()  # the engine runs nft, containerd runs runc
    config = _configuration(profile)
    if profile.engine_dir.exists():
        asyncio.run(_with_engine(profile, config, destroy=destroy))
    if containerd.Places(profile).root.exists():
        _with_containerd(profile, destroy=destroy)
    elif config is not None and config.container_runtime not in (ENGINE, CONTAINERD):
        _with_socket(profile, config, destroy=destroy)


def _configuration(profile: Profile) -> ProfileConfig | None:
    try:
        return profile.load()
    except ClusterError:
        return None  # what is named after the profile can be removed without


async def _with_engine(profile: Profile, config: ProfileConfig | None, *, destroy: bool) -> None:
    from pinnace.cluster.runtime import make_engine

    engine = make_engine(profile, config)
    await engine.start()
    if destroy:
        await engine.destroy()
        return
    await _stop_everything(engine, await engine.list_pod_sandbox())
    await engine.monitor.shutdown()
    await engine.stop()


def _with_containerd(profile: Profile, *, destroy: bool) -> None:
    from pinnace.cluster import containerd
    from pinnace.cluster.runtime import network_options
    from pinnace.cri.api import CriError
    from pinnace.cri.engine.cgroups import Cgroups
    from pinnace.cri.engine.network import BridgeNetwork

    try:
        with containerd.running(profile) as places:
            asyncio.run(_at(places.endpoint, None, destroy=destroy))
    except (ClusterError, CriError) as error:  # when all is to go, it goes all the same
        if not destroy:
            raise ClusterError(RUNTIME_ENABLE, f"The containers cannot be ended: {error}") from error
    containerd.end(profile)
    containerd.sweep(profile)
    if destroy:
        BridgeNetwork(containerd.Places(profile).addresses, network_options(profile, None)).destroy()
        Cgroups(profile.cgroup_root).destroy()


def _with_socket(profile: Profile, config: ProfileConfig, *, destroy: bool) -> None:
    """On a runtime that is not the profile's own, the pods that are."""
    from pinnace.cluster.runtime import endpoint
    from pinnace.cri.api import CriError
    from pinnace.cri.engine.cgroups import Cgroups

    pods = profile.kubelet_dir / "pods"
    try:
        asyncio.run(_at(endpoint(profile, config), {one.name for one in pods.iterdir()}, destroy=destroy))
    except (OSError, CriError):
        return  # no pod was ever there, or the runtime is gone, and its containers are its own affair
    if destroy:
        Cgroups(profile.cgroup_root).destroy()


async def _at(endpoint: str, uids: set[str] | None, *, destroy: bool) -> None:
    """Stop, or remove, the sandboxes of the pods with these UIDs (None: of all) at a socket."""
    from pinnace.cri.runtime import open_remote

    opened = open_remote(endpoint)
    try:
        listed = await opened.runtime.list_pod_sandbox()
        sandboxes = [one for one in listed if uids is None or one.metadata.uid in uids]
        if not destroy:
            await _stop_everything(opened.runtime, sandboxes)
            return
        await asyncio.gather(*(opened.runtime.stop_pod_sandbox(one.id) for one in sandboxes))
        await asyncio.gather(*(opened.runtime.remove_pod_sandbox(one.id) for one in sandboxes))
    finally:
        await opened.close()


async def _stop_everything(runtime: RuntimeService, sandboxes: Sequence[PodSandbox]) -> None:
    """As at the end of a machine: SIGTERM to every container, SIGKILL after a while, then the sandboxes."""
    from pinnace.cri.api import ContainerState

    ids = {one.id for one in sandboxes}
    listed = [one for one in await runtime.list_containers() if one.pod_sandbox_id in ids]
    running = [one.id for one in listed if one.state is ContainerState.RUNNING]
    await asyncio.gather(*(runtime.stop_container(one, SHUTDOWN_GRACE) for one in running))
    await asyncio.gather(*(runtime.stop_pod_sandbox(one) for one in ids))


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
