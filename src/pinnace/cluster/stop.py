"""`pinnace stop`: the machine is switched off; its data stays."""

from __future__ import annotations

from pinnace.cluster import teardown, turns
from pinnace.cluster.profile import Profile
from pinnace.cluster.progress import Progress

TOTAL_STEPS = 3


def stop(profile: Profile, progress: Progress) -> None:
    """End the servers, then the containers. Idempotent; raises ClusterError for a profile that is not there."""
    from pinnace.cluster.preflight import require_root

    require_root()
    with turns.turn(profile):
        profile.load()
        progress.step("Servers", "Stopping the node and the control plane")
        teardown.stop_servers(profile)
        progress.step("Containers", "Stopping the containers")
        teardown.stop_containers(profile)
        teardown.remove_kernel_objects(profile)
    progress.done(f'Cluster "{profile.name}" is stopped')
