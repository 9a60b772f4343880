"""Containers, servers and the API server are killed or gone: states, restarts and events are right all the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import Obj, container, pod
from tests.e2e.test_crash import kill, processes
from tests.e2e.test_pod_inside import start
from tests.e2e.test_pod_life import create, wait

pytestmark = [pytest.mark.e2e, pytest.mark.root]

LIMIT = 60.0  # seconds
FOREVER = "trap exit TERM; sleep 86400 & wait"
RESTARTS = ".status.containerStatuses[0].restartCount"


def until(found: Callable[[], int]) -> int:
    deadline = time.monotonic() + LIMIT
    while not (value := found()):
        assert time.monotonic() < deadline
    return value


def marked(name: str, script: str = FOREVER, **spec: Any) -> Obj:
    """A pod whose first process can be found from outside by a variable."""
    return pod(name, container("c", script, env=[{"name": "MARK", "value": f"kills-{name}"}]), **spec)


def init_of(name: str, other_than: int = 0) -> int:
    """The pid, on the machine, of a container's first process; 0 while there is none."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK=kills-{name}\0".encode() not in (entry / "environ").read_bytes():
                continue
            [spaces] = [line for line in (entry / "status").read_text().splitlines() if line.startswith("NSpid:")]
        except (OSError, ValueError):
            continue
        if spaces.split()[-1] == "1" and len(spaces.split()) > 2 and int(entry.name) != other_than:
            return int(entry.name)
    return 0


def victims(cluster: Cluster, name: str) -> list[int]:
    found = [pid for pid, command in processes(cluster).items() if name in command]
    assert found
    return found


def container_of(cluster: Cluster, namespace: str, name: str) -> Obj:
    [status] = cluster.json("-n", namespace, "get", "pod", name)["status"]["containerStatuses"]
    found: Obj = status
    return found


def ended(status: Obj) -> tuple[str, int, int]:
    """Why and how the container before this one ended, and how often that happened."""
    last = status["lastState"]["terminated"]
    return last["reason"], last["exitCode"], status["restartCount"]


def test_a_killed_container_comes_back_where_it_should(cluster: Cluster, namespace: str) -> None:
    policies = {"always": "Always", "on-failure": "OnFailure", "never": "Never"}
    start(cluster, namespace, *(marked(name, restartPolicy=policy) for name, policy in policies.items()))
    kill([init_of(name) for name in policies])
    wait(cluster, namespace, "pod/never", ".status.phase", "Failed")
    never = container_of(cluster, namespace, "never")
    assert (never["state"]["terminated"]["reason"], never["state"]["terminated"]["exitCode"]) == ("Error", 137)
    for name in ("always", "on-failure"):
        wait(cluster, namespace, f"pod/{name}", RESTARTS, "1")
        cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        assert ended(container_of(cluster, namespace, name)) == ("Error", 137, 1)
    assert init_of("never") == 0


def test_a_container_that_needs_too_much_memory_is_started_again(cluster: Cluster, namespace: str) -> None:
    hungry = "[ -f /shared/full ] && exec sleep 1000; touch /shared/full; x=a; while true; do x=$x$x; done"
    limited = {"limits": {"memory": "16Mi"}}
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    main = container("c", hungry, resources=limited, volumeMounts=mounts)
    create(cluster, namespace, pod("hungry", main, volumes=[{"name": "shared", "emptyDir": {}}]))
    wait(cluster, namespace, "pod/hungry", RESTARTS, "1")
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/hungry", "--timeout=60s")
    assert ended(container_of(cluster, namespace, "hungry")) == ("OOMKilled", 137, 1)


def test_what_happens_while_the_kubelet_is_dead_is_known_to_the_next(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, *(marked(name) for name in ("steady", "hit", "deleted")))
    steady, before = container_of(cluster, namespace, "steady"), init_of("hit")
    kill([*victims(cluster, "cluster.node"), before])
    cluster.kubectl("-n", namespace, "delete", "pod", "deleted", "--timeout=60s")
    assert init_of("deleted") == 0
    wait(cluster, namespace, "pod/hit", RESTARTS, "1")
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/hit", "--timeout=60s")
    assert ended(container_of(cluster, namespace, "hit")) == ("Error", 137, 1)
    after = container_of(cluster, namespace, "steady")
    assert [after[key] for key in ("containerID", "restartCount")] == [steady["containerID"], 0]


def test_a_container_killed_with_its_monitor_comes_back(cluster: Cluster, namespace: str) -> None:
    """Nobody can know then how it ended."""
    start(cluster, namespace, marked("orphan"), marked("steady"))
    steady = container_of(cluster, namespace, "steady")["containerID"]
    kill([*victims(cluster, cluster.keeper), init_of("orphan")])
    wait(cluster, namespace, "pod/orphan", RESTARTS, "1")
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/orphan", "pod/steady", "--timeout=60s")
    assert container_of(cluster, namespace, "steady")["containerID"] == steady


@pytest.fixture
def silent(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """Makes the API server fall silent: connections stay open, and nothing is answered."""
    stopped: list[int] = []

    def stop() -> None:
        for pid in victims(cluster, "cluster.controlplane"):
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)

    yield stop
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


def test_containers_are_kept_up_while_the_api_server_is_silent(
    cluster: Cluster, namespace: str, silent: Callable[[], None]
) -> None:
    """What a container needs of the API to be started again, the kubelet has."""
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"key": "value"}}
    volume = {"name": "v", "configMap": {"name": "config"}}
    probe = {"exec": {"command": ["test", "!", "-f", "/tmp/ill"]}, "periodSeconds": 1, "failureThreshold": 1}
    killed, ill = marked("killed", volumes=[volume]), marked("ill", f"[ -z $(ls /tmp) ]; {FOREVER}")
    main = killed["spec"]["containers"][0]
    main.update(envFrom=[{"configMapRef": {"name": "config"}}], volumeMounts=[{"name": "v", "mountPath": "/v"}])
    ill["spec"]["containers"][0]["livenessProbe"] = probe
    start(cluster, namespace, config, killed, ill)
    before = {name: init_of(name) for name in ("killed", "ill")}
    silent()
    kill([before["killed"]])
    (Path(f"/proc/{before['ill']}/root/tmp/ill")).touch()
    after = {name: until(lambda name=name: init_of(name, before[name])) for name in before}  # type: ignore[misc]
    assert set(after.values()).isdisjoint(before.values())
    for pid in victims(cluster, "cluster.controlplane"):
        os.kill(pid, signal.SIGCONT)
    for name in before:
        wait(cluster, namespace, f"pod/{name}", RESTARTS, "1")
        assert ended(container_of(cluster, namespace, name))[1:] == (137 if name == "killed" else 143, 1)
