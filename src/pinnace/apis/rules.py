"""Which rules belong to which kind, and which resources are second views of another.

A version of a group shares its rules with the others, as their fields agree; one that differs is listed in `VERSIONED`.
"""

from __future__ import annotations

from pinnace.apis.apps.controller_revision import CONTROLLER_REVISION
from pinnace.apis.apps.daemon_set import DAEMON_SET
from pinnace.apis.apps.deployment import DEPLOYMENT
from pinnace.apis.apps.replica_set import REPLICA_SET
from pinnace.apis.apps.stateful_set import STATEFUL_SET
from pinnace.apis.batch.job import JOB
from pinnace.apis.core.persistent_volume_claim import PERSISTENT_VOLUME_CLAIM
from pinnace.apis.core.pod import POD
from pinnace.apis.core.replication_controller import REPLICATION_CONTROLLER
from pinnace.apis.kind import Convert, Rules
from pinnace.machinery.meta import GVR

RULES: dict[tuple[str, str], Rules] = {
    ("", "PersistentVolumeClaim"): PERSISTENT_VOLUME_CLAIM,
    ("", "Pod"): POD,
    ("", "ReplicationController"): REPLICATION_CONTROLLER,
    ("apps", "ControllerRevision"): CONTROLLER_REVISION,
    ("apps", "DaemonSet"): DAEMON_SET,
    ("apps", "Deployment"): DEPLOYMENT,
    ("apps", "ReplicaSet"): REPLICA_SET,
    ("apps", "StatefulSet"): STATEFUL_SET,
    ("batch", "Job"): JOB,
}
"""By group and kind."""

VIEWS: dict[tuple[str, str, str], tuple[GVR, Convert | None, Convert | None]] = {}
"""By group, version and kind: where the objects are kept, and the way there and back."""
