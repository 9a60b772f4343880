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
from tests.e2e.test_kills import mark, processes_of
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
    cluster.need("supplementalGroupsPolicy")
    script = "sed -i s/nogroup:x:65534:/nogroup:x:65534:root/ /etc/group; sleep 1000"
    strict = {"supplementalGroups": [4242], "supplementalGroupsPolicy": "Strict"}
    create(cluster, namespace, pod("p", container("c", script), securityContext=strict))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    groups = cluster.kubectl("-n", namespace, "exec", "p", "--", "grep", "Groups:", "/proc/self/status").stdout
    assert groups.split() == ["Groups:", "0", "4242"]
    [status] = cluster.json("-n", namespace, "get", "pod", "p")["status"]["containerStatuses"]
    assert status["user"] == {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0, 4242]}}


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


def test_a_pod_with_users_of_its_own(cluster: Cluster, namespace: str) -> None:
    """Its root is nobody on the node, and yet owns its files, its volumes and its network."""
    cluster.need("userNamespaces")
    mounts = [{"name": "v", "mountPath": "/v"}, {"name": "s", "mountPath": "/s"}]
    volumes: list[Obj] = [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "s"}}]
    cluster.kubectl("-n", namespace, "create", "secret", "generic", "s", "--from-literal=k=v")
    init = container("init", "touch /v/from-init && chown 1000 /v/from-init", volumeMounts=mounts)
    main = container("c", "touch /v/x /root/y; cat /s/k > /v/k; httpd -p 80; sleep 1000", volumeMounts=mounts)
    main["env"] = [mark("users")]
    main["readinessProbe"] = {"tcpSocket": {"port": 80}, "periodSeconds": 1}  # then it has written all
    create(cluster, namespace, pod("p", main, initContainers=[init], volumes=volumes, hostUsers=False))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    owned = "stat -c %u /v/from-init /v/x /root/y /bin/busybox"
    fetch = "wget -q -O /dev/null http://127.0.0.1/none 2>&1"
    script = f"cat /proc/self/uid_map; id -u > /dev/stdout; {owned}; cat /v/k; echo; {fetch}"
    told = cluster.kubectl("-n", namespace, "exec", "p", "-c", "c", "--", "sh", "-c", script, check=False).stdout
    lines = told.splitlines()
    inside, outside, length = map(int, lines[0].split())
    assert (inside, length) == (0, 65536)
    assert outside >= 65536
    assert lines[1:7] == ["0", "1000", "0", "0", "0", "v"]
    assert "404" in told
    uid = cluster.json("-n", namespace, "get", "pod", "p")["metadata"]["uid"]
    on_node = cluster.directory / "kubelet" / "pods" / uid / "volumes" / "kubernetes.io~empty-dir" / "v"
    assert {path.name: path.stat().st_uid for path in on_node.iterdir()} == {"from-init": 1000, "x": 0, "k": 0}
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in processes_of("users")} == {outside}
