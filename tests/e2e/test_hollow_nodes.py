"""`pinnace node`: hollow nodes beside the cluster's own."""

from __future__ import annotations

import os
import signal

import pytest

from pinnace.cluster import control
from pinnace.cluster.profile import Profile
from tests.e2e.conftest import Cluster
from tests.support.manifests import deployment, unreal_pod

pytestmark = [pytest.mark.e2e, pytest.mark.root, pytest.mark.engine]


def test_hollow_nodes_run_a_deployment_survive_a_kill_and_go_again(cluster: Cluster) -> None:
    cluster.pinnace("node", "add", "--hollow", "5", "--name", "big", "--capacity", "cpu=64", "--labels", "disk=none")
    try:
        listed = cluster.pinnace("node", "list").stdout.splitlines()
        assert [line.split("\t")[0] for line in listed if line.endswith("hollow")] == [f"big-{n}" for n in range(5)]
        cluster.apply(deployment("airy", 60, unreal_pod(nodeSelector={"disk": "none"})))
        cluster.kubectl("rollout", "status", "deployment/airy", "--timeout=120s")
        profile = Profile(cluster.profile, cluster.home)
        first = control.snapshot(profile)["hollow"]
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        cluster.kubectl("scale", "deployment/airy", "--replicas=80")
        cluster.kubectl("rollout", "status", "deployment/airy", "--timeout=120s")
        again = control.snapshot(profile)["hollow"]
        assert again.state == "ready"
        assert again.pid != first.pid
    finally:
        cluster.kubectl("delete", "deployment", "airy", "--ignore-not-found")
        cluster.pinnace("node", "delete", "big")
    assert "big-" not in cluster.pinnace("node", "list").stdout


def test_group_of_a_name_that_is_taken_or_cannot_be_is_refused(cluster: Cluster) -> None:
    cluster.pinnace("node", "add", "--hollow", "1", "--name", "once")
    try:
        again = cluster.pinnace("node", "add", "--hollow", "1", "--name", "once", check=False)
        assert again.returncode == 80
        assert 'There are hollow nodes "once" already' in again.stderr
    finally:
        cluster.pinnace("node", "delete", "once")
    assert cluster.pinnace("node", "add", "--hollow", "1", "--name", "No_Name", check=False).returncode == 14
    assert cluster.pinnace("node", "delete", "never-was", check=False).returncode == 85
