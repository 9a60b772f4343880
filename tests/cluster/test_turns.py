"""Commands take turns, and at most one supervisor runs, none where none shall."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnace.cluster import turns
from pinnace.cluster.profile import Profile

pytestmark = pytest.mark.root

LIMIT = 60.0  # seconds

SUPERVISOR = """
import sys
from pathlib import Path
from pinnace.cluster import turns
from pinnace.cluster.profile import from_directory
print(turns.become_supervisor(from_directory(Path(sys.argv[1]))), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[Profile]:
    made = Profile("turns", tmp_path / "home")
    yield made
    made.remove()


class Process:
    """A process that tries to be the supervisor and lives until it is told to end."""

    def __init__(self, profile: Profile) -> None:
        command = [sys.executable, "-c", SUPERVISOR, str(profile.directory)]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._child.stdout is not None
        self.pid = self._child.pid
        self.runs = self._child.stdout.readline() == "True\n"

    def kill(self) -> None:
        self._child.kill()
        self._child.communicate()


def test_only_one_supervisor_runs_and_the_next_when_it_is_dead(profile: Profile) -> None:
    turns.allow_supervisor(profile)
    first, second = Process(profile), Process(profile)
    first.kill()
    third = Process(profile)
    second.kill()
    third.kill()

    assert (first.runs, second.runs, third.runs) == (True, False, True)


def test_a_withdrawn_permit_names_who_runs_and_lets_nobody_in(profile: Profile) -> None:
    turns.allow_supervisor(profile)
    running = Process(profile)
    permit = turns.WithdrawnPermit(profile)
    late = Process(profile)
    holder = permit.holder()
    running.kill()
    gone = permit.holder()
    permit.close()
    late.kill()

    assert (holder, late.runs, gone) == (running.pid, False, None)


def test_without_a_permit_nobody_runs(profile: Profile) -> None:
    late = Process(profile)
    permit = turns.WithdrawnPermit(profile)
    late.kill()

    assert (late.runs, permit.holder()) == (False, None)
    permit.close()


def test_commands_take_turns(profile: Profile) -> None:
    inside = 0
    most = 0

    def command() -> None:
        nonlocal inside, most
        for _ in range(50):
            with turns.turn(profile):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=command) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)

    assert most == 1
    assert not (profile.run_dir.parent / f"{profile.id}.lock").exists()


def test_new_profiles_of_different_homes_choose_their_networks_one_after_the_other(tmp_path: Path) -> None:
    first, second = Profile("turns", tmp_path / "one"), Profile("turns", tmp_path / "two")
    order: list[str] = []
    begun = threading.Event()

    def choose() -> None:
        begun.set()
        with turns.choosing_networks(second):
            order.append("second")

    with turns.choosing_networks(first):
        other = threading.Thread(target=choose)
        other.start()
        assert begun.wait(LIMIT)
        order.append("first")
    other.join(LIMIT)

    assert order == ["first", "second"]
