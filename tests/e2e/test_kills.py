"""Containers, servers and the API server are killed or gone: states, restarts and events are right all the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import Obj, container, pod
from tests.e2e.test_crash import kill, processes
from tests.e2e.test_pod_inside import start
from tests.e2e.test_pod_life import WAITING, create, wait
from tests.support.containerd import out_of_memory

pytestmark = [pytest.mark.e2e, pytest.mark.root]

LIMIT = 60.0  # seconds
FOREVER = "trap exit TERM; sleep 86400 & wait"
RESTARTS = ".status.containerStatuses[0].restartCount"


def until(found: Callable[[], int]) -> int:
    deadline = time.monotonic() + LIMIT
    while not (value := found()):
        assert time.monotonic() < deadline
    return value


def mark(name: str) -> Obj:
    """A variable by which processes can be found from outside, among those of other runs of these tests."""
    return {"name": "MARK", "value": f"kills-{os.getpid()}-{name}"}


def marked(name: str, script: str = FOREVER, **spec: Any) -> Obj:
    """A pod whose first process can be found from outside by a variable."""
    return pod(name, container("c", script, env=[mark(name)]), **spec)


def spaces(pid: int) -> list[int]:
    """A process' number in every PID namespace that it is in, the innermost last; empty for one that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return []
    return [int(number) for number in status.partition("NSpid:")[2].splitlines()[0].split()]


def processes_of(name: str) -> Iterator[int]:
    wanted = f"MARK={mark(name)['value']}\0".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (entry / "environ").read_bytes():
                yield int(entry.name)
        except OSError:
            continue


def init_of(name: str, other_than: int = 0) -> int:
    """The pid, on the machine, of a container's first process; 0 while there is none."""
    for pid in processes_of(name):
        numbers = spaces(pid)
        if len(numbers) > 1 and numbers[-1] == 1 and pid != other_than:
            return pid
    return 0


def shared_init_of(name: str) -> int:
    """The first process of the PID namespace that a pod's containers share."""
    member = next(processes_of(name))
    namespace = Path(f"/proc/{member}/ns/pid").readlink()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "ns/pid").readlink() == namespace and spaces(int(entry.name))[-1:] == [1]:
                return int(entry.name)
        except OSError:
            continue
    return 0


def eventually(cluster: Cluster, namespace: str, name: str, reason: str) -> str:
    """The message of an event about a pod, as soon as there is one."""
    selector = f"involvedObject.name={name},reason={reason}"
    words = (
        "--request-timeout=60s",
        "get",
        "events",
        "--field-selector",
        selector,
        "--watch",
        "-o",
        "jsonpath={.message}{'\\n'}",
    )
    with cluster.process("-n", namespace, *words, stdout=PIPE) as watch:
        assert watch.stdout is not None
        message = watch.stdout.readline().strip()
        watch.terminate()
    return message


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
    kill([init_of("always")])
    wait(cluster, namespace, "pod/always", WAITING, "CrashLoopBackOff")
    uid = cluster.json("-n", namespace, "get", "pod", "always")["metadata"]["uid"]
    where = f"always_{namespace}({uid})"
    message = container_of(cluster, namespace, "always")["state"]["waiting"]["message"]
    assert message == f"back-off 10s restarting failed container=c pod={where}"
    told = f"Back-off restarting failed container c in pod {where}"
    assert eventually(cluster, namespace, "always", "BackOff") == told
    wait(cluster, namespace, "pod/always", RESTARTS, "2")


def test_a_pod_whose_shared_processes_lose_their_init_begins_anew(cluster: Cluster, namespace: str) -> None:
    """With it goes every process of the pod; its address and the rest of its sandbox go then, too."""
    start(cluster, namespace, marked("shared", shareProcessNamespace=True))
    kill([shared_init_of("shared")])
    told = "Pod sandbox changed, it will be killed and re-created."
    assert eventually(cluster, namespace, "shared", "SandboxChanged") == told
    wait(cluster, namespace, "pod/shared", RESTARTS, "1")
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/shared", "--timeout=60s")
    assert ended(container_of(cluster, namespace, "shared")) == ("Error", 137, 1)


def test_a_child_that_needs_too_much_memory_is_killed(cluster: Cluster, namespace: str) -> None:
    """Alone where cgroups are of version 1, together with its container where they are of version 2."""
    grow = "x=a; while true; do x=$x$x; done"
    script = f"[ -f /shared/ran ] && exec sleep 1000; touch /shared/ran; sh -c '{grow}'; echo child $?; exec sleep 1000"
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    main = container("c", script, resources={"limits": {"memory": "16Mi"}}, volumeMounts=mounts)
    start(cluster, namespace, pod("parent", main, volumes=[{"name": "shared", "emptyDir": {}}]))
    if Path("/sys/fs/cgroup/memory").is_dir():
        with cluster.process("-n", namespace, "logs", "-f", "parent", stdout=PIPE) as log:
            assert log.stdout is not None
            said = [log.stdout.readline() for _ in range(2)]
            log.terminate()
        assert sorted(said) == ["Killed\n", "child 137\n"]  # of two streams, whose order nobody keeps
        assert container_of(cluster, namespace, "parent")["restartCount"] == 0
    else:
        wait(cluster, namespace, "pod/parent", RESTARTS, "1")
        assert ended(container_of(cluster, namespace, "parent")) == ("OOMKilled", 137, 1)


def test_a_container_that_needs_too_much_memory_is_started_again(cluster: Cluster, namespace: str) -> None:
    hungry = "[ -f /shared/full ] && exec sleep 1000; touch /shared/full; x=a; while true; do x=$x$x; done"
    limited = {"limits": {"memory": "16Mi"}}
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    main = container("c", hungry, resources=limited, volumeMounts=mounts)
    create(cluster, namespace, pod("hungry", main, volumes=[{"name": "shared", "emptyDir": {}}]))
    wait(cluster, namespace, "pod/hungry", RESTARTS, "1")
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/hungry", "--timeout=60s")
    reason, *rest = ended(container_of(cluster, namespace, "hungry"))
    assert reason in out_of_memory(cluster.runtime)
    assert rest == [137, 1]


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


def begins_again_where_nobody_knows(cluster: Cluster, namespace: str, name: str, *servers: str) -> None:
    """Kill servers together with a container: how it ended can nobody know then; another one must not notice."""
    start(cluster, namespace, marked(name), marked("steady"))
    steady = container_of(cluster, namespace, "steady")["containerID"]
    kill([*(pid for server in servers for pid in victims(cluster, server)), init_of(name)])
    wait(cluster, namespace, f"pod/{name}", RESTARTS, "1")
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "pod/steady", "--timeout=60s")
    assert container_of(cluster, namespace, "steady")["containerID"] == steady


def test_a_container_killed_with_its_monitor_comes_back(cluster: Cluster, namespace: str) -> None:
    begins_again_where_nobody_knows(cluster, namespace, "orphan", cluster.keeper)


def test_a_container_killed_with_its_monitor_and_its_kubelet_comes_back(cluster: Cluster, namespace: str) -> None:
    begins_again_where_nobody_knows(cluster, namespace, "orphan-of-both", cluster.keeper, "cluster.node")


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
    look = {"exec": {"command": ["test", "!", "-f", "/tmp/ill"]}}
    probe = {**look, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 30}
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
