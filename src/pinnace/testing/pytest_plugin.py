"""Fixtures of clusters for pytest, found by its entry point: nothing to import, nothing loaded until a test asks.

`pinnace` is a cluster of one test alone, `pinnace_session` one that all tests share; `pinnace_namespace` and
`pinnace_kubeconfig` are a test's place in the shared one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

_REMEMBERED = ("kubernetes.config", "kubernetes_asyncio.config")
"""Packages that read $KUBECONFIG once, when they are imported: often before a fixture sets it."""

if TYPE_CHECKING:
    from pinnace.testing.cluster import Cluster


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "pinnace(controllers=True, scheduler=True, nodes=0, version='', runtime_config='', feature_gates='', "
        "in_process=True): "
        "the cluster that the fixture `pinnace` starts for this test",
    )


@pytest.fixture(scope="session")
def pinnace_options() -> dict[str, Any]:
    """Arguments of `Cluster` for every fixture here; override it in conftest.py."""
    return {}


@pytest.fixture(scope="session")
def pinnace_session(pinnace_options: dict[str, Any]) -> Iterator[Cluster]:
    """The cluster that all tests of the session share."""
    from pinnace.testing.cluster import Cluster

    with Cluster(**pinnace_options) as cluster:
        yield cluster


@pytest.fixture
def pinnace(
    request: pytest.FixtureRequest, pinnace_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """A cluster of this test alone, as `@pytest.mark.pinnace(…)` describes it; $KUBECONFIG names its kubeconfig."""
    from pinnace.testing.cluster import Cluster

    marker = request.node.get_closest_marker("pinnace")
    with Cluster(**{**pinnace_options, **(marker.kwargs if marker else {})}) as cluster:
        _lead_to(cluster.kubeconfig, monkeypatch)
        yield cluster


@pytest.fixture
def pinnace_namespace(pinnace_session: Cluster) -> Iterator[str]:
    """The name of a namespace of this test in the shared cluster; deleted after it."""
    name = pinnace_session.create_namespace()
    yield name
    pinnace_session.delete_namespace(name)


@pytest.fixture
def pinnace_kubeconfig(
    pinnace_session: Cluster, pinnace_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A kubeconfig file for the shared cluster whose namespace is this test's; $KUBECONFIG names it."""
    file = pinnace_session.kubeconfig_in(pinnace_namespace)
    _lead_to(file, monkeypatch)
    yield file
    file.unlink()


def _lead_to(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this the kubeconfig of every client that is told no other."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    for package in _REMEMBERED:
        for module in (package, f"{package}.kube_config"):
            if module in sys.modules:
                monkeypatch.setattr(f"{module}.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
