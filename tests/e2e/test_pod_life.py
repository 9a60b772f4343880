"""How pods begin, fail and end, in the words that kubectl shows."""

from __future__ import annotations

import json
import time
from subprocess import PIPE
from typing import Any

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import IMAGE, SLEEP, container, pod
from tests.support.containerd import out_of_memory

pytestmark = [pytest.mark.e2e, pytest.mark.root]


def create(cluster: Cluster, namespace: str, *objects: dict[str, Any]) -> None:
    cluster.kubectl("-n", namespace, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    items = {"apiVersion": "v1", "kind": "List", "items": objects}
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(items))


def wait(cluster: Cluster, namespace: str, name: str, path: str, value: str) -> None:
    wanted = f"--for=jsonpath={{{path}}}={value}"
    cluster.kubectl("-n", namespace, "wait", wanted, name, "--timeout=60s")


def events(cluster: Cluster, namespace: str, name: str, reason: str, words: str = "") -> str:
    """The messages of the events about a pod, once there is one with these words: its status may be told before."""
    selector = f"involvedObject.name={name},reason={reason}"
    asked = ("get", "events", "--field-selector", selector, "-o", "jsonpath={.items[*].message}")
    deadline = time.monotonic() + 60
    while not (told := cluster.kubectl("-n", namespace, *asked).stdout) or words not in told:
        assert time.monotonic() < deadline, f"events {reason} about {name} say: {told}"
    return told


def said(cluster: Cluster, namespace: str, name: str, words: str, *which: str) -> str:
    """The log of a pod up to a line with these words, as soon as it is written; all of it if it is not in a minute."""
    lines = []
    follow = ("-n", namespace, "logs", "-f", "--request-timeout=60s", name, *which)
    with cluster.process(*follow, stdout=PIPE) as log:
        assert log.stdout is not None
        for line in log.stdout:
            lines.append(line)
            if words in line:
                break
        log.terminate()
    return "".join(lines)


def restarted(cluster: Cluster, namespace: str, name: str) -> None:
    """Until its container was started again, however often: that before the last one stays told."""
    again = "--for=jsonpath={.status.containerStatuses[0].lastState.terminated}"
    cluster.kubectl("-n", namespace, "wait", again, f"pod/{name}", "--timeout=60s")


WAITING = ".status.containerStatuses[0].state.waiting.reason"
ENDED = ".status.containerStatuses[0].state.terminated"


def test_pods_that_cannot_start_say_why(cluster: Cluster, namespace: str) -> None:
    """A waiting container's reason is in its status, its events and in what `kubectl logs` answers."""
    missing = {"configMapRef": {"name": "nope"}}
    root = {"runAsNonRoot": True}
    volume = {"name": "v", "configMap": {"name": "absent"}}
    create(
        cluster,
        namespace,
        pod("no-config", container("c", SLEEP, envFrom=[missing])),
        pod("no-image", {"name": "c", "image": "no.such/image:1", "imagePullPolicy": "Never"}),
        pod("no-root", container("c", SLEEP), securityContext=root),
        pod("no-volume", container("c", SLEEP, volumeMounts=[{"name": "v", "mountPath": "/v"}]), volumes=[volume]),
        pod("no-room", container("c", SLEEP, resources={"requests": {"cpu": "1000"}})),
        pod("no-node", container("c", SLEEP), nodeSelector={"disk": "none"}),
    )
    for name, reason in (
        ("no-config", "CreateContainerConfigError"),
        ("no-image", "ErrImageNeverPull"),
        ("no-root", "CreateContainerConfigError"),
        ("no-volume", "ContainerCreating"),
    ):
        wait(cluster, namespace, f"pod/{name}", WAITING, reason)
        refused = cluster.kubectl("-n", namespace, "logs", name, check=False)
        assert refused.stderr == (
            f'Error from server (BadRequest): container "c" in pod "{name}" is waiting to start: {reason}\n'
        )
    assert cluster.kubectl("-n", namespace, "logs", "no-room").stdout == ""
    assert events(cluster, namespace, "no-config", "Failed") == 'Error: configmap "nope" not found'
    for name, words in (("no-room", "1 Insufficient cpu"), ("no-node", "1 node(s) didn't match Pod's node affinity")):
        wait(cluster, namespace, f"pod/{name}", ".status.conditions[0].reason", "Unschedulable")
        path = "jsonpath={.status.conditions[0].message}"
        message = cluster.kubectl("-n", namespace, "get", "pod", name, "-o", path).stdout
        assert message.startswith(f"0/1 nodes are available: {words}")
    refused = cluster.kubectl("-n", namespace, "exec", "no-image", "--", "ls", check=False)
    assert refused.stderr == 'error: unable to upgrade connection: container not found ("c")\n'
    # A pod that waits for a node goes at once.
    assert cluster.kubectl("-n", namespace, "delete", "pod", "no-room").stdout == 'pod "no-room" deleted\n'


def test_pods_end_as_their_containers_do(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Container Runtime, Restart Policy, Pod Phases", "Pods, ActiveDeadlineSeconds",
    "init-container-fails-stops-app-restartnever-pod", "Kubelet, failed pod, terminated reason", "Container Runtime,
    TerminationMessage, from file of succeeding container"
    """
    limit = {"limits": {"memory": "16Mi"}}
    never: dict[str, Any] = {"restartPolicy": "Never"}
    hungry = container("c", "x=a; while true; do x=$x$x; done", resources=limit)
    sidecar = container("s", SLEEP, restartPolicy="Always")
    create(
        cluster,
        namespace,
        pod("good", container("c", "exit 0"), **never),
        pod("bad", container("c", "printf why > /dev/termination-log; exit 4"), **never),
        pod("told", container("c", "echo last; exit 5", terminationMessagePolicy="FallbackToLogsOnError"), **never),
        pod("hungry", hungry, **never),
        pod("late", container("c", SLEEP), activeDeadlineSeconds=1),
        pod("unprepared", container("c", SLEEP), initContainers=[container("i", "exit 1")], **never),
        pod("helped", container("c", "exit 0"), initContainers=[sidecar], **never),
        pod("again", container("c", "echo run; exit 3"), restartPolicy="OnFailure"),
    )
    for name, phase in (
        ("good", "Succeeded"),
        ("bad", "Failed"),
        ("told", "Failed"),
        ("hungry", "Failed"),
        ("late", "Failed"),
        ("unprepared", "Failed"),
        ("helped", "Succeeded"),
    ):
        wait(cluster, namespace, f"pod/{name}", ".status.phase", phase)
    wait(cluster, namespace, "pod/again", WAITING, "CrashLoopBackOff")
    found = {item["metadata"]["name"]: item["status"] for item in cluster.json("-n", namespace, "get", "pods")["items"]}
    ended = {name: status["containerStatuses"][0]["state"].get("terminated", {}) for name, status in found.items()}
    assert (ended["good"]["reason"], ended["good"]["exitCode"]) == ("Completed", 0)
    assert (ended["bad"]["reason"], ended["bad"]["exitCode"], ended["bad"]["message"]) == ("Error", 4, "why")
    assert ended["told"]["message"] == "last\n"
    assert ended["hungry"]["exitCode"] == 137
    assert ended["hungry"]["reason"] in out_of_memory(cluster.runtime)
    assert found["late"]["reason"] == "DeadlineExceeded"
    assert found["late"]["message"] == "Pod was active on the node longer than the specified deadline"
    assert found["unprepared"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    assert cluster.kubectl("-n", namespace, "logs", "again", "--previous").stdout == "run\n"
    refused = cluster.kubectl("-n", namespace, "logs", "good", "--previous", check=False).stderr
    assert refused == 'Error from server (BadRequest): previous terminated container "c" in pod "good" not found\n'
    lines = cluster.kubectl("-n", namespace, "get", "pods", "--no-headers").stdout.splitlines()
    shown = {line.split()[0]: line.split()[2] for line in lines}
    assert shown["hungry"] in out_of_memory(cluster.runtime)
    assert shown["unprepared"] == "Init:Error"
    # It begins again meanwhile, now and then.
    follow = ("get", "pod", "again", "--no-headers", "--watch", "--request-timeout=60s")
    with cluster.process("-n", namespace, *follow, stdout=-1) as watch:
        assert watch.stdout
        assert any(line.split()[2] == "CrashLoopBackOff" for line in watch.stdout)
        watch.kill()


def test_probes_decide_who_is_restarted_and_who_is_ready(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Pod liveness probe, using local file, restart", "Pod readiness probe, failure" """
    often = {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 30}
    no_file = {"exec": {"command": ["cat", "/nope"]}, **often}
    served = {"httpGet": {"port": 80, "path": "/"}, **often, "failureThreshold": 30}
    web = "mkdir /w; echo ok > /w/index.html; exec httpd -f -p 80 -h /w"
    create(
        cluster,
        namespace,
        pod("unalive", container("c", SLEEP, livenessProbe=no_file)),
        pod("unready", container("c", SLEEP, readinessProbe=no_file)),
        pod("served", container("c", web, startupProbe=served, readinessProbe=served, livenessProbe=served)),
    )
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/served", "--timeout=60s")
    restarted(cluster, namespace, "unalive")
    wait(cluster, namespace, "pod/unready", ".status.conditions[?(@.type=='Ready')].reason", "ContainersNotReady")
    assert events(cluster, namespace, "unalive", "Killing") == "Container c failed liveness probe, will be restarted"
    failed = "Liveness probe failed: cat: can't open '/nope': No such file or directory"
    assert failed in events(cluster, namespace, "unalive", "Unhealthy", failed)
    assert cluster.json("-n", namespace, "get", "pod", "served")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_hooks_run_before_the_end_and_after_the_start(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Pod Lifecycle, post start exec hook", "Pod Lifecycle, prestop exec hook", "Pods, prestop hook" """
    hooks = {
        "postStart": {"exec": {"command": ["sh", "-c", "echo post > /proc/1/fd/1"]}},
        "preStop": {"exec": {"command": ["sh", "-c", "echo pre > /proc/1/fd/1"]}},
    }
    script = "trap 'echo term; exit 0' TERM; while true; do sleep 0.1; done"
    create(cluster, namespace, pod("p", container("c", script, lifecycle=hooks), terminationGracePeriodSeconds=20))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    follower = cluster.process("-n", namespace, "logs", "-f", "p", stdout=-1)
    try:
        assert follower.stdout
        assert follower.stdout.readline() == "post\n"
        cluster.kubectl("-n", namespace, "delete", "pod", "p")
        assert follower.communicate(timeout=30)[0] == "pre\nterm\n"
    finally:
        follower.kill()
        follower.wait()


def test_jobs_complete_fail_and_count(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Jobs, completion after task failure" """

    def job(name: str, script: str, **spec: Any) -> dict[str, Any]:
        template = {"spec": {"restartPolicy": "Never", "containers": [container("c", script)]}}
        spec["template"] = template | {"spec": template["spec"] | {"terminationGracePeriodSeconds": 0}}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}

    create(
        cluster,
        namespace,
        job("indexed", "echo $JOB_COMPLETION_INDEX", completions=3, parallelism=3, completionMode="Indexed"),
        job("failing", "exit 1", backoffLimit=0),
        job("late", SLEEP, activeDeadlineSeconds=1),
    )
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Complete", "job/indexed", "--timeout=60s")
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Failed", "job/failing", "job/late", "--timeout=60s")
    found = {item["metadata"]["name"]: item["status"] for item in cluster.json("-n", namespace, "get", "jobs")["items"]}
    assert (found["indexed"]["succeeded"], found["indexed"]["completedIndexes"]) == (3, "0-2")
    reasons = {name: found[name]["conditions"][-1]["reason"] for name in ("failing", "late")}
    assert reasons == {"failing": "BackoffLimitExceeded", "late": "DeadlineExceeded"}
    logs = cluster.kubectl("-n", namespace, "logs", "-l", "job-name=indexed").stdout.split()
    assert sorted(logs) == ["0", "1", "2"]


def test_run_attaches_and_removes(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Kubectl, run pod" """
    cluster.kubectl("-n", namespace, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    run = ("-n", namespace, "run", "r", f"--image={IMAGE}", "--rm", "-i", "--restart=Never", "--")
    done = cluster.kubectl(*run, "sh", "-c", "read x; echo got $x", stdin="it\n")
    assert done.stdout == 'got it\npod "r" deleted\n'
    failed = cluster.kubectl(*run, "sh", "-c", "sleep 0.3; exit 3", check=False)
    assert failed.returncode == 3
    assert f"pod {namespace}/r terminated (Error)" in failed.stderr
