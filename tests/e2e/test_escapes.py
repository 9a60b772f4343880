"""Hostile images and hostile pods stay inside: none of them reads, changes or removes a canary on the machine.

What a container's start must not be led to is tried in tests/cri/engine/test_start_escapes.py, archives in
tests/cri/engine/images/test_image_layers.py, races for links in volumes in tests/cri/test_trees.py and
tests/kubelet/volumes/test_subpath.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import SLEEP, Obj, container, pod
from tests.e2e.test_pod_inside import shell, start
from tests.e2e.test_pod_life import WAITING, create, events, wait
from tests.support import system_calls
from tests.support.images import busybox_archive, link_entry, node_entry

pytestmark = [pytest.mark.e2e, pytest.mark.root]

CANARY = Path(f"/var/tmp/pinnace-canary-{os.getpid()}")  # named by images and pods, whose every link leads to it
HOSTILE = "hostile:1"
FORBIDDEN = {
    "mount": 165,
    "umount2": 166,
    "pivot_root": 155,
    "reboot": 169,
    "swapon": 167,
    "init_module": 175,
    "kexec_load": 246,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "perf_event_open": 298,
    "open_by_handle_at": 304,
    "setns": 308,
    "bpf": 321,
}
NEW_USER = (272, 0x10000000)  # unshare(CLONE_NEWUSER)


@pytest.fixture(scope="module")
def canary() -> Iterator[Path]:
    """A directory on the machine with a secret, to which nothing may happen; a file to write to beside it."""
    CANARY.mkdir(mode=0o700)
    (CANARY / "secret").write_text("the machine's own\n")
    before = look()
    yield CANARY
    try:
        assert look() == before
    finally:
        subprocess.run(["rm", "-rf", CANARY], check=True)


def look() -> dict[str, tuple[int, int, str]]:
    return {
        path.name: (path.stat().st_mode, path.stat().st_uid, path.read_text() if path.is_file() else "")
        for path in (CANARY, *CANARY.iterdir())
    }


@pytest.fixture(scope="module")
def hostile(cluster: Cluster, scratch: Path, canary: Path) -> str:
    """An image full of links to the machine."""
    calls = system_calls.program([*((number, 0) for number in FORBIDDEN.values()), NEW_USER])
    entries: list[Any] = [
        ("bin/calls", calls),
        link_entry("etc/hosts", f"{canary}/hosts"),
        link_entry("etc/resolv.conf", f"/../../../..{canary}/resolv.conf"),
        link_entry("etc/passwd", f"{canary}/secret"),
        link_entry("dev/termination-log", f"{canary}/message"),
        link_entry("out", str(canary)),
        link_entry("up", "../../../../../../../../var/tmp"),
        node_entry("disk", tarfile.BLKTYPE, 254, 0),
        node_entry("memory", tarfile.CHRTYPE, 1, 1),
        node_entry("pipe", tarfile.FIFOTYPE),
        ("/absolute", b"inside\n"),
        ("up/written-through-a-link", b"inside\n"),
        ("out/written-through-a-link", b"inside\n"),
    ]
    archive = busybox_archive(scratch / "hostile.tar", HOSTILE, entries=entries, WorkingDir="/out", User="0")
    cluster.pinnace("image", "load", str(archive))
    return HOSTILE


def of_image(image: str, script: str, **more: Any) -> Obj:
    return container("c", script, **more) | {"image": image}


def test_a_hostile_image_stays_in_its_root(cluster: Cluster, namespace: str, hostile: str, canary: Path) -> None:
    """Every mount lands, and every file is, below the container's root, as if that were the machine's."""
    script = f"pwd -P; cat {canary}/hosts | head -1; ls {canary}; cat /absolute; echo said > /dev/termination-log"
    mounts = [{"name": "v", "mountPath": "/out/volume"}, {"name": "v", "mountPath": "/up/volume"}]
    main = of_image(hostile, script, volumeMounts=mounts)
    create(cluster, namespace, pod("p", main, volumes=[{"name": "v", "emptyDir": {}}], restartPolicy="Never"))
    wait(cluster, namespace, "pod/p", ".status.phase", "Succeeded")
    lines = cluster.kubectl("-n", namespace, "logs", "p").stdout.splitlines()
    assert lines[:2] == [str(canary), "# Kubernetes-managed hosts file."]
    assert {"hosts", "resolv.conf", "volume"} <= set(lines[2:-1])
    assert lines[-1] == "inside"
    [status] = cluster.json("-n", namespace, "get", "pod", "p")["status"]["containerStatuses"]
    assert status["state"]["terminated"]["message"] == "said\n"
    assert {path.name for path in canary.iterdir()} == {"secret"}
    assert not Path("/var/tmp/volume").exists()
    assert not Path("/var/tmp/written-through-a-link").exists()


def test_devices_of_an_image_open_nothing(cluster: Cluster, namespace: str, hostile: str) -> None:
    start(cluster, namespace, pod("p", of_image(hostile, SLEEP)))
    script = "head -c1 /disk; head -c1 /memory; mknod /tmp/d b 254 0 && head -c1 /tmp/d; true"
    said = cluster.kubectl("-n", namespace, "exec", "p", "--", "sh", "-c", f"({script}) 2>&1").stdout
    assert [line.rpartition(": ")[2] for line in said.splitlines()] == ["Operation not permitted"] * 3


@pytest.mark.parametrize(
    "name", [f"../../../../../..{CANARY}/written", "a/../../../escaped"], ids=["up", "down and up"]
)
def test_an_archive_that_climbs_out_is_refused(cluster: Cluster, scratch: Path, canary: Path, name: str) -> None:
    archive = busybox_archive(scratch / "climbing.tar", "climbing:1", entries=[(name, b"out")])
    refused = cluster.pinnace("image", "load", str(archive), check=False)
    if cluster.runtime == "engine":
        assert refused.returncode != 0
        assert "escapes its root" in refused.stdout + refused.stderr
    assert {path.name for path in canary.iterdir()} == {"secret"}


def below(root: Path, pattern: str) -> list[Path]:
    """Directories whose paths are like it; others may go meanwhile, which `Path.glob` does not bear."""
    return [Path(path) for path, _, _ in os.walk(root) if fnmatch(path, pattern)]


def test_what_images_and_pods_hold_is_for_root_only(cluster: Cluster) -> None:
    """Else any user of the machine could run a setuid program of an image, or read what a pod wrote."""
    found = [Path(path) for path, _, files in os.walk(cluster.directory) if "busybox" in files]
    if cluster.runtime == "engine":
        assert found
    for directory in found:
        with pytest.raises(PermissionError):
            subprocess.run([directory / "busybox", "true"], user=65534, check=False)
    for directory in below(cluster.directory, "*/pods/*/volumes"):
        assert subprocess.run(["ls", directory], user=65534, capture_output=True, check=False).returncode != 0


def fact(lines: str, name: str) -> str:
    return next(line.split()[1] for line in lines.splitlines() if line.startswith(f"{name}:"))


def test_a_restricted_pod_has_no_power(cluster: Cluster, namespace: str, hostile: str) -> None:
    """Pod Security's level "restricted" lets it in, and nothing else is left to it."""
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    of_pod = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    of_container = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    start(cluster, namespace, pod("p", of_image(hostile, SLEEP, securityContext=of_container), securityContext=of_pod))
    for status in (shell(cluster, namespace, "p", f"cat /proc/{one}/status") for one in (1, "self")):
        powers = {name: fact(status, name) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        assert powers == dict.fromkeys(powers, "0" * 16)
        assert (fact(status, "NoNewPrivs"), fact(status, "Seccomp")) == ("1", "2")
    if system_calls.supported():
        words = shell(cluster, namespace, "p", "calls | od -An -v -td8 -w16").split()
        results = dict(zip([*FORBIDDEN, "unshare"], map(int, words[::2]), strict=True))
        assert results == dict.fromkeys(results, -1)  # EPERM
    said = shell(
        cluster, namespace, "p", "ping -c1 127.0.0.1 2>&1; chown 0 /tmp 2>&1; ls /proc/1/root/ > /dev/null; true"
    )
    assert said.count("ermi") == 2
    privileged = pod("q", container("c", SLEEP, securityContext={"privileged": True}))
    refused = cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(privileged), check=False)
    assert 'violates PodSecurity "restricted:latest": privileged' in refused.stderr


PROTECTED = ("sys/kernel/core_pattern", "sys/kernel/modprobe", "sysrq-trigger", "irq/default_smp_affinity")
HIDDEN = ("acpi", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi")


def test_a_usual_pod_has_the_usual_powers(cluster: Cluster, namespace: str) -> None:
    """The capabilities that Docker and containerd give, and a /proc and /sys that it can neither read out nor write."""
    start(cluster, namespace, pod("p", container("c", SLEEP)))
    status = shell(cluster, namespace, "p", "cat /proc/1/status")
    assert [fact(status, name) for name in ("CapPrm", "CapEff", "CapBnd")] == ["00000000a80425fb"] * 3
    assert [fact(status, name) for name in ("CapInh", "CapAmb")] == ["0" * 16] * 2
    hidden = " ".join(f"/proc/{name}" for name in HIDDEN)
    shown = shell(cluster, namespace, "p", f"for f in {hidden}; do [ -e $f ] && (ls -A $f; cat $f) 2>&1; done; true")
    assert {line for line in shown.splitlines() if "directory" not in line} <= set(hidden.split())
    assert shell(cluster, namespace, "p", "ls /sys/firmware").strip() == ""
    for path in PROTECTED:
        said = shell(cluster, namespace, "p", f"[ ! -e /proc/{path} ] || (echo 0 > /proc/{path}) 2>&1; true")
        assert not said or "Read-only file system" in said
    script = "mount -t tmpfs x /tmp; umount /proc; chroot /proc/1/root/.. ls /var/tmp; hostname h"
    said = shell(cluster, namespace, "p", f"({script}) 2>&1; true")
    assert said.lower().count("permi") == 3
    assert "pinnace" not in said
    if cluster.runtime == "engine":
        assert "Read-only file system" in shell(cluster, namespace, "p", "mkdir /sys/fs/cgroup/x 2>&1; true")
    assert shell(cluster, namespace, "p", "ls /proc/$$/fd; true").split() == ["0", "1", "2"]
    assert shell(cluster, namespace, "p", "kill -9 -1; kill -9 1; ps | grep -c 'slee[p] 1000'") == "1\n"


def test_a_link_in_a_volume_leads_nowhere(cluster: Cluster, namespace: str, canary: Path) -> None:
    """As a subPath it is refused; at the pod's end it is removed, and not what it leads to."""
    links = f"ln -s {canary} /v/out; ln -s /proc/1/root{canary} /v/root; ln -s ../../../../../../../../.. /v/up"
    deep = "d/" * 1500
    volume = [{"name": "v", "emptyDir": {}}]
    for name, path in (("one", "out"), ("two", "out/secret"), ("three", "root"), ("four", "up/etc")):
        dig = f"cd /v && mkdir -p {deep} && cd {deep} && mkdir -p {deep}" if name == "one" else "true"
        prepare = container("i", f"{links}; {dig}", volumeMounts=[{"name": "v", "mountPath": "/v"}])
        main = container("c", SLEEP, volumeMounts=[{"name": "v", "mountPath": "/x", "subPath": path}])
        create(cluster, namespace, pod(name, main, initContainers=[prepare], volumes=volume))
    for name in ("one", "two", "three", "four"):
        wait(cluster, namespace, f"pod/{name}", WAITING, "CreateContainerConfigError")
        why = 'failed to prepare subPath for volumeMount "v" of container "c"'
        assert events(cluster, namespace, name, "Failed") == f"Error: {why}"
    uids = [one["metadata"]["uid"] for one in cluster.json("-n", namespace, "get", "pods")["items"]]
    cluster.kubectl("-n", namespace, "delete", "pods", "--all", "--timeout=60s")
    [pods] = below(cluster.directory, "*/kubelet/pods")
    assert not {path.name for path in pods.iterdir()} & set(uids)


WRONG = {
    "Directory": ("/etc/hostname", "is not a directory"),
    "File": ("/etc", "is not a file"),
    "Socket": ("/etc/hostname", "is not a socket file"),
    "CharDevice": ("/etc/hostname", "is not a character device"),
    "BlockDevice": ("/dev/null", "is not a block device"),
}


def test_a_host_path_is_what_its_type_says(cluster: Cluster, namespace: str) -> None:
    for kind, (path, _) in WRONG.items():
        volume = {"name": "v", "hostPath": {"path": path, "type": kind}}
        main = container("c", SLEEP, volumeMounts=[{"name": "v", "mountPath": "/x"}])
        create(cluster, namespace, pod(kind.lower(), main, volumes=[volume]))
    for kind, (path, words) in WRONG.items():
        selector = f"involvedObject.name={kind.lower()},reason=FailedMount"
        found = ("get", "events", "--field-selector", selector, "--watch", "-o", "jsonpath={.message}{'\\n'}")
        with cluster.process("-n", namespace, *found, stdout=subprocess.PIPE) as watch:
            assert watch.stdout is not None
            told = watch.stdout.readline()
            watch.terminate()
        assert told == f'MountVolume.SetUp failed for volume "v" : hostPath type check failed: {path} {words}\n'


def test_what_would_lead_out_is_no_valid_pod(cluster: Cluster, namespace: str) -> None:
    def refusal(**more: Any) -> str:
        made = pod("p", container("c", SLEEP, **more), volumes=[{"name": "v", "emptyDir": {}}])
        answer = cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(made), check=False)
        assert answer.returncode != 0
        return answer.stderr

    def mount(**more: str) -> list[Obj]:
        return [{"name": "v", "mountPath": "/v", **more}]

    assert "must not contain '..'" in refusal(volumeMounts=mount(subPath="a/../../etc"))
    assert "must be a relative path" in refusal(volumeMounts=mount(subPath="/etc"))
    assert "must not contain '..'" in refusal(volumeMounts=mount(subPathExpr="../x"))
    words = "Bidirectional mount propagation is available only to privileged containers"
    assert words in refusal(volumeMounts=mount(mountPropagation="Bidirectional"))
    for key in ("..", "../x", "a/b"):
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {key: "x"}}
        answer = cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(config), check=False)
        assert "data[" in answer.stderr
        assert answer.returncode != 0
