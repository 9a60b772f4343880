"""`pinnace delete`: nothing stays: no process, mount, namespace, link, rule, cgroup, file or kubeconfig entry."""

from __future__ import annotations

from pinnace.cluster.preflight import require_root
from pinnace.cluster.profile import Profile
from pinnace.cluster.progress import Progress
from pinnace.cluster.teardown import tear_down
from pinnace.cluster.turns import turn


def delete(profile: Profile, progress: Progress) -> None:
    """Delete a cluster, also a corrupt or half-made one. Idempotent: a profile that is not there is deleted already."""
    require_root()
    progress.step("Delete", f'Deleting cluster "{profile.name}"')
    with turn(profile):
        existed = profile.directory.exists() or profile.run_dir.exists()
        tear_down(profile)
    progress.done(f'Cluster "{profile.name}" is deleted' if existed else f'There is no cluster "{profile.name}"')
