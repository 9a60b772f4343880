"""What becomes of pods whose first containers fail, whose probes say this or that, and which are looked at or ended."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import IMAGE, SLEEP, container, pod
from tests.e2e.test_pod_life import create, events, said, wait

pytestmark = [pytest.mark.e2e, pytest.mark.root]

Obj = dict[str, Any]


def statuses(cluster: Cluster, namespace: str) -> dict[str, Obj]:
    return {item["metadata"]["name"]: item["status"] for item in cluster.json("-n", namespace, "get", "pods")["items"]}


def condition(status: Obj, kind: str) -> Obj:
    [found] = [one for one in status["conditions"] if one["type"] == kind]
    return dict(found)


def test_containers_start_when_the_initial_ones_have_ended_well(cluster: Cluster, namespace: str) -> None:
    """Conformance: "init-container-starts-app-restartalways-pod", "init-container-starts-app-restartnever-pod",
    "init-container-fails-stops-app-restartalways-pod"
    """
    good = [container("init1", "exit 0"), container("init2", "exit 0")]
    bad = [container("init1", "exit 1"), container("init2", "exit 0")]
    create(
        cluster,
        namespace,
        pod("always", container("run", SLEEP), initContainers=good),
        pod("never", container("run", "exit 0"), initContainers=good, restartPolicy="Never"),
        pod("stuck", container("run", SLEEP), initContainers=bad),
    )
    # First what does not stay as it is.
    wait(cluster, namespace, "pod/stuck", ".status.initContainerStatuses[0].restartCount", "2")
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/always", "--timeout=60s")
    wait(cluster, namespace, "pod/never", ".status.phase", "Succeeded")
    found = statuses(cluster, namespace)
    for name in ("always", "never"):
        assert condition(found[name], "Initialized")["status"] == "True"
        ended = [one["state"]["terminated"]["exitCode"] for one in found[name]["initContainerStatuses"]]
        assert ended == [0, 0]
        assert all(one["ready"] for one in found[name]["initContainerStatuses"])
    assert found["always"]["phase"] == "Running"
    assert found["stuck"]["phase"] == "Pending"
    initialized = condition(found["stuck"], "Initialized")
    assert (initialized["status"], initialized["reason"]) == ("False", "ContainersNotInitialized")
    assert initialized["message"] == "containers with incomplete status: [init1 init2]"
    waiting = {one["name"]: one["state"].get("waiting") for one in found["stuck"]["initContainerStatuses"]}
    assert waiting["init2"] == {"reason": "PodInitializing"}
    [app] = found["stuck"]["containerStatuses"]
    assert app["state"]["waiting"]["reason"] == "PodInitializing"
    assert (app["restartCount"], app["started"]) == (0, False)


def test_probes_restart_what_fails_and_spare_what_does_not(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Pod liveness probe, using http endpoint, failure", "Pod liveness probe, using http endpoint,
    restart", "Pod liveness probe, using local file, no restart", "Pod liveness probe, using tcp socket, no restart",
    "Pod readiness probe, with initial delay"
    """
    web = "mkdir /w; echo ok > /w/healthz; exec httpd -f -p 8080 -h /w"
    http = {"httpGet": {"path": "/healthz", "port": 8080}}
    probes: dict[str, tuple[str, Obj]] = {
        "http": (web, http),
        "failing": (web, http),
        "file": (f"echo ok > /tmp/health; {SLEEP}", {"exec": {"command": ["cat", "/tmp/health"]}}),
        "tcp": (web, {"tcpSocket": {"port": 8080}}),
    }
    often = {"periodSeconds": 1, "timeoutSeconds": 30}

    def probed(probe: Obj) -> Obj:
        """Alive only as long as it passes, once it has."""
        return {
            "startupProbe": {**probe, **often, "failureThreshold": 60},
            "livenessProbe": {**probe, **often, "failureThreshold": 1},
        }

    made = [pod(name, container("c", script, **probed(probe))) for name, (script, probe) in probes.items()]
    late = {"exec": {"command": ["true"]}, "initialDelaySeconds": 3, **often}
    create(cluster, namespace, *made, pod("late", container("c", SLEEP, readinessProbe=late)))
    pods = [f"pod/{name}" for name in (*probes, "late")]
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", *pods, "--timeout=60s")
    cluster.kubectl("-n", namespace, "exec", "failing", "--", "rm", "/w/healthz")
    wait(cluster, namespace, "pod/failing", ".status.containerStatuses[0].restartCount", "1")
    told = "Liveness probe failed: HTTP probe failed with statuscode: 404"
    assert told in events(cluster, namespace, "failing", "Unhealthy", told)
    found = statuses(cluster, namespace)
    counts = {name: status["containerStatuses"][0]["restartCount"] for name, status in found.items()}
    assert counts == {"http": 0, "failing": 1, "file": 0, "tcp": 0, "late": 0}
    started = found["late"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    assert seconds(condition(found["late"], "Ready")["lastTransitionTime"]) - seconds(started) >= 2  # whole seconds


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def test_a_pod_that_always_fails_can_be_deleted(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Kubelet, failed pod, delete" """
    create(cluster, namespace, pod("failing", container("c", "exit 1")))
    wait(cluster, namespace, "pod/failing", ".status.containerStatuses[0].restartCount", "1")
    assert cluster.kubectl("-n", namespace, "delete", "pod", "failing").stdout.startswith('pod "failing" deleted')


def test_containers_run_what_image_and_pod_say(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Kubelet, log output, default", "Kubelet, hostAliases", "Kubelet, pod with read only root file
    system", "Containers, with command", "Containers, with arguments", "Containers, with command and arguments",
    "Containers, without command and arguments", "Security Context, test RunAsGroup at container level"
    """
    aliases = [{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}]
    fixed = container(
        "c", "echo no > /file; cat /etc/passwd | head -1", securityContext={"readOnlyRootFilesystem": True}
    )
    grouped = container("c", "id -u; id -g", securityContext={"runAsUser": 1001, "runAsGroup": 2002})
    plain = {"name": "c", "image": IMAGE}
    never: Obj = {"restartPolicy": "Never"}
    create(
        cluster,
        namespace,
        pod("aliases", container("c", "cat /etc/hosts"), hostAliases=aliases, **never),
        pod("fixed", fixed, **never),
        pod("grouped", grouped, **never),
        pod("neither", plain, **never),
        pod("arguments", {**plain, "args": ["echo", "hello"]}, **never),
        pod("command", {**plain, "command": ["echo", "command"]}, **never),
        pod("both", {**plain, "command": ["echo"], "args": ["both", "of them"]}, **never),
    )
    said: dict[str, str] = {}
    for name in ("aliases", "fixed", "grouped", "neither", "arguments", "command", "both"):
        wait(cluster, namespace, f"pod/{name}", ".status.phase", "Succeeded")
        said[name] = cluster.kubectl("-n", namespace, "logs", name).stdout
    assert "123.45.67.89\tfoo\tbar\n" in said.pop("aliases")
    assert "Read-only file system" in said.pop("fixed")
    assert said.pop("grouped") == "1001\n2002\n"
    assert said == {"neither": "", "arguments": "hello\n", "command": "command\n", "both": "both of them\n"}


def test_scheduler_and_kubelet_tell_of_a_pod(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Pod events, verify event from Scheduler and Kubelet", "Ephemeral Container Creation" """
    create(cluster, namespace, pod("p", container("c", SLEEP)))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    uid = cluster.json("-n", namespace, "get", "pod", "p")["metadata"]["uid"]
    for source, reason in (("default-scheduler", "Scheduled"), ("kubelet", "Started")):
        assert events(cluster, namespace, "p", reason)
        fields = f"involvedObject.kind=Pod,involvedObject.uid={uid},source={source}"
        found = cluster.json("-n", namespace, "get", "events", "--field-selector", fields)["items"]
        assert reason in [one["reason"] for one in found]
    path = f"/api/v1/namespaces/{namespace}/pods/p/ephemeralcontainers"
    body = json.loads(cluster.kubectl("get", "--raw", path).stdout)
    script = "while true; do echo polo; sleep 2; done"
    body["spec"]["ephemeralContainers"] = [{"name": "debugger", "image": IMAGE, "command": ["sh", "-c", script]}]
    cluster.kubectl("replace", "--raw", path, "-f", "-", stdin=json.dumps(body))
    running = "--for=jsonpath={.status.ephemeralContainerStatuses[0].state.running}"
    cluster.kubectl("-n", namespace, "wait", running, "pod/p", "--timeout=60s")
    assert said(cluster, namespace, "p", "polo", "-c", "debugger").startswith("polo\n")


def test_containers_leave_a_last_word(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Container Runtime, TerminationMessage, from log output of succeeding container", "Container
    Runtime, TerminationMessage, from container's log output of failing container", "Container Runtime,
    TerminationMessagePath, non-root user and non-default path"
    """
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    path = {"terminationMessagePath": "/dev/termination-custom-log", "securityContext": {"runAsUser": 1000}}
    never: Obj = {"restartPolicy": "Never"}
    create(
        cluster,
        namespace,
        pod("quiet", container("c", "printf DONE", **fallback), **never),
        pod("loud", container("c", "printf DONE; exit 1", **fallback), **never),
        pod("elsewhere", container("c", "printf DONE > /dev/termination-custom-log", **path), **never),
    )
    for name, phase in (("quiet", "Succeeded"), ("loud", "Failed"), ("elsewhere", "Succeeded")):
        wait(cluster, namespace, f"pod/{name}", ".status.phase", phase)
    found = {
        name: status["containerStatuses"][0]["state"]["terminated"].get("message", "")
        for name, status in statuses(cluster, namespace).items()
    }
    assert found == {"quiet": "", "loud": "DONE", "elsewhere": "DONE"}


def test_commands_and_variables_are_filled_in(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Environment variables, command expansion", "Environment variables, command argument expansion",
    "DownwardAPI, environment for Pod UID", "DownwardAPI, environment for hostIPs", "ConfigMap, from environment field",
    "Secrets, pod environment field", "Security Context, readOnlyRootFilesystem=false."
    """
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"data-1": "value-1"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "secret"}, "stringData": {"data-2": "value-2"}}
    env = [
        {"name": "TEST_VAR", "value": "test-value"},
        {"name": "CONFIG", "valueFrom": {"configMapKeyRef": {"name": "config", "key": "data-1"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "data-2"}}},
        {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": "HOST_IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIPs"}}},
    ]
    script = 'TEST_VAR=wrong; echo "$(TEST_VAR)"'
    all_of_them = "echo written > /file && cat /file; echo $CONFIG $SECRET $POD_UID $HOST_IPS"
    never: Obj = {"restartPolicy": "Never"}
    create(
        cluster,
        namespace,
        config,
        secret,
        pod("command", {**container("c", script), "env": env[:1]}, **never),
        pod("argument", {"name": "c", "image": IMAGE, "args": ["sh", "-c", script], "env": env[:1]}, **never),
        pod("all", container("c", all_of_them, env=env, securityContext={"readOnlyRootFilesystem": False}), **never),
    )
    said = {}
    for name in ("command", "argument", "all"):
        wait(cluster, namespace, f"pod/{name}", ".status.phase", "Succeeded")
        said[name] = cluster.kubectl("-n", namespace, "logs", name).stdout
    found = cluster.json("-n", namespace, "get", "pod", "all")
    addresses = ",".join(one["ip"] for one in found["status"]["hostIPs"])
    assert said == {
        "command": "test-value\n",
        "argument": "test-value\n",
        "all": f"written\nvalue-1 value-2 {found['metadata']['uid']} {addresses}\n",
    }


def test_hooks_ask_over_http(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Pod Lifecycle, post start http hook", "Pod Lifecycle, prestop http hook" """
    serve = "mkdir /w; echo ok > /w/started; echo ok > /w/stopping; exec httpd -f -vv -p 8080 -h /w"
    serving = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    create(cluster, namespace, pod("server", container("c", serve, readinessProbe=serving)))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/server", "--timeout=60s")
    address = statuses(cluster, namespace)["server"]["podIP"]
    hooks = {
        when: {"httpGet": {"host": address, "port": 8080, "path": path}}
        for when, path in (("postStart", "/started"), ("preStop", "/stopping"))
    }
    create(cluster, namespace, pod("p", container("c", SLEEP, lifecycle=hooks), terminationGracePeriodSeconds=2))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    asked = said(cluster, namespace, "server", "url:/started")
    assert "url:/started" in asked
    assert "url:/stopping" not in asked
    cluster.kubectl("-n", namespace, "delete", "pod", "p")
    assert "url:/stopping" in said(cluster, namespace, "server", "url:/stopping")
