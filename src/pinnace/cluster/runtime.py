"""Which container runtime a profile's pods run on: what users call it, and how the node reaches it.

The embedded engine, a containerd that the profile has for itself (`containerd.py`), or one that is there already and
serves CRI v1 on a socket: CRI-O, or any by its path. That one serves no other kubelet, and has a network of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pinnace.cluster import containerd, guard, pause
from pinnace.cluster.profile import CONTAINERD, CRIO, CRIO_SOCKET, ENGINE, Profile, ProfileConfig
from pinnace.cri.runtime import OpenRuntime, open_remote

if TYPE_CHECKING:
    from pinnace.cri.engine.engine import Engine
    from pinnace.cri.engine.network import NetworkOptions


def endpoint(profile: Profile, config: ProfileConfig) -> str:
    """Where a runtime other than the engine is reached."""
    named = {CONTAINERD: containerd.Places(profile).endpoint, CRIO: f"unix://{CRIO_SOCKET}"}
    return named.get(config.container_runtime, config.container_runtime)


def network_options(profile: Profile, config: ProfileConfig | None) -> NetworkOptions:
    """The names of the pods' network; without a configuration only good for taking it apart."""
    from pinnace.cri.engine.network import NetworkOptions

    return NetworkOptions(
        bridge=profile.pod_bridge,
        table=f"{profile.table_prefix}-engine",
        cluster_cidrs=config.pod_cidr.split(",") if config else [],
    )


def make_engine(profile: Profile, config: ProfileConfig | None) -> Engine:
    """The profile's engine, not started; without a configuration only good for taking it apart."""
    from pinnace.cri.engine.engine import Engine, EngineOptions

    options = EngineOptions(network=network_options(profile, config), cgroup_prefix=profile.cgroup_root)
    engine = Engine(profile.engine_dir, profile.run_dir / "engine", options)
    # The monitor must outlive the servers, and its containers must not keep the guard from acting.
    engine.monitor.on_spawn = lambda pid: guard.release(profile, pid)
    return engine


async def open_runtime(profile: Profile, config: ProfileConfig) -> OpenRuntime:
    """Take the runtime into use; the profile's containerd may be starting yet. Raises CriError."""
    if config.container_runtime == ENGINE:
        engine = make_engine(profile, config)
        await engine.start()
        return OpenRuntime(engine, engine, engine.cgroups, engine.stop)
    if config.container_runtime != CONTAINERD:
        return open_remote(endpoint(profile, config))
    return await _open_containerd(profile, config)


async def _open_containerd(profile: Profile, config: ProfileConfig) -> OpenRuntime:
    from pinnace.cluster.pod_network import BridgedRuntime
    from pinnace.cri.api import ImageSpec
    from pinnace.cri.engine.cgroups import Cgroups
    from pinnace.cri.engine.network import BridgeNetwork
    from pinnace.cri.remote import RemoteImageService

    places = containerd.Places(profile)
    network = BridgeNetwork(places.addresses, network_options(profile, config))
    runtime, images = BridgedRuntime(places.endpoint, network), RemoteImageService(places.endpoint)

    async def close() -> None:
        await runtime.close()
        await images.close()

    await runtime.serving()
    image = ImageSpec(image=pause.NAME)
    while await images.image_status(image) is None:  # the CRI hears of it a moment after it was loaded
        await asyncio.to_thread(containerd.load_pause, places)
    await runtime.restore()
    return OpenRuntime(runtime, images, Cgroups(""), close)
