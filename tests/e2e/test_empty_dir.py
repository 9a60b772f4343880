"""emptyDir volumes: whose they are, what may be done in them, who shares them."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import Obj, container, pod
from tests.e2e.tables import Row, logs, surprises
from tests.e2e.test_pod_life import create, wait

pytestmark = [pytest.mark.e2e, pytest.mark.root]

DISK: Obj = {"emptyDir": {}}
MEMORY: Obj = {"emptyDir": {"medium": "Memory"}}
MEDIUM = "grep -q ' /v tmpfs ' /proc/mounts && echo memory || echo disk"


def test_every_user_may_write_files_of_any_mode(cluster: Cluster, namespace: str) -> None:
    """Conformance: "EmptyDir, medium default, volume mode default", "EmptyDir, medium default, volume mode 0644",
    "EmptyDir, medium default, volume mode 0666", "EmptyDir, medium default, volume mode 0777", "EmptyDir, medium
    memory, volume mode 0644", "EmptyDir, medium memory, volume mode 0666", "EmptyDir, medium memory, volume mode 0777",
    "EmptyDir, medium memory, volume mode 0644, non-root user", "EmptyDir, medium memory, volume mode 0666,, non-root
    user", "EmptyDir, medium memory, volume mode 0777, non-root user"
    """
    rows = {}
    for medium, source in (("disk", DISK), ("memory", MEMORY)):
        directory = Row(script=f"stat -c %A /v | cut -c2-9; {MEDIUM}", says=["rwxrwxrw", medium], volumes={"v": source})
        rows[f"{medium}-itself"] = directory
        for user in (0, 1001):
            for mode in ("644", "666", "777"):
                script = f"echo content > /v/file; chmod {mode} /v/file; cat /v/file; stat -c '%a %u' /v/file; {MEDIUM}"
                rows[f"{medium}-{mode}-{user}"] = Row(
                    script=script,
                    says=["content", f"{mode} {user}", medium],
                    volumes={"v": source},
                    spec={"securityContext": {"runAsUser": user}},
                )
    assert surprises(cluster, namespace, rows) == {}


def test_containers_of_a_pod_share_it(cluster: Cluster, namespace: str) -> None:
    """Conformance: "EmptyDir, Shared volumes between containers" """
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/shared"}]}
    reader = container("reader", "until [ -f /shared/data ]; do sleep 0.1; done; cat /shared/data", **mount)
    writer = container("writer", "echo hello > /shared/tmp; mv /shared/tmp /shared/data", **mount)
    made = pod("p", reader, writer, labels={"of": "two"}, volumes=[{"name": "v", **DISK}], restartPolicy="Never")
    create(cluster, namespace, made)
    wait(cluster, namespace, "pod/p", ".status.phase", "Succeeded")
    assert logs(cluster, namespace, "of=two") == {"p": ["hello"]}
