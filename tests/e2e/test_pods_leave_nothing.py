"""Two hundred pods come and go, and the node is as it was: no mount, file, cgroup, link, rule or process more."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from pinnace.cluster.profile import Profile
from pinnace.wire.inotify import DIRECTORY_CHANGES, Watcher
from tests.e2e.conftest import Cluster
from tests.e2e.pods import IMAGE, Obj, container, pod
from tests.e2e.test_crash import kill, processes
from tests.e2e.test_leaves_nothing import Trace, left_behind
from tests.e2e.test_pod_life import WAITING, create, wait

pytestmark = [pytest.mark.e2e, pytest.mark.root]

RUNNING, ENDING, FAILING, UNFINISHED = 90, 60, 30, 20  # pods of each sort; a node holds 110 at a time
SHARE = {"engine": 1, "containerd": 3}  # as many pods less on a runtime whose pods cost that much more of the CPU
CHURNED = 20
LIMIT = 120.0  # seconds for the last chores after the last pod, and for a killed kubelet to begin again
FOREVER = "trap exit TERM; sleep 86400 & wait"


def spec(script: str, **more: object) -> Obj:
    """A pod with a bit of everything that must be undone."""
    volumes: list[Obj] = [
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "config", "configMap": {"name": "config"}},
        {"name": "secret", "secret": {"secretName": "secret"}},
        {"name": "down", "downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"name": "all", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        {"name": "host", "hostPath": {"path": "/etc/hostname", "type": "File"}},
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    mounts.append({"name": "config", "mountPath": "/part", "subPath": "key"})
    mounts.append({"name": "disk", "mountPath": "/made", "subPath": "deep/er"})
    again = (
        "ln -snf /etc /disk/link; [ -p /disk/p ] || mkfifo /disk/p"  # a runtime that is killed may forget that it ran
    )
    init = container("prepare", f"echo ready > /disk/ready; {again}", volumeMounts=mounts)
    main = container("main", f"cat /disk/ready /part; {script}", volumeMounts=mounts)
    return {"initContainers": [init], "containers": [main], "volumes": volumes, **more}


def trace(cluster: Cluster) -> Trace:
    """All that pods of one cluster could leave on the machine."""
    run = Profile(cluster.profile, cluster.home).run_dir
    mark = run.name.rpartition("-")[2]
    roots = (str(cluster.directory), str(run))
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {
        "mounts": {mount for mount in mounts if mount.startswith(roots)},
        "files": {path for root in (cluster.directory, run) for path in files(root)},
        "cgroups": {
            path
            for found in (*Path("/sys/fs/cgroup").glob(f"*{mark}"), *Path("/sys/fs/cgroup").glob(f"*/*{mark}"))
            for path, _, _ in os.walk(found)
        },
        "links": {line.split()[1] for line in links if f"pnb-{mark}" in line},
        "rules": {line for line in rules() if mark in line},
        "processes": set(processes(cluster).values()),
    }


def rules() -> list[str]:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    command = ["nft", "-s", "list", "ruleset"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PATH": path})
    return listed.stdout.splitlines()


def files(root: Path) -> set[str]:
    """What is below a directory; logs and the store grow by themselves."""
    found = set()
    for directory, folders, names in os.walk(root):
        if directory == str(root):
            folders[:] = [folder for folder in folders if folder != "logs"]
            names = [name for name in names if not name.startswith("state.db")]
        if directory.endswith("/io.containerd.snapshotter.v1.overlayfs"):
            folders.clear()  # the last of them go when containerd next removes one
        found |= {f"{directory}/{name}" for name in (*folders, *names)}
    return found


def descriptors(cluster: Cluster) -> Counter[str]:
    """What the node's server has open, but for its connections, which it keeps for a while."""
    [node] = [pid for pid, command in processes(cluster).items() if "cluster.node" in command]
    found = Counter(map(target, Path(f"/proc/{node}/fd").iterdir()))
    return Counter({name: count for name, count in found.items() if name and not name.startswith("socket:")})


def target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""  # closed meanwhile


def what_is_left(cluster: Cluster, before: Trace, open_before: Counter[str]) -> tuple[Trace, Counter[str]]:
    """What there is more than before, once nothing is or at the end of all patience: files go after a pod's object."""

    async def wait() -> tuple[Trace, Counter[str]]:
        watcher = Watcher()
        for path in map(Path, before["files"] | before["cgroups"]):
            with suppress(OSError):
                watcher.add(path, DIRECTORY_CHANGES)
        deadline = time.monotonic() + LIMIT
        try:
            while True:
                left, still_open = left_behind(before, trace(cluster)), descriptors(cluster) - open_before
                if not (left or still_open) or time.monotonic() > deadline:
                    return left, still_open
                await watcher.wait(1)
        finally:
            watcher.close()

    return asyncio.run(wait())


NOTHING: tuple[Trace, Counter[str]] = ({}, Counter())
CONFIG: Obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"key": "value"}}
SECRET: Obj = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "secret"}, "stringData": {"key": "value"}}


def prepare(cluster: Cluster, namespace: str) -> None:
    """Objects that the pods mount, and a first pod: what it leaves is there but once, like the bridge."""
    create(cluster, namespace, CONFIG, SECRET, pod("first", container("c", "exit 0"), restartPolicy="Never"))
    wait(cluster, namespace, "pod/first", ".status.phase", "Succeeded")
    cluster.kubectl("-n", namespace, "delete", "pod", "first")


def deployment(replicas: int) -> Obj:
    labels = {"app": "many"}
    template = {"metadata": {"labels": labels}, "spec": spec(FOREVER)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "many"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def job(completions: int) -> Obj:
    template = {"metadata": {"labels": {"app": "many"}}, "spec": spec("exit 0", restartPolicy="Never")}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "many"},
        "spec": {"completions": completions, "parallelism": completions, "backoffLimit": 100, "template": template},
    }


def gone(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.kubectl("-n", namespace, "delete", name, "--cascade=foreground", "--timeout=120s")
    cluster.kubectl("-n", namespace, "wait", "--for=delete", "pod", "-l", "app=many", "--timeout=120s")


def failing(count: int) -> list[Obj]:
    """Pods that end again and again, that cannot start, that have no image, and whose volumes are not there."""
    volume = [{"name": "v", "configMap": {"name": "absent"}}]
    sorts = [
        {"containers": [container("c", "exit 1")]},
        {"containers": [{"name": "c", "image": IMAGE, "command": ["/no/such/program"]}]},
        {"containers": [{"name": "c", "image": "no.such/image:1", "imagePullPolicy": "Never"}]},
        {"containers": [container("c", FOREVER, volumeMounts=[{"name": "v", "mountPath": "/v"}])], "volumes": volume},
        spec(FOREVER, initContainers=[container("i", "exit 1")]),
    ]
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"failing-{number}", "labels": {"app": "many"}},
            "spec": {**sorts[number % len(sorts)], "terminationGracePeriodSeconds": 0},
        }
        for number in range(count)
    ]


def test_two_hundred_pods_leave_nothing(cluster: Cluster, namespace: str) -> None:
    """Those that run, that end, that fail in every way, and that are deleted while they are being started."""
    running, ending, broken, unfinished = (
        count // SHARE[cluster.runtime] for count in (RUNNING, ENDING, FAILING, UNFINISHED)
    )
    prepare(cluster, namespace)
    before, open_before = trace(cluster), descriptors(cluster)
    create(cluster, namespace, deployment(running))
    cluster.kubectl("-n", namespace, "rollout", "status", "deployment/many", "--timeout=120s")
    assert len(trace(cluster)["links"] - before["links"]) == running
    gone(cluster, namespace, "deployment/many")
    create(cluster, namespace, job(ending), *failing(broken))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Complete", "job/many", "--timeout=120s")
    for number, (path, reason) in enumerate(FAILURES):
        wait(cluster, namespace, f"pod/failing-{number}", path, reason)
    cluster.kubectl("delete", "--raw", f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3Dmany,!job-name")
    gone(cluster, namespace, "job/many")
    create(cluster, namespace, deployment(unfinished))
    wait(cluster, namespace, "deployment/many", ".status.replicas", str(unfinished))
    gone(cluster, namespace, "deployment/many")
    assert what_is_left(cluster, before, open_before) == NOTHING


FAILURES = (
    (WAITING, "CrashLoopBackOff"),
    (WAITING, "CrashLoopBackOff"),
    (WAITING, "ErrImageNeverPull"),
    (WAITING, "ContainerCreating"),
    (".status.initContainerStatuses[0].state.waiting.reason", "CrashLoopBackOff"),
)
"""What shows that pods of each sort have failed."""


def test_kills_while_pods_come_and_go_leave_nothing(cluster: Cluster, namespace: str) -> None:
    """The kubelet with its engine, the containers' monitor, and both at once."""
    prepare(cluster, namespace)
    before = trace(cluster)

    def begun() -> set[str]:
        """The events that tell of a kubelet's beginning: each tells of one, and none is deleted with a namespace."""
        found = cluster.kubectl("-n", "default", "get", "events", "--field-selector=reason=Starting", "-o", "name")
        return set(found.stdout.split())

    def kill_servers(*names: str) -> None:
        kill([pid for pid, command in processes(cluster).items() if any(name in command for name in names)])

    def kill_while_they_come(*names: str) -> None:
        """Kill them, the kubelet among them, and wait until its successor begins."""
        known, deadline = begun(), time.monotonic() + LIMIT
        kill_servers(*names)
        while begun() <= known:
            assert time.monotonic() < deadline, f"no kubelet begins after {names} were killed"

    create(cluster, namespace, deployment(CHURNED))
    kill_while_they_come("cluster.node")
    kill_while_they_come("cluster.node", cluster.keeper)
    cluster.kubectl("-n", namespace, "rollout", "status", "deployment/many", "--timeout=120s")
    cluster.kubectl("-n", namespace, "delete", "deployment", "many", "--wait=false")
    kill_servers("cluster.node")
    cluster.kubectl("-n", namespace, "wait", "--for=delete", "pod", "-l", "app=many", "--timeout=120s")
    create(cluster, namespace, job(CHURNED))
    kill_servers(cluster.keeper)
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Complete", "job/many", "--timeout=120s")
    gone(cluster, namespace, "job/many")
    left, _ = what_is_left(cluster, before, descriptors(cluster))
    assert left == {}
