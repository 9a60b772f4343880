"""kubectl's verbs on a cluster that works: rollouts, scaling, editing, waiting, copying, draining, deleting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import IMAGE, SLEEP, container, pod

pytestmark = [pytest.mark.e2e, pytest.mark.root]


class Kubectl:
    """kubectl in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin).stdout

    def refused(self, *arguments: str) -> str:
        """What it says when it fails."""
        result = self.cluster.kubectl("-n", self.namespace, *arguments, check=False)
        assert result.returncode != 0
        return result.stderr

    def json(self, *arguments: str) -> Any:
        return self.cluster.json("-n", self.namespace, *arguments)


@pytest.fixture
def kubectl(cluster: Cluster, namespace: str) -> Kubectl:
    made = Kubectl(cluster, namespace)
    made("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    return made


def deploy(kubectl: Kubectl, name: str, replicas: int = 1) -> None:
    script = "trap 'exit 0' TERM; while true; do sleep 0.1; done"
    kubectl("create", "deployment", name, f"--image={IMAGE}", f"--replicas={replicas}", "--", "sh", "-c", script)
    kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s")


def test_a_rollout_goes_forward_back_and_rests(kubectl: Kubectl) -> None:
    """Conformance: "Deployment RollingUpdate", "Deployment Rollover", "Deployment, completes the lifecycle of a
    Deployment"
    """
    deploy(kubectl, "web", 2)
    kubectl("set", "image", "deployment/web", "busybox=busybox:1.37")
    kubectl("annotate", "deployment/web", "kubernetes.io/change-cause=newer")
    done = 'deployment "web" successfully rolled out\n'
    assert kubectl("rollout", "status", "deployment/web", "--timeout=60s").endswith(done)
    history = kubectl("rollout", "history", "deployment/web")
    assert history.splitlines()[2:4] == ["1         <none>", "2         newer"]
    assert kubectl("rollout", "undo", "deployment/web") == "deployment.apps/web rolled back\n"
    assert kubectl.refused("rollout", "undo", "deployment/web", "--to-revision=9") == (
        "error: unable to find specified revision 9 in history\n"
    )
    kubectl("rollout", "pause", "deployment/web")
    assert kubectl.refused("rollout", "pause", "deployment/web") == 'error: deployments.apps "web" is already paused\n'
    kubectl("set", "env", "deployment/web", "A=b")
    kubectl("set", "resources", "deployment/web", "--limits=memory=64Mi")
    assert kubectl("rollout", "resume", "deployment/web") == "deployment.apps/web resumed\n"
    assert kubectl("rollout", "status", "deployment/web", "--timeout=60s").endswith(done)
    assert kubectl("rollout", "restart", "deployment/web") == "deployment.apps/web restarted\n"
    assert kubectl("rollout", "status", "deployment/web", "--timeout=60s").endswith(done)
    # While paused, two changes made one revision.
    assert len(kubectl.json("get", "replicasets")["items"]) == 4
    assert "Scaled up replica set" in kubectl("describe", "deployment", "web")


def test_replicas_are_set_in_every_way(kubectl: Kubectl) -> None:
    """Conformance: "Kubectl, scale replication controller", "Deployment, completes the scaling of a Deployment
    subresource"
    """
    deploy(kubectl, "web")
    refused = kubectl.refused("scale", "deployment/web", "--replicas=3", "--current-replicas=9")
    assert refused == "error: Expected replicas to be 9, was 1\n"
    assert kubectl("scale", "deployment/web", "--replicas=2", "--current-replicas=1") == "deployment.apps/web scaled\n"
    kubectl("patch", "deployment", "web", "--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":3}}')
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    shown = kubectl("get", "deployment", "web", "--subresource=scale").splitlines()
    assert shown[0].split() == ["NAME", "DESIRED", "AVAILABLE", "AGE"]
    assert shown[1].split()[:3] == ["web", "3", "3"]
    kubectl("scale", "deployment/web", "--replicas=0")
    kubectl("wait", "--for=delete", "pod", "-l", "app=web", "--timeout=60s")


def test_objects_are_changed_in_every_way(kubectl: Kubectl, tmp_path: Path) -> None:
    """Conformance: "Kubectl, label update", "Kubectl, patch to annotate", "Kubectl, replace", "Kubectl, diff
    Deployment", "Kubectl, server-side dry-run Pod"
    """
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}}
    file = tmp_path / "c.json"
    file.write_text(json.dumps(made))
    assert kubectl("apply", "-f", str(file), "--dry-run=server") == "configmap/c created (server dry run)\n"
    assert kubectl("apply", "-f", str(file)) == "configmap/c created\n"
    assert kubectl("apply", "-f", str(file)) == "configmap/c unchanged\n"
    file.write_text(json.dumps(made | {"data": {"b": "2"}}))
    different = kubectl.cluster.kubectl("-n", kubectl.namespace, "diff", "-f", str(file), check=False)
    assert different.returncode == 1
    assert '-  a: "1"\n+  b: "2"\n' in different.stdout
    assert kubectl("apply", "-f", str(file)) == "configmap/c configured\n"
    assert kubectl.json("get", "configmap", "c")["data"] == {"b": "2"}
    assert kubectl("label", "configmap", "c", "x=y") == "configmap/c labeled\n"
    assert kubectl.refused("label", "configmap", "c", "x=z") == (
        "error: 'x' already has a value (y), and --overwrite is false\n"
    )
    assert kubectl("label", "configmap", "c", "x-") == "configmap/c unlabeled\n"
    path = '[{"op":"add","path":"/data/c","value":"3"}]'
    assert kubectl("patch", "configmap", "c", "--type=json", "-p", path) == "configmap/c patched\n"
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/c: .*/c: edited/" "$1"\n')
    editor.chmod(0o755)
    kubectl.cluster.environment["EDITOR"] = str(editor)
    try:
        assert kubectl("edit", "configmap", "c") == "configmap/c edited\n"
    finally:
        del kubectl.cluster.environment["EDITOR"]
    assert kubectl.json("get", "configmap", "c")["data"] == {"b": "2", "c": "edited"}
    assert kubectl("replace", "--force", "-f", str(file)).endswith("configmap/c replaced\n")
    assert kubectl.json("get", "configmap", "c")["data"] == {"b": "2"}


def test_objects_are_shown_and_waited_for(kubectl: Kubectl) -> None:
    for name, colour in (("one", "red"), ("two", "blue")):
        kubectl("create", "configmap", name, f"--from-literal=v={name}")
        kubectl("label", "configmap", name, f"colour={colour}")
    selected = ("get", "configmaps", "-l", "colour")
    assert kubectl(*selected, "-o", "name", "--chunk-size=1") == "configmap/one\nconfigmap/two\n"
    assert kubectl(*selected, "--sort-by={.metadata.labels.colour}", "-o", "name") == "configmap/two\nconfigmap/one\n"
    assert kubectl(*selected, "-o", "jsonpath={.items[*].data.v}") == "one two"
    columns = kubectl(*selected, "-o", "custom-columns=N:.metadata.name,V:.data.v", "--no-headers").split()
    assert columns == ["one", "one", "two", "two"]
    labelled = kubectl(*selected, "-L", "colour").splitlines()
    assert labelled[0].split() == ["NAME", "DATA", "AGE", "COLOUR"]
    assert labelled[1].split()[-1] == "red"
    assert kubectl("get", "configmaps", "--field-selector=metadata.name=two", "-o", "name") == "configmap/two\n"
    refused = kubectl.refused("get", "pods", "--field-selector=foo=bar")
    assert refused.endswith('field selector "foo=bar": field label not supported: foo\n')
    watcher = kubectl.cluster.process(
        "-n", kubectl.namespace, "get", "configmaps", "-l", "colour", "-w", "-o", "name", stdout=-1
    )
    try:
        assert watcher.stdout
        assert [watcher.stdout.readline() for _ in range(2)] == ["configmap/one\n", "configmap/two\n"]
        kubectl("annotate", "configmap", "one", "seen=yes")
        assert watcher.stdout.readline() == "configmap/one\n"
        gone = kubectl.cluster.process(
            "-n", kubectl.namespace, "wait", "--for=delete", "configmap/one", "--timeout=30s", stdout=-1
        )
        kubectl("delete", "configmap", "one")
        assert gone.communicate(timeout=30)[0] in ("configmap/one condition met\n", "")
        assert gone.returncode == 0
    finally:
        watcher.kill()
        watcher.wait()


def test_files_go_in_and_out_of_a_pod(kubectl: Kubectl, tmp_path: Path) -> None:
    """Conformance: "Kubectl, logs", "Pods, remote command execution over websocket" """
    counting = "for i in 1 2 3; do echo $0$i; done; sleep 1000"
    both = [container(name, counting.replace("$0", name)) for name in ("a", "b")]
    made = pod("p", *both, labels={"app": "p"}, initContainers=[container("i", "echo first")])
    kubectl("create", "-f", "-", stdin=json.dumps(made))
    kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    source = tmp_path / "in" / "deep"
    source.mkdir(parents=True)
    (source / "file").write_bytes(bytes(range(256)) * 4096)
    kubectl("cp", str(tmp_path / "in"), "p:/tmp/there", "-c", "a")
    kubectl("cp", "p:/tmp/there", str(tmp_path / "out"), "-c", "a")
    assert (tmp_path / "out" / "deep" / "file").read_bytes() == (source / "file").read_bytes()
    assert kubectl("logs", "p", "-c", "b", "--tail=1") == "b3\n"
    everything = kubectl("logs", "p", "--all-containers").split()
    assert sorted(everything) == ["a1", "a2", "a3", "b1", "b2", "b3", "first"]
    lines = kubectl("logs", "-l", "app=p", "--prefix", "--all-containers", "--tail=1").splitlines()
    assert sorted(lines) == ["[pod/p/a] a3", "[pod/p/b] b3", "[pod/p/i] first"]
    assert kubectl("logs", "p", "-c", "a", "--limit-bytes=4") == "a1\na"
    assert kubectl("logs", "p", "-c", "a", "--timestamps", "--since=1h").count("Z a") == 3
    assert kubectl.refused("logs", "nobody") == (
        f'error: error from server (NotFound): pods "nobody" not found in namespace "{kubectl.namespace}"\n'
    )
    assert kubectl.refused("exec", "p", "-c", "none", "--", "ls") == (
        "Error from server (BadRequest): container none is not valid for pod p\n"
    )


def test_what_is_deleted_takes_or_leaves_what_it_owns(kubectl: Kubectl) -> None:
    """Conformance: "Garbage Collector, delete deployment, propagation policy orphan", "Garbage Collector, delete
    replication controller, after owned pods"
    """
    deploy(kubectl, "web")
    kubectl("delete", "deployment", "web", "--cascade=orphan")
    kubectl("wait", "replicaset", "-l", "app=web", "--for=jsonpath={.status.readyReplicas}=1", "--timeout=30s")
    (left,) = kubectl.json("get", "replicasets")["items"]
    assert "ownerReferences" not in left["metadata"]
    kubectl("delete", "replicaset", "-l", "app=web", "--cascade=foreground", "--timeout=60s")
    assert kubectl("get", "replicasets,pods", "-o", "name") == ""
    kubectl("create", "configmap", "held")
    kubectl("patch", "configmap", "held", "-p", '{"metadata":{"finalizers":["a.b/c"]}}')
    kubectl("delete", "configmap", "held", "--wait=false")
    refused = kubectl.refused("patch", "configmap", "held", "-p", '{"metadata":{"finalizers":["a.b/d"]}}')
    assert "no new finalizers can be added if the object is being deleted" in refused
    kubectl("patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert kubectl("get", "configmap", "held", "--ignore-not-found") == ""
    kubectl("create", "-f", "-", stdin=json.dumps(pod("p", container("c", SLEEP), terminationGracePeriodSeconds=900)))
    kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    assert kubectl("delete", "pod", "p", "--grace-period=0", "--force") == 'pod "p" force deleted\n'


def test_a_namespace_says_what_holds_it(cluster: Cluster) -> None:
    """Conformance: "namespace-deletion-removes-services", "Namespace patching" """
    cluster.kubectl("create", "namespace", "held")
    cluster.kubectl("-n", "held", "create", "configmap", "c")
    cluster.kubectl("-n", "held", "patch", "configmap", "c", "-p", '{"metadata":{"finalizers":["x.y/z"]}}')
    cluster.kubectl("delete", "namespace", "held", "--wait=false")
    try:
        condition = "NamespaceContentRemaining"
        cluster.kubectl("wait", "namespace/held", f"--for=condition={condition}", "--timeout=30s")
        said = {one["type"]: one["message"] for one in cluster.json("get", "namespace", "held")["status"]["conditions"]}
        assert said[condition] == "Some resources are remaining: configmaps. has 1 resource instances"
        refused = cluster.kubectl("-n", "held", "create", "configmap", "d", check=False).stderr
        assert "unable to create new content in namespace held because it is being terminated" in refused
    finally:
        cluster.kubectl(
            "-n", "held", "patch", "configmap", "c", "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
        )
    cluster.kubectl("wait", "--for=delete", "namespace/held", "--timeout=30s")
    refused = cluster.kubectl("delete", "namespace", "default", check=False).stderr
    assert (
        refused
        == 'Error from server (Forbidden): namespaces "default" is forbidden: this namespace may not be deleted\n'
    )


def test_a_node_is_tainted_drained_and_taken_back(kubectl: Kubectl) -> None:
    """Draining evicts, and asks before it loses something; a NoExecute taint evicts what does not tolerate it."""
    cluster = kubectl.cluster
    deploy(kubectl, "web")
    kubectl("create", "-f", "-", stdin=json.dumps(pod("naked", container("c", SLEEP), labels={"app": "naked"})))
    kubectl("wait", "--for=condition=Ready", "pod/naked", "--timeout=60s")
    mine = ("--pod-selector=app in (web,naked)", "--timeout=60s")
    try:
        assert cluster.kubectl("cordon", "e2e").stdout == "node/e2e cordoned\n"
        assert "Ready,SchedulingDisabled" in cluster.kubectl("get", "node", "e2e").stdout
        refused = cluster.kubectl("drain", "e2e", *mine, check=False).stderr
        assert (
            f"cannot delete Pods that declare no controller (use --force to override): {kubectl.namespace}/naked"
            in refused
        )
        drained = cluster.kubectl("drain", "e2e", "--force", "--delete-emptydir-data", *mine).stdout
        assert "pod/naked evicted\n" in drained
        assert drained.endswith("node/e2e drained\n")
        (waiting,) = kubectl.json("get", "pods")["items"]
        assert waiting["status"]["phase"] == "Pending"
    finally:
        assert cluster.kubectl("uncordon", "e2e").stdout == "node/e2e uncordoned\n"
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    try:
        assert cluster.kubectl("taint", "node", "e2e", "a=b:NoExecute").stdout == "node/e2e tainted\n"
        kubectl("wait", "--for=delete", f"pod/{waiting['metadata']['name']}", "--timeout=60s")
    finally:
        cluster.kubectl("taint", "node", "e2e", "a-")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
