"""The official JavaScript client, of the version that package-lock.json names."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from pinnace.testing import Cluster

HERE = Path(__file__).parent / "node"
NODE, NPM = shutil.which("node"), shutil.which("npm")

pytestmark = pytest.mark.skipif(not (NODE and NPM), reason="needs node and npm")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the program with its packages, which npm fetches when they have changed."""
    installed = HERE / "node_modules/.package-lock.json"
    wanted = json.loads((HERE / "package-lock.json").read_text())["packages"]
    if not installed.exists() or any(
        json.loads(installed.read_text())["packages"].get(path, {}).get("version") != one["version"]
        for path, one in wanted.items()
        if path and not one.get("optional")
    ):
        assert NPM
        words = [NPM, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        ran = subprocess.run(words, cwd=HERE, capture_output=True, text=True, timeout=300, check=False)
        if ran.returncode:
            pytest.skip(f"npm cannot fetch the client: {ran.stderr.strip()[-300:]}")
    return HERE


def test_the_javascript_client(cluster: Cluster, program: Path, kubeconfig: Path, namespace: str) -> None:
    """Each fact that the program found is a line; all of them are asserted in it, too."""
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "talker"},
        "spec": {"containers": [{"name": "main", "image": "example.com/any"}]},
    }
    cluster.api.create(body, namespace)
    cluster.api.wait_for("pods", "talker", "Ready", namespace)
    cluster.set_log("talker", "hello\nworld\n", namespace, container="main")
    assert NODE
    ran = subprocess.run(
        [NODE, "program.js", str(kubeconfig), namespace],
        cwd=program,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.split() == ["created", "listed", "patched", "replaced", "conflict", "watched", "informed",
                                  "generic", "logs", "deleted", "refused"]  # fmt: skip
