"""The operator against a real API server, with real controllers behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kopf.testing import KopfRunner

from pinnace.testing import ApiError, Cluster

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def pinnace_options() -> dict[str, Any]:
    return {"nodes": 1}


@pytest.fixture(autouse=True)
def operator(pinnace: Cluster) -> Iterator[None]:
    pinnace.install(HERE / "crd.yaml")
    with KopfRunner(["run", "--all-namespaces", str(HERE / "websites.py")], timeout=60) as runner:
        yield
    assert runner.exit_code == 0, runner.output
    assert runner.exception is None


def website(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Website", "metadata": {"name": name}, "spec": spec}


def is_up(obj: dict[str, Any]) -> bool:
    return obj.get("status", {}).get("phase") == "Up"


def test_a_website_comes_up_grows_and_goes(pinnace: Cluster) -> None:
    api = pinnace.api
    api.create(website("blog", image="example.com/blog:1"))
    api.wait_for("websites", "blog", is_up)
    assert len(api.list("pods", labels="website=blog")) == 2

    api.patch("websites", "blog", {"spec": {"replicas": 3, "image": "example.com/blog:2"}})
    api.wait_for("deployments", "blog", lambda obj: obj["status"].get("updatedReplicas") == 3)
    api.wait_for("websites", "blog", is_up)

    api.delete("websites", "blog")
    api.wait_gone("websites", "blog")
    api.wait_gone("deployments", "blog")  # by the garbage collector
    api.wait_until(lambda: not api.list("pods", labels="website=blog"))


def test_what_is_no_website_is_refused(pinnace: Cluster) -> None:
    with pytest.raises(ApiError, match=r"spec.replicas in body should be greater than or equal to 1"):
        pinnace.api.create(website("none", image="any", replicas=0))
    with pytest.raises(ApiError, match=r"spec.image: Required value"):
        pinnace.api.create(website("none"))
