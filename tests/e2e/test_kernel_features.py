"""What pods ask of the kernel, with real containers: seccomp profiles, groups, mounts that are seen outside."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import SLEEP, container, pod
from tests.e2e.test_pod_life import WAITING, create, events, wait

pytestmark = [pytest.mark.e2e, pytest.mark.root]

Obj = dict[str, Any]


def test_a_seccomp_profile_of_the_node_confines_a_container(cluster: Cluster, namespace: str) -> None:
    directory = cluster.directory / "kubelet" / "seccomp" / "profiles"
    directory.mkdir(parents=True, exist_ok=True)
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    (directory / "no-directories.json").write_text(json.dumps(profile))
    present, missing = (
        {"seccompProfile": {"type": "Localhost", "localhostProfile": f"profiles/{name}.json"}}
        for name in ("no-directories", "none")
    )
    create(
        cluster,
        namespace,
        pod("p", container("c", "mkdir /tmp/x 2>&1; exit 0"), securityContext=present, restartPolicy="Never"),
        pod("q", container("c", SLEEP), securityContext=missing),
    )
    wait(cluster, namespace, "pod/p", ".status.phase", "Succeeded")
    told = cluster.kubectl("-n", namespace, "logs", "p").stdout
    assert told == "mkdir: can't create directory '/tmp/x': Operation not permitted\n"
    wait(cluster, namespace, "pod/q", WAITING, "CreateContainerError")
    assert "cannot load seccomp profile" in events(cluster, namespace, "q", "Failed")


def test_a_strict_policy_keeps_groups_of_the_image_out(cluster: Cluster, namespace: str) -> None:
    script = "sed -i s/nogroup:x:65534:/nogroup:x:65534:root/ /etc/group; sleep 1000"
    strict = {"supplementalGroups": [4242], "supplementalGroupsPolicy": "Strict"}
    create(cluster, namespace, pod("p", container("c", script), securityContext=strict))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    groups = cluster.kubectl("-n", namespace, "exec", "p", "--", "grep", "Groups:", "/proc/self/status").stdout
    assert groups.split() == ["Groups:", "4242"]


@pytest.fixture
def shared(scratch: Path) -> Iterator[Path]:
    """A directory on a mount that passes on what is mounted in it."""
    directory = scratch / "shared"
    directory.mkdir()
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    subprocess.run(["mount", "--make-shared", directory], check=True)
    yield directory
    subprocess.run(["umount", "--recursive", "--lazy", directory], check=True)


def test_mounts_go_from_one_container_to_another(cluster: Cluster, namespace: str, shared: Path) -> None:
    volume = {"name": "v", "hostPath": {"path": str(shared)}}

    def mount(way: str) -> list[Obj]:
        return [{"name": "v", "mountPath": "/v", "mountPropagation": way}]

    create(
        cluster,
        namespace,
        pod(
            "p",
            container("giver", SLEEP, volumeMounts=mount("Bidirectional"), securityContext={"privileged": True}),
            container("taker", SLEEP, volumeMounts=mount("HostToContainer")),
            container("alone", SLEEP, volumeMounts=mount("None")),
            volumes=[volume],
        ),
    )
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    giving = "mkdir /v/m; mount -t tmpfs tmpfs /v/m; touch /v/m/from-giver"
    cluster.kubectl("-n", namespace, "exec", "p", "-c", "giver", "--", "sh", "-c", giving)
    seen = "until [ -e /v/m/from-giver ]; do sleep 0.1; done"
    cluster.kubectl("-n", namespace, "exec", "p", "-c", "taker", "--", "sh", "-c", seen, timeout=60)
    alone = cluster.kubectl("-n", namespace, "exec", "p", "-c", "alone", "--", "ls", "/v/m").stdout
    giver = cluster.kubectl("-n", namespace, "exec", "p", "-c", "giver", "--", "umount", "/v/m")
    assert (alone, giver.returncode) == ("", 0)
