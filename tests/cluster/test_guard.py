"""The kernel's watchdog, where it must do without what most machines have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnace.cluster import guard
from pinnace.cluster.profile import Profile

pytestmark = pytest.mark.root

ARM = """
import sys
from pathlib import Path
from pinnace.cluster import guard
from pinnace.cluster.profile import Profile
profile = Profile("guarded", Path(sys.argv[1]))
profile.run_dir = Path(sys.argv[2])
print(guard.arm(profile))
guard.disarm(profile)
"""


@pytest.fixture(params=["exec", "noexec"])
def profile(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Profile]:
    """A profile whose files of this boot are on a file system of their own, as /run is."""
    made = Profile("guarded", tmp_path / "home")
    made.directory.mkdir(parents=True)
    made.run_dir = tmp_path / "run"
    made.run_dir.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", str(made.run_dir)], check=True)
    yield made
    guard.remove(made)
    subprocess.run(["umount", str(made.run_dir)], check=True)


def test_the_kernel_is_given_a_script_that_it_can_run(profile: Profile) -> None:
    arguments = [str(profile.home), str(profile.run_dir)]
    armed = subprocess.run([sys.executable, "-c", ARM, *arguments], check=True, capture_output=True, text=True)
    assert armed.stdout == "True\n"
    agent = Path((profile.run_dir / "guard" / "release_agent").read_text().strip())
    assert os.access(agent, os.X_OK)  # no for any file of a file system without
