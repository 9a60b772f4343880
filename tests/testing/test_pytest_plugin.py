"""The fixtures, as a project that installs Pinnace uses them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pinnace.testing import Cluster


@pytest.mark.pinnace(controllers=False, scheduler=False)
def test_a_cluster_of_its_own_is_as_the_marker_says(pinnace: Cluster) -> None:
    assert os.environ["KUBECONFIG"] == str(pinnace.kubeconfig)
    assert pinnace.api.list("serviceaccounts") == []


def test_a_namespace_of_the_shared_cluster(pinnace_session: Cluster, pinnace_namespace: str) -> None:
    [account] = pinnace_session.api.list("serviceaccounts", pinnace_namespace)
    assert account["metadata"]["name"] == "default"


def test_the_kubeconfig_leads_into_the_tests_namespace(pinnace_kubeconfig: Path, pinnace_namespace: str) -> None:
    assert os.environ["KUBECONFIG"] == str(pinnace_kubeconfig)
    document = json.loads(pinnace_kubeconfig.read_text())
    assert document["contexts"][0]["context"]["namespace"] == pinnace_namespace


def test_the_plugin_costs_other_projects_next_to_nothing() -> None:
    program = (
        "import pytest, sys; before = set(sys.modules); import pinnace.testing.pytest_plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert not {"asyncio", "ssl", "cryptography", "orjson", "pinnace.testing.cluster"} & loaded
