"""subPathExpr: parts of volumes named by variables of the container."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import SLEEP, Obj, container, pod
from tests.e2e.test_pod_inside import shell
from tests.e2e.test_pod_life import WAITING, create, wait

pytestmark = [pytest.mark.e2e, pytest.mark.root]

ANNOTATION = {"name": "ANNOTATION", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['mysubpath']"}}}


def mounting(name: str, value: str, expression: str, script: str = SLEEP) -> Obj:
    """A pod with the whole of a volume at /whole and a part of it, named by POD_NAME and ANNOTATION, at /part."""
    mounts = [{"name": "v", "mountPath": "/whole"}, {"name": "v", "mountPath": "/part", "subPathExpr": expression}]
    env = [{"name": "POD_NAME", "value": value}, ANNOTATION]
    return pod(name, container("c", script, env=env, volumeMounts=mounts), volumes=[{"name": "v", "emptyDir": {}}])


def annotate(cluster: Cluster, namespace: str, name: str, value: str) -> None:
    cluster.kubectl("-n", namespace, "annotate", f"pod/{name}", f"mysubpath={value}", "--overwrite")


def test_variables_name_a_part_of_a_volume(cluster: Cluster, namespace: str) -> None:
    """Conformance: "VolumeSubpathEnvExpansion, subpath expansion", "VolumeSubpathEnvExpansion, subpath test writes" """
    one = mounting("p", "foo", "$(ANNOTATION)/$(POD_NAME)")
    one["metadata"]["annotations"] = {"mysubpath": "mypath"}
    create(cluster, namespace, one)
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    said = shell(cluster, namespace, "p", "touch /whole/mypath/foo/test.log && ls /part")
    assert said == "test.log\n"
    annotate(cluster, namespace, "p", "mynewpath")
    status = cluster.json("-n", namespace, "get", "pod", "p")["status"]
    assert (status["phase"], status["containerStatuses"][0]["restartCount"]) == ("Running", 0)
    cluster.kubectl("-n", namespace, "delete", "pod", "p", "--timeout=60s")


def test_variables_may_not_lead_out_of_a_volume(cluster: Cluster, namespace: str) -> None:
    """Conformance: "VolumeSubpathEnvExpansion, subpath with backticks", "VolumeSubpathEnvExpansion, subpath with
    absolute path", "VolumeSubpathEnvExpansion, subpath ready from failed state"
    """
    refused = {
        "back": (mounting("back", "..", "$(POD_NAME)"), "unable to provision SubPath `..`: must not contain '..'"),
        "root": (mounting("root", "/tmp", "$(POD_NAME)"), "error SubPath `/tmp` must not be an absolute path"),
        "none": (mounting("none", "foo", "$(ANNOTATION)/$(POD_NAME)"), "missing value for ANNOTATION"),
    }
    create(cluster, namespace, *(one for one, _ in refused.values()))
    for name, (_, why) in refused.items():
        wait(cluster, namespace, f"pod/{name}", WAITING, "CreateContainerConfigError")
        [status] = cluster.json("-n", namespace, "get", "pod", name)["status"]["containerStatuses"]
        assert status["state"]["waiting"]["message"] == why
    annotate(cluster, namespace, "none", "mypath")
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/none", "--timeout=60s")
    assert shell(cluster, namespace, "none", "ls -d /whole/mypath/foo") == "/whole/mypath/foo\n"
    cluster.kubectl("-n", namespace, "delete", "pod", *refused, "--timeout=60s")
