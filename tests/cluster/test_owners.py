"""Nobody acts on a cluster that lives in the namespaces of another."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnace.cluster import preflight
from pinnace.cluster.profile import Profile, ProfileConfig
from pinnace.cluster.reasons import HOME_PERMISSION, ClusterError

CONFIG = ProfileConfig(
    "own", "v1.37.0", "own", "192.168.49.1", "192.168.49.0/24", "10.244.0.0/16", "10.96.0.0/16", "x", 1
)


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[Profile]:
    made = Profile("own", tmp_path / "home")
    yield made
    made.remove()


@pytest.mark.parametrize(
    ("rootless", "caller", "refused"),
    [
        (False, 0, ""),
        (True, 0, "was started without root"),
        (True, os.geteuid(), "was started without root" if os.geteuid() == 0 else ""),
        (True, os.geteuid() + 1, "belongs to "),
        (False, os.geteuid() + 1, "belongs to "),
    ],
)
def test_a_cluster_is_its_owners(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, rootless: bool, caller: int, refused: str
) -> None:
    profile.save(dataclasses.replace(CONFIG, rootless=rootless))
    monkeypatch.setattr(os, "geteuid", lambda: caller)

    if not refused:
        preflight.require_owner(profile)
        return
    with pytest.raises(ClusterError, match=refused) as error:
        preflight.require_owner(profile)
    assert error.value.reason is HOME_PERMISSION


def test_what_is_not_there_is_nobodys(profile: Profile) -> None:
    preflight.require_owner(profile)


def test_containers_of_users_run_on_the_engine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1001)

    preflight.require_runtime("engine")
    with pytest.raises(ClusterError, match="Without root only the container runtime engine runs pods"):
        preflight.require_runtime("containerd")
