"""One cluster for all conformance tests: two nodes, every controller, and a namespace for each test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pinnace.testing import Api, Cluster
from tests.support.kubectl import kubectls

KUBECTL = next(iter(kubectls()[-1:]), "")


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pinnace.controllers.service_cidrs.GRACE", 0.0)  # no other API server must learn of it
        with Cluster(nodes=2) as made:
            yield made


@pytest.fixture
def api(cluster: Cluster) -> Api:
    return cluster.api


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    name = cluster.create_namespace()
    yield name
    cluster.delete_namespace(name)


@pytest.fixture
def kubectl(cluster: Cluster, namespace: str) -> Callable[..., str]:
    """Runs kubectl in the test's namespace; what it printed. An exit code not in `codes` fails the test."""
    if not KUBECTL:
        pytest.skip("needs kubectl")
    kubeconfig = cluster.kubeconfig_in(namespace)

    def run(*words: Any, stdin: str = "", codes: tuple[int, ...] = (0,)) -> str:
        ran = subprocess.run(
            [KUBECTL, *map(str, words)],
            input=stdin,
            env={"KUBECONFIG": str(kubeconfig), "HOME": str(cluster.directory), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode in codes, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    return run
