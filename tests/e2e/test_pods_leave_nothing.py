"""Two hundred pods come and go, and the node is as it was: mounts, namespaces, cgroups, links, files, processes."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from pinnace.cluster.profile import Profile
from tests.e2e.conftest import Cluster
from tests.e2e.pods import Obj, container, pod
from tests.e2e.test_crash import processes
from tests.e2e.test_leaves_nothing import Trace, left_behind
from tests.e2e.test_pod_life import create, wait

pytestmark = [pytest.mark.e2e, pytest.mark.root]

PODS = 100  # of each kind
LIMIT = 60.0  # seconds for the last chores after the last pod
FOREVER = "trap exit TERM; sleep 86400 & wait"


def spec(script: str, **more: object) -> Obj:
    """A pod with a bit of everything that must be undone."""
    volumes: list[Obj] = [
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "config", "configMap": {"name": "config"}},
        {"name": "secret", "secret": {"secretName": "secret"}},
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    mounts.append({"name": "config", "mountPath": "/part", "subPath": "key"})
    init = container("prepare", "echo ready > /disk/ready", volumeMounts=mounts)
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
        "processes": set(processes(cluster).values()),
    }


def files(root: Path) -> set[str]:
    """What is below a directory; logs and the store grow by themselves."""
    found = set()
    for directory, folders, names in os.walk(root):
        if directory == str(root):
            folders[:] = [folder for folder in folders if folder != "logs"]
            names = [name for name in names if not name.startswith("state.db")]
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


def test_two_hundred_pods_leave_nothing(cluster: Cluster, namespace: str) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"key": "value"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "secret"}, "stringData": {"key": "value"}}
    create(cluster, namespace, config, secret, pod("first", container("c", "exit 0"), restartPolicy="Never"))
    wait(cluster, namespace, "pod/first", ".status.phase", "Succeeded")
    cluster.kubectl("-n", namespace, "delete", "pod", "first")  # what there is but once, like the bridge, stays
    before, open_before = trace(cluster), descriptors(cluster)
    labels = {"app": "many"}
    running = {"metadata": {"labels": labels}, "spec": spec(FOREVER)}
    ending = {"metadata": {"labels": labels}, "spec": spec("exit 0", restartPolicy="Never")}
    create(
        cluster, namespace,
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"},
         "spec": {"replicas": PODS, "selector": {"matchLabels": labels}, "template": running}},
    )  # fmt: skip
    cluster.kubectl("-n", namespace, "rollout", "status", "deployment/many", "--timeout=120s")
    assert len(trace(cluster)["links"] - before["links"]) == PODS
    cluster.kubectl("-n", namespace, "delete", "deployment", "many", "--cascade=foreground", "--timeout=120s")
    cluster.kubectl("-n", namespace, "wait", "--for=delete", "pod", "-l", "app=many", "--timeout=120s")
    create(
        cluster, namespace,
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "many"},
         "spec": {"completions": PODS, "parallelism": PODS, "template": ending}},
    )  # fmt: skip
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Complete", "job/many", "--timeout=120s")
    cluster.kubectl("-n", namespace, "delete", "job", "many", "--cascade=foreground", "--timeout=120s")
    deadline = time.monotonic() + LIMIT
    while True:
        left, still_open = left_behind(before, trace(cluster)), descriptors(cluster) - open_before
        if not (left or still_open) or time.monotonic() > deadline:
            break
        time.sleep(0.2)  # files of a pod go a moment after its object
    assert (left, still_open) == ({}, Counter())
