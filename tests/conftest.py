"""What every test may rely on: tests marked `root` are skipped, with the reason, where the machine cannot run them."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import HealthCheck, settings

# How fast a machine is that runs other things beside is no fault of what is tested.
settings.register_profile("pinnace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pinnace")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--container-runtime",
        default="engine",
        help="Which container runtime the clusters of tests/e2e have: engine (default), containerd",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = _why_not_root()
    if not reason:
        return
    for item in items:
        if item.get_closest_marker("root") or item.get_closest_marker("e2e"):
            item.add_marker(pytest.mark.skip(reason=reason))


def _why_not_root() -> str:
    if os.geteuid() != 0:
        return "needs root"
    if not shutil.which("nft", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
        return "needs nft"
    return ""
