"""Controllers and scheduler killed and started again at random while hundreds of Deployments come, change and go."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path

import pytest

from pinnace.kubelet.hollow.behaviour import PREFIX
from pinnace.machinery.meta import Obj, controller_of, get_in, is_deleting, labels_of, name_of, uid_of
from pinnace.testing import Cluster
from pinnace.testing.api import Watch
from tests.support.manifests import deployment, unreal_pod

PINNACE = Path(sys.executable).with_name("pinnace")
LIMIT = 240.0  # seconds
DEPLOYMENTS, JOBS = 500, 60
KILLS = 12


class Keeper(threading.Thread):
    """Keeps one server running; every life but the last ends by SIGKILL after a random time."""

    def __init__(self, directory: Path, server: str, kubeconfig: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self._directory = directory
        self._command = [str(PINNACE), server, f"--kubeconfig={kubeconfig}", "--leader-elect=false"]
        self._random = random.Random(seed)
        self._name = server
        self._ended = threading.Event()
        self.done = threading.Event()  # set when the last life begins

    def run(self) -> None:
        for life in range(KILLS + 1):
            process = self._begin()
            if life == KILLS:
                self.done.set()
            self._ended.wait(self._random.uniform(0.2, 1.5) if life < KILLS else None)
            process.send_signal(signal.SIGKILL)
            process.wait()
            if self._ended.is_set():
                return

    def close(self) -> None:
        self._ended.set()
        self.join(LIMIT)

    def _begin(self) -> subprocess.Popen[bytes]:
        """Start it, and wait until it says that it works: a life is counted from there."""
        address = self._directory / f"{self._name}.sock"
        address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(address))
            ready.settimeout(60)
            with (self._directory / f"{self._name}.log").open("ab") as log:
                environment = os.environ | {"NOTIFY_SOCKET": str(address)}
                process = subprocess.Popen(self._command, stdout=log, stderr=log, env=environment)
            ready.recv(64)
        return process


class Observer:
    """Sees every ReplicaSet and every pod there ever was, and what must never be."""

    def __init__(self, cluster: Cluster) -> None:
        self._allowed: dict[str, int] = {}  # Deployment -> pods at a time
        self._asked: dict[str, dict[str, int]] = {}  # Deployment -> uid of a set -> its replicas
        self._most_asked: dict[str, int] = {}  # uid of a set -> the most replicas ever asked of it
        self._alive: dict[str, set[str]] = {}  # uid of a set -> uids of its pods that are not going
        self._most_alive: dict[str, int] = {}  # uid of a set -> the most there ever were
        self._places: dict[str, str] = {}  # uid of a pod -> node
        self._of_job: dict[str, set[str]] = {}  # Job -> uids of its pods
        self._wrongs: list[str] = []
        self._watches = {"replicasets": self._see_set, "pods": self._see_pod}
        for resource, see in self._watches.items():
            watch = cluster.api.watch(resource, "default", timeout=10 * LIMIT)  # it ends when nothing happens
            threading.Thread(target=self._follow, args=(watch, see), daemon=True).start()

    def allow(self, deployment: str, replicas: int) -> int:
        """Note what a Deployment is about to ask for, with the quarter that a rollout adds; `replicas`."""
        self._allowed[deployment] = max(self._allowed.get(deployment, 0), replicas + ceil(replicas / 4))
        return replicas

    def wrongs(self) -> list[str]:
        """Everything that should not have happened."""
        doubled = [
            f"a set was asked for {self._most_asked[uid]} pods and had {most}"
            for uid, most in self._most_alive.items()
            if most > self._most_asked[uid]
        ]
        again = [f"{job} ran {len(pods)} times" for job, pods in self._of_job.items() if len(pods) > 1]
        return self._wrongs + doubled + again

    def _follow(self, watch: Watch, see: Callable[[str, Obj], None]) -> None:
        for event in watch:
            see(event["type"], event["object"])

    def _see_set(self, kind: str, replica_set: Obj) -> None:
        app, uid = labels_of(replica_set)["app"], uid_of(replica_set)
        replicas: int = 0 if kind == "DELETED" else replica_set["spec"]["replicas"]
        self._most_asked[uid] = max(self._most_asked.get(uid, 0), replicas)
        asked = self._asked.setdefault(app, {})
        asked[uid] = replicas
        if sum(asked.values()) > self._allowed[app]:
            self._wrongs.append(f"{app} asks for {sum(asked.values())} pods, {self._allowed[app]} are allowed")

    def _see_pod(self, kind: str, pod: Obj) -> None:
        uid, owner = uid_of(pod), controller_of(pod)
        assert owner is not None
        node = get_in(pod, "spec", "nodeName", default="")
        if self._places.setdefault(uid, node) not in ("", node):
            self._wrongs.append(f"{name_of(pod)} moved from {self._places[uid]} to {node}")
        self._places[uid] = node
        if owner["kind"] == "Job":
            self._of_job.setdefault(owner["name"], set()).add(uid)
            return
        alive = self._alive.setdefault(owner["uid"], set())
        if kind == "DELETED" or is_deleting(pod):
            alive.discard(uid)
        else:
            alive.add(uid)
            self._most_alive[owner["uid"]] = max(self._most_alive.get(owner["uid"], 0), len(alive))


@contextmanager
def kept(cluster: Cluster, seed: int) -> Iterator[list[Keeper]]:
    keepers = []
    for number, server in enumerate(("kube-controller-manager", "kube-scheduler")):
        user = cluster.kubeconfig_for(f"system:{server}", ("system:masters",))
        keepers.append(Keeper(cluster.directory, server, user, seed + number))
    for keeper in keepers:
        keeper.start()
    try:
        yield keepers
    finally:
        for keeper in keepers:
            keeper.close()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(controllers=False, scheduler=False, nodes=20) as running:
        yield running


def test_everything_converges_and_nothing_is_done_twice(cluster: Cluster) -> None:
    """No Deployment asks for more pods than its surge allows, no set makes more than it is asked for, no Job two."""
    seed = random.randrange(10_000)
    chance = random.Random(seed)
    observer = Observer(cluster)
    with kept(cluster, seed) as keepers:
        wanted = churn(cluster, observer, chance)
        for keeper in keepers:
            assert keeper.done.wait(LIMIT)
        for name in wanted:
            cluster.api.wait_for("deployments", name, _is_rolled_out, "default", timeout=LIMIT)
        for number in range(JOBS):
            cluster.api.wait_for("jobs", f"job-{number}", "Complete", "default", timeout=LIMIT)
        cluster.api.wait_until(lambda: not _leftovers(cluster, wanted), timeout=LIMIT)
    assert observer.wrongs() == [], f"seed {seed}"


def churn(cluster: Cluster, observer: Observer, chance: random.Random) -> dict[str, int]:
    """Make, scale, update and delete; the Deployments that remain and their replicas."""
    wanted: dict[str, int] = {}
    for number in range(DEPLOYMENTS):
        name = f"d{number}"
        wanted[name] = observer.allow(name, chance.randint(1, 4))
        cluster.api.create(deployment(name, wanted[name], unreal_pod()), "default")
        if number < JOBS:
            cluster.api.create(_job(f"job-{number}"), "default")
        other = chance.choice(sorted(wanted))
        match chance.randrange(8):
            case 0:
                wanted[other] = observer.allow(other, chance.randint(1, 5))
                cluster.api.patch("deployments", other, {"spec": {"replicas": wanted[other]}}, "default")
            case 1:
                cluster.api.patch("deployments", other, _new_template(number), "default")
            case 2:
                cluster.api.delete("deployments", other, "default")
                del wanted[other]
    return wanted


def _new_template(number: int) -> Obj:
    return {"spec": {"template": {"metadata": {"annotations": {"change": str(number)}}}}}


def _job(name: str) -> Obj:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "none"}]}
    annotations = {f"{PREFIX}run-seconds": "0.5"}
    template = {"metadata": {"annotations": annotations}, "spec": pod}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template}}


def _is_rolled_out(deployment: Obj) -> bool:
    status, replicas = deployment.get("status", {}), deployment["spec"]["replicas"]
    counted = [status.get(field, 0) for field in ("replicas", "updatedReplicas", "availableReplicas")]
    return status.get("observedGeneration") == deployment["metadata"]["generation"] and counted == [replicas] * 3


def _leftovers(cluster: Cluster, wanted: dict[str, int]) -> list[str]:
    """Pods and ReplicaSets of Deployments that are gone, and pods that are too many."""
    sets = [one for one in cluster.api.list("replicasets", "default") if labels_of(one)["app"] not in wanted]
    pods = [one for one in cluster.api.list("pods", "default") if "app" in labels_of(one)]
    stray = [one for one in pods if labels_of(one)["app"] not in wanted]
    counted = Counter(labels_of(one)["app"] for one in pods)
    wrong = [app for app, replicas in wanted.items() if counted[app] != replicas]
    return [name_of(one) for one in (*sets, *stray)] + wrong
