"""kube-scheduler's --config beside its flags: what is given on the command line goes first."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pinnace.cli.kube_scheduler import command

HEAD = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"
WRONG: list[tuple[str, str]] = [
    ("profile: []\n", 'strict decoding error: unknown field "profile"'),
    ("parallelism: 0\n", "parallelism: Invalid value: 0: should be an integer value greater than zero"),
    (
        "profiles: [{plugins: {score: {enabled: [{name: Best}]}}}]\n",
        'ScorePlugin "Best" does not exist',
    ),
    ("clientConnection: {kubeconfig: /nowhere.conf}\n", "/nowhere.conf: "),
    ("leaderElection: {leaseDuration: soon}\n", "leaderElection.leaseDuration: "),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "scheduler.yaml"
    file.write_text(HEAD + text)
    result = CliRunner().invoke(command, ["--config", str(file)])
    assert result.exit_code == 1
    assert words in result.output
    assert "Traceback" not in result.output


def test_flags_go_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.yaml"
    file.write_text(HEAD + "clientConnection: {kubeconfig: /nowhere.conf}\n")
    result = CliRunner().invoke(command, ["--config", str(file), "--kubeconfig", "/elsewhere.conf"])
    assert "/elsewhere.conf" in result.output
