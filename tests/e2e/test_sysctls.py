"""Kernel parameters of pods: set in their own namespaces, refused where they are wrong or not safe."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import SLEEP, Obj, container, pod
from tests.e2e.tables import Row, surprises
from tests.e2e.test_pod_life import create, events, wait

pytestmark = [pytest.mark.e2e, pytest.mark.root]


def setting(**sysctls: str) -> Obj:
    listed = [{"name": name.replace("__", "."), "value": value} for name, value in sysctls.items()]
    return {"securityContext": {"sysctls": listed}}


def test_safe_parameters_are_set(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Sysctl, test sysctls" """
    ports = "net/ipv4/ip_local_port_range"
    rows = {
        "ipc": Row(
            script="cat /proc/sys/kernel/shm_rmid_forced", says=["1"], spec=setting(kernel__shm_rmid_forced="1")
        ),
        "net": Row(
            script=f"cat /proc/sys/{ports}",
            says=["1024\t2048"],
            spec=setting(net__ipv4__ip_local_port_range="1024 2048"),
        ),
    }
    assert surprises(cluster, namespace, rows) == {}


def test_wrong_and_unsafe_parameters_are_refused(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Sysctls, reject invalid sysctls" """
    names = ["foo-", "kernel.shmmax", "safe-and-unsafe", "bar.."]
    context = {"sysctls": [{"name": name, "value": "100"} for name in names]}
    wrong = json.dumps(pod("wrong", container("c", SLEEP), securityContext=context))
    refused = cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=wrong, check=False).stderr
    assert [name for name in names if f'Invalid value: "{name}"' in refused] == ["foo-", "bar.."]
    create(cluster, namespace, pod("unsafe", container("c", SLEEP), **setting(kernel__msgmax="10000000000")))
    wait(cluster, namespace, "pod/unsafe", ".status.phase", "Failed")
    status = cluster.json("-n", namespace, "get", "pod", "unsafe")["status"]
    text = 'forbidden sysctl: "kernel.msgmax" not allowlisted'
    assert (status["reason"], status["message"]) == ("SysctlForbidden", f"Pod was rejected: {text}")
    assert events(cluster, namespace, "unsafe", "SysctlForbidden") == text
