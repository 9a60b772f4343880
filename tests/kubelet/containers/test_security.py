"""Whether a container runs as root where it must not, and what it must not see."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.cri.api import Image
from pinnace.kubelet.containers.env import ConfigError
from pinnace.kubelet.containers.security import container_context, thermal_paths, verify_non_root
from tests.kubelet.pods import pod

UNCONFINED = {"seccompProfile": {"type": "Unconfined"}}
UNVERIFIED = 'cannot verify user is non-root (pod: "p_d(u)", container: c0)'


@pytest.mark.parametrize(
    ("context", "image", "message"),
    [
        ({}, Image(id="i"), ""),
        ({"runAsNonRoot": True, "runAsUser": 5}, Image(id="i"), ""),
        ({"runAsNonRoot": True}, Image(id="i", uid=5), ""),
        (
            {"runAsNonRoot": True, "runAsUser": 0},
            Image(id="i"),
            """container's runAsUser breaks non-root policy (pod: "p_d(u)", container: c0)""",
        ),
        (
            {"runAsNonRoot": True},
            Image(id="i", uid=0),
            'container has runAsNonRoot and image will run as root (pod: "p_d(u)", container: c0)',
        ),
        (
            {"runAsNonRoot": True},
            Image(id="i", username="www"),
            f"container has runAsNonRoot and image has non-numeric user (www), {UNVERIFIED}",
        ),
    ],
)
def test_non_root(context, image, message):
    wanted = pod(securityContext=context)
    if not message:
        verify_non_root(wanted, wanted["spec"]["containers"][0], image)
        return
    with pytest.raises(ConfigError) as error:
        verify_non_root(wanted, wanted["spec"]["containers"][0], image)
    assert str(error.value) == message


def test_how_hot_processors_are_is_masked(tmp_path: Path) -> None:
    for name in ("cpu0", "cpu11", "cpufreq"):
        (tmp_path / name / "thermal_throttle").mkdir(parents=True)
    (tmp_path / "cpu1").mkdir()
    assert thermal_paths(tmp_path) == tuple(f"{tmp_path}/{name}/thermal_throttle" for name in ("cpu0", "cpu11"))


@pytest.mark.parametrize(
    ("context", "by_default", "profile"),
    [
        ({}, False, "Unconfined"),
        ({}, True, "RuntimeDefault"),
        (UNCONFINED, True, "Unconfined"),
        ({"seccompProfile": {"type": "RuntimeDefault"}}, False, "RuntimeDefault"),
        ({"privileged": True}, True, None),
    ],
)
def test_who_asks_for_no_seccomp_profile_gets_the_runtimes_own_where_that_is_the_default(context, by_default, profile):
    wanted = pod()
    container = {"name": "c", "image": "i", "securityContext": context}
    found = container_context(wanted, container, None, Path("/root"), seccomp_default=by_default).seccomp
    assert (found.profile_type if found else None) == profile
