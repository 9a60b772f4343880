"""One cluster for all clients: its controllers, its scheduler, and a node on which pods run in name."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnace.testing import Cluster


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=1) as made:
        yield made


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    name = cluster.create_namespace()
    yield name
    cluster.delete_namespace(name)


@pytest.fixture
def kubeconfig(cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubeconfig file whose namespace is the test's; $KUBECONFIG names it. Clients leave the keys of it in files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    file = cluster.kubeconfig_in(namespace)
    monkeypatch.setenv("KUBECONFIG", str(file))
    return file
