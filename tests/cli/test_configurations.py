"""The configurations that servers write and tell: --write-config-to and /configz."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pinnace.cli import kube_controller_manager, kube_scheduler
from pinnace.cli.controller_flags import document
from pinnace.cli.told import told_flags
from pinnace.machinery import yaml

FILE = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
parallelism: 4
profiles:
- schedulerName: mine
  plugins:
    multiPoint: {disabled: [{name: ImageLocality}], enabled: [{name: NodeAffinity, weight: 7}]}
  pluginConfig: [{name: VolumeBinding, args: {bindTimeoutSeconds: 5}}]
"""


def written(directory: Path, *flags: str) -> dict[str, Any]:
    """What the scheduler writes and, read again, still says."""
    out = directory / "out.yaml"
    ended = CliRunner().invoke(kube_scheduler.command, [*flags, "--write-config-to", str(out)])
    assert (ended.exit_code, ended.output) == (0, "")
    found: dict[str, Any] = yaml.load(out.read_bytes())
    version = [flag for flag in flags if flag.startswith("--emulated-version")]
    once_more = [*version, "--config", str(out), "--write-config-to", str(directory / "again.yaml")]
    again = CliRunner().invoke(kube_scheduler.command, once_more)
    assert again.exit_code == 0, again.output
    assert yaml.load((directory / "again.yaml").read_bytes()) == found
    return found


def test_the_scheduler_writes_its_defaults(tmp_path: Path) -> None:
    found = written(tmp_path)
    assert found["parallelism"] == 16
    assert found["leaderElection"]["leaseDuration"] == "15s"
    (profile,) = found["profiles"]
    assert profile["schedulerName"] == "default-scheduler"
    points = {one["name"]: one["weight"] for one in profile["plugins"]["multiPoint"]["enabled"]}
    assert list(points)[:4] == ["SchedulingGates", "PrioritySort", "NodeUnschedulable", "NodeName"]
    assert (points["TaintToleration"], points["NodePorts"]) == (3, 0)
    assert [one["name"] for one in profile["pluginConfig"]] == [
        "DefaultPreemption",
        "InterPodAffinity",
        "NodeAffinity",
        "NodeResourcesBalancedAllocation",
        "NodeResourcesFit",
        "PodTopologySpread",
        "VolumeBinding",
    ]


@pytest.mark.parametrize(("minor", "weight"), [(34, 0), (35, 2), (37, 2)])
def test_the_plugin_of_devices_has_a_weight_since_it_judges_nodes(tmp_path: Path, minor: int, weight: int) -> None:
    (profile,) = written(tmp_path, f"--emulated-version=1.{minor}")["profiles"]

    points = {one["name"]: one["weight"] for one in profile["plugins"]["multiPoint"]["enabled"]}
    assert points["DynamicResources"] == weight


def test_files_and_flags_are_in_what_the_scheduler_writes(tmp_path: Path) -> None:
    (tmp_path / "in.yaml").write_text(FILE)
    flags = ("--config", str(tmp_path / "in.yaml"), "--leader-elect=false", "--kube-api-qps", "7")
    found = written(tmp_path, *flags, "--emulated-version=1.33")
    assert (found["parallelism"], found["leaderElection"]["leaderElect"]) == (4, False)
    assert found["clientConnection"]["qps"] == 7
    (profile,) = found["profiles"]
    points = {one["name"]: one["weight"] for one in profile["plugins"]["multiPoint"]["enabled"]}
    assert points["NodeAffinity"] == 7
    assert "ImageLocality" not in points
    assert "DynamicResources" not in points  # which is off in 1.33
    assert profile["pluginConfig"][-1]["args"]["bindTimeoutSeconds"] == 5


@pytest.fixture
def manager_flags() -> dict[str, Any]:
    """What kube-controller-manager's flags are, two of them given."""
    context = kube_controller_manager.command.make_context(
        "kube-controller-manager", ["--concurrent-job-syncs=7", "--node-monitor-grace-period=40s", "-v", "2"]
    )
    with context:
        context.params["told"] = told_flags()
    return context.params


def test_the_controller_manager_tells_what_its_flags_say(manager_flags: dict[str, Any]) -> None:
    told = document.configuration(manager_flags)
    assert told["JobController"] == {"ConcurrentJobSyncs": 7}
    assert told["NodeLifecycleController"]["NodeMonitorGracePeriod"] == "40s"
    assert told["KubeCloudShared"]["ClusterName"] == "kubernetes"
    assert told["Generic"]["Controllers"] == ["*"]
    assert told["Generic"]["LeaderElection"]["LeaseDuration"] == "15s"


def test_flags_are_told_as_they_are_written(manager_flags: dict[str, Any]) -> None:
    told = manager_flags["told"]
    assert told["node-monitor-grace-period"] == "40s"
    assert (told["leader-elect"], told["controllers"], told["v"], told["root-ca-file"]) == ("true", "[*]", "2", "")
    assert isinstance(kube_controller_manager.command, click.Command)
