"""What every kind of volume is given, and what it gives back.

A kind is a function `async set_up(context, volume) -> Path`; it may be called again for a volume that is already there
(a refresh, or a kubelet started anew), and raises `VolumeError` in the words that a FailedMount event shows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pinnace.client.client import Client
from pinnace.kubelet.containers.env import Fetch, PodFacts
from pinnace.kubelet.csi.drivers import CsiDrivers
from pinnace.kubelet.volumes.pod_certificates import PodCertificates
from pinnace.kubelet.volumes.tokens import Tokens
from pinnace.machinery.meta import Obj, uid_of

if TYPE_CHECKING:
    from pinnace.kubelet.volumes.disks import Disks


class VolumeError(Exception):
    """The volume cannot be made ready now; `operation` says what failed, `volume` its name if not the pod's."""

    def __init__(self, why: str, *, operation: str = "MountVolume.SetUp failed", volume: str = "") -> None:
        super().__init__(why)
        self.operation = operation
        self.volume = volume

    def event(self, name: str) -> tuple[str, str]:
        """Reason and message of the event that tells it of the volume that the pod calls `name`."""
        reason = _REASONS.get(self.operation.partition(".")[0], "FailedMount")
        return reason, f'{self.operation} for volume "{self.volume or name}" : {self}'


class UnprocessedError(VolumeError):
    """What the volume is cannot be found out now."""


_REASONS = {
    "AttachVolume": "FailedAttachVolume",
    "MapVolume": "FailedMapVolume",
    "NodeExpandVolume": "VolumeResizeFailed",
}


@dataclass(slots=True, kw_only=True)
class VolumeContext:
    """One pod's volumes being made ready."""

    pod: Obj
    pods_dir: Path
    facts: PodFacts
    fetch: Fetch
    tokens: Tokens
    bundles: Callable[[], Awaitable[list[Obj]]]  # every ClusterTrustBundle
    certificates: PodCertificates
    client: Client
    csi: CsiDrivers
    disks: Disks
    node: Callable[[], Obj | None] = lambda: None  # this node, as the API has it
    tell: Callable[[Obj, str, str, str], None] = lambda *_: None  # an event: of what, its type, reason and message
    plugins: dict[str, str] = field(default_factory=dict)  # what makes a volume ready, by its name, as far as is known

    def directory(self, plugin: str, name: str) -> Path:
        """`<pods>/<uid>/volumes/kubernetes.io~<plugin>/<name>`."""
        return self.pods_dir / uid_of(self.pod) / "volumes" / f"kubernetes.io~{plugin}" / name

    @property
    def fs_group(self) -> int | None:
        group = (self.pod["spec"].get("securityContext") or {}).get("fsGroup")
        return None if group is None else int(group)


SetUp = Callable[[VolumeContext, Obj], Awaitable[Path]]
